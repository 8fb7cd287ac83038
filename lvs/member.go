package lvs

import (
	"fmt"
	"time"
)

// Phase is where a real server stands in a service.
type Phase uint8

// The phases. Unknown lasts from the start until the first verdict: what the
// kernel has then stays as it is, so that a restart touches no connection.
const (
	Unknown  Phase = iota
	Up             // serves
	Failed         // takes nothing new; keeps its connections until idle or too late
	Draining       // the same at an operator's wish
	Out            // not in the table
)

var phases = [...]string{Unknown: "unknown", Up: "up", Failed: "failed", Draining: "draining", Out: "out"}

// String is a word for people and metrics.
func (p Phase) String() string { return phases[p] }

// MarshalText is encoding.TextMarshaler's.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is encoding.TextUnmarshaler's.
func (p *Phase) UnmarshalText(text []byte) error {
	for i, w := range phases {
		if w == string(text) {
			*p = Phase(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no phase", text)
}

// Member is the state of one real server in one service. It is a value: next
// makes the following one.
type Member struct {
	Phase   Phase
	Since   time.Time // of the phase
	Why     string
	Healthy bool
	Well    time.Time    // since when it is healthy
	Ramp    time.Time    // when its slow start began; zero for none
	Falls   [8]time.Time // latest failures, newest first
}

// policy is how a service treats its servers.
type policy struct {
	remove    bool // a failed server goes at once
	quiesce   time.Duration
	slowStart time.Duration
	flaps     int // failures within window that make a server flap; 0 for never
	window    time.Duration
	hold      time.Duration
}

// observation is what is seen of one real server.
type observation struct {
	now     time.Time
	known   bool // healthy and why are a verdict
	healthy bool
	why     string
	drained bool
	until   time.Time // when draining ends at the latest
	present bool      // in the kernel's table
	idle    bool      // there with weight 0 and without connections
}

// next is the state after what was seen.
func (m Member) next(o observation, p policy) Member {
	first := m.Phase == Unknown
	if first && !o.known && !o.drained {
		m.Why = "not judged yet"
		return m
	}
	if o.known {
		m = m.judged(o)
	}
	switch {
	case o.drained:
		return m.drain(o)
	case !o.known:
		return m
	case !m.Healthy:
		return m.fail(o, p, first)
	}
	if hold := m.flapping(o.now, p); hold > 0 && !first {
		if m.Phase == Draining {
			m = m.enter(Out, o.now)
		}
		m = m.settle(o, p)
		m.Why = fmt.Sprintf("flapping: %d failures in %s, back when healthy for %s", p.flaps, p.window, p.hold)
		return m
	}
	if m.Phase != Up {
		m = m.enter(Up, o.now)
		if m.Ramp = o.now; first {
			m.Ramp = time.Time{} // nothing says that it has just started
		}
	}
	m.Why = o.why
	return m
}

// judged takes the verdict over.
func (m Member) judged(o observation) Member {
	switch {
	case o.healthy && !m.Healthy:
		m.Well = o.now
	case !o.healthy && m.Healthy:
		copy(m.Falls[1:], m.Falls[:len(m.Falls)-1])
		m.Falls[0] = o.now
	}
	m.Healthy = o.healthy
	return m
}

func (m Member) enter(p Phase, now time.Time) Member {
	m.Phase, m.Since = p, now
	return m
}

// drain waits until the server is idle or the time is over.
func (m Member) drain(o observation) Member {
	switch {
	case m.Phase == Out:
	case m.Phase != Draining && !o.present:
		m = m.enter(Out, o.now)
	case m.Phase != Draining:
		m = m.enter(Draining, o.now)
	case o.idle || !o.present || !o.now.Before(o.until):
		m = m.enter(Out, o.now)
	}
	m.Why = "drained by an operator"
	return m
}

func (m Member) fail(o observation, p policy, first bool) Member {
	switch {
	case m.Phase == Out:
	case p.remove || first && !o.present:
		m = m.enter(Out, o.now)
	case m.Phase != Failed:
		m = m.enter(Failed, o.now)
	default:
		m = m.settle(o, p)
	}
	m.Why = o.why
	return m
}

// settle takes a failed server out when it is idle or the time is over.
func (m Member) settle(o observation, p policy) Member {
	if m.Phase == Failed && (o.idle || !o.present || o.now.Sub(m.Since) >= p.quiesce) {
		return m.enter(Out, o.now)
	}
	return m
}

// flapping is for how much longer the server must be healthy, 0 when it does not
// flap. One that serves is not taken out for its past.
func (m Member) flapping(now time.Time, p policy) time.Duration {
	if p.flaps == 0 || m.Phase == Up {
		return 0
	}
	n := 0
	for _, t := range m.Falls {
		if !t.IsZero() && now.Sub(t) < p.window+p.hold {
			n++
		}
	}
	if n < p.flaps || m.Falls[0].Sub(m.Falls[p.flaps-1]) > p.window {
		return 0
	}
	return max(p.hold-now.Sub(m.Well), 0)
}

// slowSteps is in how many steps a weight rises: each is a write for each of the
// server's services.
const slowSteps = 10

// weight is the server's weight now; present is false when it is not in the
// table. An Unknown one is as it was found.
func (m Member) weight(full uint32, now time.Time, p policy) (weight uint32, present bool) {
	switch m.Phase {
	case Up:
		gone := now.Sub(m.Ramp)
		if m.Ramp.IsZero() || gone >= p.slowStart {
			return full, true
		}
		step := 1 + uint64(gone)*(slowSteps-1)/uint64(p.slowStart)
		return uint32(max(uint64(full)*step/slowSteps, 1)), true
	case Failed, Draining:
		return 0, true
	}
	return 0, false
}

// quorate says whether a service that was quorate, or not, is so with as many
// healthy servers.
func quorate(was bool, healthy, need, hysteresis int) bool {
	if was {
		return healthy >= need-hysteresis
	}
	return healthy >= need+hysteresis
}
