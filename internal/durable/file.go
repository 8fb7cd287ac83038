// Package durable keeps small files that must survive a crash or a loss of
// power. It knows nothing of what is in them.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace makes text the content of the file at path, for its owner only. The
// directory must exist. A reader, or a restart after a loss of power at any
// moment, finds the old content or the new one whole; after Replace has returned
// nil, the new one (fsync(2), rename(2)).
func Replace(path string, text []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // in vain after the rename
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
