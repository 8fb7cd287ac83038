package backend

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A replica that swings around max_lag every second for a minute changes its
// state fewer than five times, whatever the size of the swing and whatever the
// max_lag; and it is used again when the swinging ends.
func TestLagThatSwings(t *testing.T) {
	for _, swing := range []struct{ low, high time.Duration }{
		{9 * time.Second, 11 * time.Second}, {0, 20 * time.Second}, {4900 * time.Millisecond, 10100 * time.Millisecond}, {0, time.Hour},
	} {
		h := lagHold{ret: 50, settle: 5 * time.Second}
		const bound = 10 * time.Second
		changes, out, now := 0, false, time.Duration(0)
		sample := func(lag time.Duration) {
			now += 200 * time.Millisecond
			if now := h.take(now, lag) > bound; now != out {
				out = now
				changes++
			}
		}
		for second := range 60 {
			lag := swing.low
			if second%2 == 1 {
				lag = swing.high
			}
			for range 5 {
				sample(lag)
			}
		}
		if !out || changes >= 5 {
			t.Errorf("%v: %d changes in a minute, out %v", swing, changes, out)
		}
		for range 40 {
			sample(0)
		}
		if out || changes >= 5 {
			t.Errorf("%v: %d changes in all, out %v at the end", swing, changes, out)
		}
		t.Logf("between %v and %v: %d changes", swing.low, swing.high, changes)
	}
}

func TestLagHold(t *testing.T) {
	h := lagHold{ret: 50, settle: 5 * time.Second}
	for _, tt := range []struct{ at, lag, want time.Duration }{ // seconds
		{0, 1, 1}, {1, 12, 12}, // at once
		{2, 7, 12}, {9, 7, 12}, // not below half
		{10, 5, 12}, {15, 5, 10}, // below half for settle
		{16, 0, 10}, {21, 0, 0},
	} {
		if got := h.take(tt.at*time.Second, tt.lag*time.Second); got != tt.want*time.Second {
			t.Errorf("at %d s, lag %d s: %v, want %d s", tt.at, tt.lag, got, tt.want)
		}
	}
}

// One held value is, for every max_lag at once, what a switch with two marks of
// its own would say.
func TestLagHoldIsEveryBoundsSwitch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ret := rapid.IntRange(1, 100).Draw(t, "return")
		h := lagHold{ret: ret} // settles at once
		bound := time.Duration(rapid.IntRange(1, 1000).Draw(t, "bound")) * 100
		out := false
		for i := range 100 {
			lag := time.Duration(rapid.IntRange(0, 2000).Draw(t, "lag")) * 100
			switch {
			case lag > bound:
				out = true
			case lag*100/time.Duration(ret) <= bound:
				out = false
			}
			held := h.take(time.Duration(i)*time.Second, lag)
			if i > 0 && held > bound != out || held < lag {
				t.Fatalf("lag %v, held %v, bound %v: out %v", lag, held, bound, out)
			}
			if i == 0 {
				out = held > bound
			}
		}
	})
}

func TestBeats(t *testing.T) {
	var b beats
	if _, known := b.lag(0, 5, true); known {
		t.Error("known before any heartbeat was seen")
	}
	at := parseBeat("2026-11-25T04:30:37.001240")
	b.note(time.Second, at)
	for _, tt := range []struct {
		now, lag time.Duration
		beat     int64
		writing  bool
		known    bool
	}{
		{time.Second, 0, at, true, true},
		{time.Second, 0, at + 100, true, true}, // it has one that is newer than what was known
		{2 * time.Second, 300 * time.Millisecond, at - 300000, true, true},
		{time.Minute, 0, at - 300000, true, false},                      // the primary writes none any more
		{time.Minute, 300 * time.Millisecond, at - 300000, false, true}, // there is no primary
		{time.Second, 0, 0, true, false},                                // the table is empty there
	} {
		if lag, known := b.lag(tt.now, tt.beat, tt.writing); lag != tt.lag || known != tt.known {
			t.Errorf("%+v: %v %v", tt, lag, known)
		}
	}
	b.note(2*time.Second, at-1)
	if b.newest != at || b.seen != time.Second {
		t.Error("an older heartbeat was taken")
	}
}

func FuzzParseBeat(f *testing.F) {
	for _, text := range []string{"2026-11-25T04:30:37.001240", "2026-11-25 04:30:37", "", "0000-00-00T00:00:00", "9999-12-31T23:59:59.999999"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n := parseBeat(text); n < 0 {
			t.Fatalf("%q is %d", text, n)
		}
	})
}
