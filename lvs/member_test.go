package lvs

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var epoch0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// A script is one observation a word, each at its second: up, down, or ? for no
// verdict; "drain" and "undrain" change that; p or - tells whether the kernel has
// it, i whether it is idle there.
func TestMember(t *testing.T) {
	quiesce := policy{quiesce: 10 * time.Second}
	damped := policy{quiesce: 100 * time.Second, flaps: 2, window: 20 * time.Second, hold: 5 * time.Second}
	tests := []struct {
		name   string
		policy policy
		script string // SECOND:WHAT ...
		want   string // phase after each
	}{
		{"first verdict good", quiesce, "0:?- 1:up-", "unknown up"},
		{"first verdict bad, absent", quiesce, "0:?- 1:down-", "unknown out"},
		{"first verdict bad, present: its connections may end", quiesce, "0:?p 1:downp", "unknown failed"},
		{"fails, and is removed when idle", quiesce, "0:up- 1:downp 2:downp 3:downi", "up failed failed out"},
		{"fails, and is removed at the deadline", quiesce, "0:up- 1:downp 10:downp 11:downp", "up failed failed out"},
		{"fails and returns before", quiesce, "0:up- 1:downp 2:upp", "up failed up"},
		{"fails and somebody removed it by hand", quiesce, "0:up- 1:downp 2:down-", "up failed out"},
		{"removed at once", policy{remove: true}, "0:up- 1:downp 2:up-", "up out up"},
		{"drained until idle", quiesce, "0:up- 1:drain-upp 2:drain-upp 3:drain-upi 4:drain-up- 5:up-", "up draining draining out out up"},
		{"drained until the deadline", quiesce, "0:up- 1:drain-upp 59:drain-upp 60:drain-upp", "up draining draining out"},
		{"drained before it was ever judged", quiesce, "0:drain-?p 1:drain-?i", "draining out"},
		{"drained while absent", quiesce, "0:drain-?-", "out"},
		{"drained while failed", quiesce, "0:up- 1:downp 2:drain-downp", "up failed draining"},
		{"undrained while down", quiesce, "0:up- 1:drain-upp 2:drain-downp 3:downp", "up draining draining failed"},
		{"flapping stays away until it is well for a while", damped, "0:up- 1:downp 2:upp 3:downp 4:upp 8:upp 9:upp", "up failed up failed failed failed up"},
		{"failures far apart are no flapping", damped, "0:up- 1:downp 2:upp 30:downp 31:upp", "up failed up failed up"},
		{"no damping", quiesce, "0:up- 1:downp 2:upp 3:downp 4:upp", "up failed up failed up"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m Member
			var got []string
			for _, step := range strings.Fields(tt.script) {
				var second int
				at, what, _ := strings.Cut(step, ":")
				_, _ = fmt.Sscan(at, &second)
				o := observation{now: epoch0.Add(time.Duration(second) * time.Second), until: epoch0.Add(time.Minute)}
				what, o.drained = strings.CutPrefix(what, "drain-")
				o.present, o.idle = !strings.HasSuffix(what, "-"), strings.HasSuffix(what, "i")
				o.healthy, o.known = strings.HasPrefix(what, "up"), !strings.HasPrefix(what, "?")
				m = m.next(o, tt.policy)
				got = append(got, m.Phase.String())
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got  %s\nwant %s (%s)", strings.Join(got, " "), tt.want, m.Why)
			}
		})
	}
}

func TestSlowStart(t *testing.T) {
	p := policy{slowStart: 30 * time.Second}
	up := func(m Member, second int) Member {
		return m.next(observation{now: epoch0.Add(time.Duration(second) * time.Second), known: true, healthy: true}, p)
	}
	weight := func(m Member, full uint32, second int) uint32 {
		w, _ := m.weight(full, epoch0.Add(time.Duration(second)*time.Second), p)
		return w
	}
	m := up(Member{}, 0)
	if w := weight(m, 100, 0); w != 100 {
		t.Errorf("a server that was well from the start has weight %d", w)
	}
	m = m.next(observation{now: epoch0, known: true}, policy{remove: true})
	m = up(m, 100)
	for second, want := range map[int]uint32{100: 10, 103: 10, 104: 20, 115: 50, 129: 90, 130: 100, 1000: 100} {
		if w := weight(m, 100, second); w != want {
			t.Errorf("second %d: weight %d, want %d", second, w, want)
		}
	}
	if w := weight(m, 5, 100); w != 1 {
		t.Errorf("a small weight begins at %d", w)
	}
}

func TestQuorumHasHysteresis(t *testing.T) {
	var got []string
	q := true
	for _, healthy := range []int{5, 3, 2, 1, 2, 3, 4, 3, 2, 1} { // quorum 3, hysteresis 1: lost below 2, regained at 4
		q = quorate(q, healthy, 3, 1)
		got = append(got, fmt.Sprintf("%d:%t", healthy, q))
	}
	if s := strings.Join(got, " "); s != "5:true 3:true 2:true 1:false 2:false 3:false 4:true 3:true 2:true 1:false" {
		t.Error(s)
	}
}
