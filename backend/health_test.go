package backend

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"signalbox/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRiseAndFall(t *testing.T) {
	good, bad, refused := &sample{ok: true}, &sample{reason: "slow"}, &sample{reason: "refused", refused: true}
	for _, tt := range []struct {
		name    string
		samples []*sample
		want    string // u or d after each
	}{
		{"the first settles it", []*sample{good}, "u"},
		{"the first settles it down", []*sample{bad, good, good}, "ddu"},
		{"one bad sample is forgiven", []*sample{good, bad, bad, good, bad, bad}, "uuuuuu"},
		{"three in a row are not", []*sample{good, bad, bad, bad}, "uuud"},
		{"refused means down at once", []*sample{good, refused, good, good}, "uddu"},
	} {
		h := &health{rise: 2, fall: 3}
		got := ""
		for i, s := range tt.samples {
			h.take(s, time.Duration(i)*time.Second, false)
			got += map[bool]string{true: "u", false: "d"}[h.up]
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if h.reason == "" {
			t.Errorf("%s: no reason", tt.name)
		}
	}
}

// A server that falls again and again is trusted later and later.
func TestFlappingServerIsTrustedLater(t *testing.T) {
	h := &health{rise: 2, fall: 1, damped: true}
	changes, now := 0, time.Duration(0)
	step := func(ok bool) {
		was := h.up
		now += time.Second
		h.take(&sample{ok: ok, reason: "bad"}, now, false)
		if h.up != was {
			changes++
		}
	}
	step(true)
	for range 60 { // three seconds up, one down
		step(false)
		step(true)
		step(true)
		step(true)
	}
	if changes > 45 { // 121 without damping
		t.Errorf("%d changes in four minutes", changes)
	}
	for range 2 << maxFlaps {
		step(true)
	}
	if !h.up {
		t.Error("it is not trusted again after it was good for long")
	}
}

// One bad probe is enough when live traffic fails too.
func TestLiveTrafficProvesAFault(t *testing.T) {
	h := &health{rise: 2, fall: 3}
	h.take(&sample{ok: true}, 1, false)
	h.take(&sample{mute: true, proven: true, reason: "no answer in time"}, 2, false)
	if h.up {
		t.Error("still up")
	}
}

// When no server answers, none is taken out; one that still fails when another
// answers again is.
func TestOwnFaultSparesTheServers(t *testing.T) {
	all := []*health{{rise: 2, fall: 3}, {rise: 2, fall: 3}, {rise: 2, fall: 3}}
	take := func(i int, s *sample) {
		all[i].mute = s.mute
		all[i].take(s, time.Second, ownFault(all))
	}
	good, mute := &sample{ok: true}, &sample{mute: true, reason: "no answer in time"}
	take(0, good)
	take(1, good)
	take(2, &sample{refused: true, reason: "refused"}) // a standby: down from the start
	for range 10 {
		take(0, mute)
		take(1, mute)
	}
	if !all[0].up || !all[1].up || !all[0].spared || !all[1].spared {
		t.Fatalf("%+v %+v: taken out for what is this host's fault", all[0], all[1])
	}
	take(0, good)
	take(1, mute)
	if !all[0].up || all[0].spared || all[1].up {
		t.Fatalf("%+v %+v: want the first up and the second down", all[0], all[1])
	}
	one := []*health{{up: true, mute: true}}
	if ownFault(one) {
		t.Error("with one server nothing can be told")
	}
}

// A replica that has lost its source keeps its lag while nobody writes, so that
// reads go on through a failover, and ages as soon as somebody does.
func TestLagWithoutASource(t *testing.T) {
	h, at := &lagFollower{}, time.Now()
	follow := func(known bool, lag time.Duration, after time.Duration, writing bool) Status {
		st := Status{Lag: lag, LagKnown: known, LastProbe: at.Add(after)}
		h.follow(&st, writing)
		return st
	}
	if st := follow(false, 0, 0, true); st.LagKnown {
		t.Fatal("known before it ever was")
	}
	follow(true, time.Second, 1*time.Second, true)
	for _, after := range []time.Duration{2, 30, 60} {
		if st := follow(false, 0, after*time.Second, false); !st.LagKnown || st.Lag != time.Second {
			t.Fatalf("after %d s without a writer: %+v", after, st)
		}
	}
	if st := follow(false, 0, 65*time.Second, true); st.Lag != 6*time.Second {
		t.Fatalf("5 s after a writer came: %v, want 6s", st.Lag)
	}
	if st := follow(true, 0, 70*time.Second, true); st.Lag != 0 {
		t.Fatalf("after it follows again: %v", st.Lag)
	}
}

func TestOffer(t *testing.T) {
	fit := func(edit func(*Status)) *Status {
		st := &Status{Server: &Server{Index: 4, Role: config.RoleReplica}, Up: true, LagKnown: true, LagHeld: time.Second, Position: position(t, "0-1-7")}
		edit(st)
		return st
	}
	need := Need{Position: position(t, "0-1-7"), MaxLag: time.Second}
	for _, tt := range []struct {
		name string
		edit func(*Status)
		need func(*Need)
		want Refusal
	}{
		{"fit", func(*Status) {}, func(*Need) {}, Serves},
		{"primary", func(st *Status) { st.Server.Role = config.RoleDRBD }, func(*Need) {}, NotReplica},
		{"excluded", func(*Status) {}, func(n *Need) { n.Exclude = 1 << 4 }, Excluded},
		{"draining", func(st *Status) { st.Mode = Draining }, func(*Need) {}, Drained},
		{"disabled", func(st *Status) { st.Mode = Disabled }, func(*Need) {}, Drained},
		{"down", func(st *Status) { st.Up = false }, func(*Need) {}, Down},
		{"lag unknown", func(st *Status) { st.LagKnown = false }, func(*Need) {}, LagUnknown},
		{"lagging", func(st *Status) { st.LagHeld++ }, func(*Need) {}, Lagging},
		{"no bound", func(st *Status) { st.LagHeld++ }, func(n *Need) { n.MaxLag = 0 }, Serves},
		{"behind", func(*Status) {}, func(n *Need) { n.Position = position(t, "0-1-8") }, Behind},
	} {
		n := need
		tt.need(&n)
		st := fit(tt.edit)
		if got := st.Offer(&n); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if a := testing.AllocsPerRun(100, func() { st.Offer(&n) }); a != 0 {
			t.Errorf("%s: %v allocations", tt.name, a)
		}
	}
}

func TestWarmth(t *testing.T) {
	st := &Status{Since: 10 * time.Second}
	for after, want := range map[time.Duration]int{0: 1, 5 * time.Second: 127, 10 * time.Second: 0, time.Hour: 0} {
		if got := st.Warmth(st.Since+after, 10*time.Second); got != want {
			t.Errorf("after %v: %d, want %d", after, got, want)
		}
	}
	if (&Status{}).Warmth(0, 10*time.Second) != 0 {
		t.Error("a server that was there from the start has its whole share")
	}
	if st.Warmth(st.Since, 0) != 0 {
		t.Error("without a slow start there is none")
	}
}
