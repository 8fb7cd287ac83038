package drbdwatch

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Whatever the clock does between two starts, and however many writers there
// were in one, no epoch repeats.
func TestFirstEpochComesAfterEveryStartBefore(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 25, 8, 0, 0, 999, time.UTC)
	last := uint64(0)
	for i, jump := range []time.Duration{0, 0, time.Nanosecond, -time.Hour, -20 * 365 * 24 * time.Hour, 21 * 365 * 24 * time.Hour, 0} {
		now = now.Add(jump)
		first, err := firstEpoch(dir, now)
		if err != nil {
			t.Fatal(err)
		}
		if first <= last {
			t.Fatalf("start %d at %s: epochs after %d, the start before had %d", i, now, first, last)
		}
		last = first + 1<<epochBits - 1 // as many writers as fit
	}
	without, err := firstEpoch("", now.Add(time.Minute))
	if err != nil || without <= last {
		t.Fatalf("without state_dir, a minute later: %d after %d, %v", without, last, err)
	}
	if later, _ := firstEpoch("", now.Add(time.Minute+2*time.Microsecond)); later <= without {
		t.Fatalf("two microseconds later: %d after %d", later, without)
	}
}

// A file that cannot be read or written is told, and epochs follow the clock.
func TestFirstEpochWithoutAGoodFile(t *testing.T) {
	now := time.Now()
	for name, text := range map[string]string{"garbage": "x", "empty": "", "too large": "99999999999999999999", "negative": "-1"} {
		dir := t.TempDir()
		file := filepath.Join(dir, startsFile)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		first, err := firstEpoch(dir, now)
		if err == nil || first>>epochBits < uint64(now.Unix()) {
			t.Errorf("%s: %d, %v", name, first, err)
		}
		if second, err := firstEpoch(dir, now); err != nil || second <= first {
			t.Errorf("%s, the start after it: %d after %d, %v", name, second, first, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if first, err := firstEpoch(dir, now); err == nil || first>>epochBits != uint64(now.Unix()) {
		t.Errorf("state_dir is a file: %d, %v", first, err)
	}
}
