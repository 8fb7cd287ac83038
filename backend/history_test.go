package backend

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestHistory(t *testing.T) {
	const second = time.Second
	var h history
	at := func(text string) *Position { p := position(t, text); return &p }
	if lag := h.behind(at("0-1-1"), second); lag != 0 {
		t.Errorf("without a history: %v", lag)
	}
	h.note(1, at("0-1-10"), 10*second)
	h.note(1, at("0-1-10"), 11*second)
	h.note(1, at("0-1-12"), 12*second)
	h.note(1, at("0-1-15,7-1-1"), 15*second)
	for _, tt := range []struct {
		has   string
		asked time.Duration
		want  time.Duration
	}{
		{"0-1-15", 20, 0},
		{"0-1-14", 15, 0}, // the writer was there only just now
		{"0-1-12", 15, 0},
		{"0-1-11", 15, 3}, // it lacks what was there at 12
		{"0-1-9", 15, 5},
		{"0-1-9", 14, 4}, // asked before the last mark
		{"0-1-9", 99, 5}, // the writer has not been seen since 15
		{"0-1-9", 5, 0},  // asked before all that
		{"0-1-15,7-1-0", 15, 0},
		{"3-1-1", 99, 0}, // of another domain: nothing is known
		{"", 99, 0},
		{"0-1-99", 99, 0},
	} {
		if got := h.behind(at(tt.has), tt.asked*second); got != tt.want*second {
			t.Errorf("%q at %d: %v, want %d s", tt.has, tt.asked, got, tt.want)
		}
	}
	h.note(2, at("0-1-13"), 20*second) // another writer, which lacks what the one before had
	if lag := h.behind(at("0-1-13"), 30*second); lag != 0 {
		t.Errorf("of another epoch: %v", lag)
	}
	h.note(2, at("0-1-1"), 31*second) // RESET MASTER
	h.note(2, at("0-1-2"), 32*second)
	if lag := h.behind(at("0-1-2"), 40*second); lag != 0 {
		t.Errorf("of a log begun anew: %v", lag)
	}
}

// A replica with a hole far back, which it never had, is not behind for that.
func TestHistoryOfMySQL(t *testing.T) {
	var h history
	at := func(format string, args ...any) *Position { p := position(t, fmt.Sprintf(format, args...)); return &p }
	h.note(1, at("%s:1-100", uuid), time.Second)
	h.note(1, at("%s:1-200", uuid), 2*time.Second)
	for has, want := range map[string]time.Duration{":50-200": 0, ":1-40:60-201": 0, ":1-150": time.Second, ":1-99": 2 * time.Second} {
		h.seen = 3 * time.Second
		if got := h.behind(at("%s%s", uuid, has), time.Minute); got != want {
			t.Errorf("%s: %v, want %v", has, got, want)
		}
	}
}

// What the history says is never more than the truth, however long it is, and
// not much less: by one probe's interval for what is recent.
func TestHistoryIsALowerBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h history
		steps := rapid.IntRange(1, 3*mostMarks).Draw(t, "steps")
		// At time i the writer has committed number i; every probe sees that.
		for i := 1; i <= steps; i++ {
			h.note(1, &Position{domains: []domain{{id: 0, seq: uint64(i), server: 1}}}, time.Duration(i)*time.Second)
		}
		if len(h.marks) > mostMarks {
			t.Fatalf("%d marks", len(h.marks))
		}
		has := rapid.IntRange(0, steps).Draw(t, "has")
		truth := time.Duration(max(0, steps-(has+1))) * time.Second // since has+1 was committed
		got := h.behind(&Position{domains: []domain{{id: 0, seq: uint64(has), server: 1}}}, time.Duration(steps)*time.Second)
		if got > truth || steps-has < mostMarks/4 && got < truth {
			t.Fatalf("%v after %d steps, having %d: truth %v", got, steps, has, truth)
		}
	})
}
