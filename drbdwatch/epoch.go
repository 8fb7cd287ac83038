package drbdwatch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"signalbox/internal/durable"
)

// epochBits are the bits of an epoch that count the writers since the start; those
// above are the start. A start is a second of the Unix clock, so that a program
// that keeps no file has epochs that rise as well, while the clock does.
const epochBits = 20

// startsFile is the file in state_dir that holds the last start.
const startsFile = "start"

// firstEpoch is what the epochs of this start come after. With a directory they
// come after those of every start before, whatever the clock says. An error means
// that this is not sure; the epoch is good otherwise.
func firstEpoch(dir string, now time.Time) (uint64, error) {
	byClock := uint64(now.UnixNano()/1e9)<<epochBits | uint64(now.Nanosecond())<<epochBits/1e9
	if dir == "" {
		return byClock, nil
	}
	file := filepath.Join(dir, startsFile)
	start := uint64(now.Unix())
	text, err := os.ReadFile(file)
	if err == nil {
		var last uint64
		if last, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64-epochBits); err == nil {
			start = max(start, last+1)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	keep := os.MkdirAll(dir, 0o750)
	if keep == nil {
		keep = durable.Replace(file, fmt.Appendln(nil, start))
	}
	if err = errors.Join(err, keep); err != nil {
		return max(byClock, start<<epochBits), fmt.Errorf("keep the number of this start in %s, so that no epoch ever repeats, even when the clock goes back: %w", file, err)
	}
	return start << epochBits, nil
}
