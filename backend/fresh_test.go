package backend

import (
	"testing"
	"time"

	"signalbox/config"
)

// replicaAt is a replica that was probed from 10 s to 11 s.
func replicaAt(t *testing.T, text string) *Status {
	return &Status{Server: &Server{Role: config.RoleReplica}, Up: true, Replicates: true, LagKnown: true, MariaDB: true, Version: "10.11",
		Position: position(t, text), asked: 10 * time.Second, answered: time.Second}
}

func TestOfferByPosition(t *testing.T) {
	const second = time.Second
	for _, tt := range []struct {
		name, has, wants string
		since, wait      time.Duration
		change           func(*Status)
		want             Refusal
	}{
		{name: "nothing is asked for", has: "0-1-5", want: Serves},
		{name: "it has it", has: "0-1-5", wants: "0-1-5", want: Serves},
		{name: "it has not", has: "0-1-4", wants: "0-1-5", want: Behind},
		{name: "it has not, and may be waited for", has: "0-1-4", wants: "0-1-5", wait: second / 10, want: Serves},
		{name: "far behind", has: "0-1-4", wants: "0-1-5", wait: second / 10, want: Behind, change: func(st *Status) { st.Lag = 2 * second }},
		{name: "its lag is within the wait", has: "0-1-4", wants: "0-1-5", wait: 3 * second, want: Serves, change: func(st *Status) { st.Lag = 2 * second }},
		{name: "it does not replicate", has: "0-1-4", wants: "0-1-5", wait: second, want: Behind, change: func(st *Status) { st.Replicates = false }},
		{name: "MySQL 5.7 cannot wait shortly", has: uuid + ":4", wants: uuid + ":5", wait: second, want: Behind, change: func(st *Status) { st.MariaDB, st.Version = false, "5.7.44" }},
		{name: "MySQL 8 can", has: uuid + ":4", wants: uuid + ":5", wait: second, want: Serves, change: func(st *Status) { st.MariaDB, st.Version = false, "8.0.40" }},
		{name: "another kind of server", has: uuid + ":4", wants: "0-1-5", wait: second, want: Behind},
		{name: "a wait has shown it", has: "0-1-4", wants: "0-1-5", want: Serves, change: func(st *Status) {
			p := st.Position.Merge(Position{domains: []domain{{0, 6, 1}}})
			st.Server.Fresh.Learn(&p, 12*second)
		}},
		{name: "a wait has shown less", has: "0-1-3", wants: "0-1-5", want: Behind, change: func(st *Status) {
			p := st.Position.Merge(Position{domains: []domain{{0, 4, 1}}})
			st.Server.Fresh.Learn(&p, 12*second)
		}},
		{name: "a connection failed since", has: "0-1-5", wants: "0-1-5", want: Behind, change: func(st *Status) { st.Server.Fresh.doubt(12 * second) }},
		{name: "it was probed since a connection failed", has: "0-1-5", wants: "0-1-5", want: Serves, change: func(st *Status) { st.Server.Fresh.doubt(9 * second) }},
		{name: "known after the write began", has: "0-1-5", wants: "0-1-5", since: 11 * second, want: Serves},
		{name: "known before the write began: another history", has: "0-1-5", wants: "0-1-5", since: 12 * second, want: Behind},
		{name: "the same, and it is not waited for", has: "0-1-5", wants: "0-1-5", since: 12 * second, wait: second, want: Behind},
		{name: "another history, nothing asked for", has: "0-1-5", want: Serves, change: func(st *Status) { st.Server.Fresh.parted.Store(true) }},
	} {
		st := replicaAt(t, tt.has)
		if tt.change != nil {
			tt.change(st)
		}
		need := &Need{Position: position(t, tt.wants), Since: tt.since, Wait: tt.wait}
		if got := st.Offer(need); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestPartedIsRemembered(t *testing.T) {
	st := replicaAt(t, "0-1-100")
	if st.Offer(&Need{Position: position(t, "0-1-98"), Since: 12 * time.Second}) != Behind || st.Offer(&Need{Position: position(t, "0-1-50")}) != Behind {
		t.Error("it is believed although it had a write before that began")
	}
	st.Server.Fresh.forget()
	if st.Offer(&Need{Position: position(t, "0-1-50")}) != Serves {
		t.Error("it is not believed after it was away")
	}
}

func TestLearntIsForgottenWithTheNextProbe(t *testing.T) {
	var f Fresh
	p := position(t, "0-1-9")
	f.Learn(&p, 5)
	f.settle(4)
	if f.learnt.Load() == nil {
		t.Error("a probe from before has dropped it")
	}
	f.settle(6)
	if f.learnt.Load() != nil {
		t.Error("it outlives a probe that knows better")
	}
}

// After a wait in vain one read a second tries again, and the first success
// ends that.
func TestTurns(t *testing.T) {
	var f Fresh
	for range 2 {
		if !f.Turn(0) {
			t.Error("nobody may wait although nobody waited in vain")
		}
	}
	f.Late(0)
	turns := 0
	for now := time.Duration(0); now < 10*time.Second; now += 10 * time.Millisecond {
		if f.Turn(now) {
			turns++
		}
	}
	if turns != 9 {
		t.Errorf("%d turns in ten seconds", turns)
	}
	p := position(t, "0-1-9")
	f.Learn(&p, 1)
	for range 2 {
		if !f.Turn(0) {
			t.Error("nobody may wait although a wait succeeded")
		}
	}
}

func TestOfferAllocatesNothing(t *testing.T) {
	st := replicaAt(t, "0-1-4")
	p := position(t, "0-1-9")
	st.Server.Fresh.Learn(&p, 12*time.Second)
	need := &Need{Position: position(t, "0-1-8")}
	if n := testing.AllocsPerRun(100, func() { st.Offer(need) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
