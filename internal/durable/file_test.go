package durable

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Whoever reads while the file is being replaced finds one content whole.
func TestReadersSeeOldOrNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	contents := map[string]bool{string(make([]byte, 100_000)): true, "short": true}
	if err := Replace(path, []byte("short")); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for range 20 {
			for c := range contents {
				if err := Replace(path, []byte(c)); err != nil {
					t.Error(err)
				}
			}
		}
	})
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	for reads := 0; ; reads++ {
		text, err := os.ReadFile(path)
		if err != nil || !contents[string(text)] {
			t.Fatalf("read %d: %d bytes, %v", reads, len(text), err)
		}
		select {
		case <-done:
			files, err := os.ReadDir(filepath.Dir(path))
			if err != nil || len(files) != 1 {
				t.Fatalf("%d files are left, %v", len(files), err)
			}
			return
		default:
		}
	}
}

func TestAnErrorKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.Mkdir(path, 0o750); err != nil { // a rename over it fails
		t.Fatal(err)
	}
	if err := Replace(path, []byte("x")); err == nil {
		t.Fatal("no error")
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || !files[0].IsDir() {
		t.Fatalf("%v, %v", files, err)
	}
}
