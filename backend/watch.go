package backend

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"signalbox/config"
	"signalbox/drbdwatch"
)

// hurry is how often a candidate for the writer is probed while nobody may take
// writes, so that the database's start ends the pause.
const hurry = 50 * time.Millisecond

// probe samples one server until ctx ends.
func (c *Cluster) probe(ctx context.Context, s *Server) {
	p := newProbe(s, c.cfg.Health)
	defer p.asker.Close()
	t := &taker{c: c, s: s, hold: lagHold{ret: c.cfg.Reads.LagReturn, settle: c.cfg.Reads.LagSettle}}
	for {
		sample := p.run(ctx)
		if ctx.Err() != nil {
			return
		}
		t.take(&sample)
		if !c.pause(ctx, s) {
			return
		}
	}
}

// pause waits for the time of the next probe, jittered so that probes of several
// proxies do not come together, or until somebody wants one. It returns false
// when ctx has ended.
func (c *Cluster) pause(ctx context.Context, s *Server) bool {
	every := c.cfg.Health.Interval
	if s.Role != config.RoleReplica && c.gate.Current().Server == nil {
		every = min(every, hurry)
	}
	every -= time.Duration(rand.Int64N(int64(every)/10 + 1))
	least := time.NewTimer(min(every, hurry))
	defer least.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-least.C:
	}
	rest := time.NewTimer(every - min(every, hurry))
	defer rest.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-s.kick:
	case <-rest.C:
	}
	return true
}

// taker makes one server's samples its status.
type taker struct {
	c                *Cluster
	s                *Server
	follower         lagFollower
	hold             lagHold
	failed, answered uint64 // of the server's Load, at the last sample
}

// take makes a sample the server's status, and tells the watch.
func (t *taker) take(sample *sample) {
	c, s := t.c, t.s
	t.traffic(sample)
	if !sample.ok {
		c.failures.WithLabelValues(s.Name).Inc()
	}
	c.mu.Lock()
	st, strict := t.settle(sample)
	c.mu.Unlock()
	if s.Role != config.RoleReplica {
		p := drbdwatch.Probe{Reachable: strict, Reason: st.Reason}
		if strict {
			p.ReadOnly, p.Hostname, p.ServerID, p.UUID = st.ReadOnly, st.Hostname, uint64(st.ServerID), st.UUID
		}
		c.watch.ReportProbe(s.Name, p)
	}
}

// traffic adds to a sample what the statements of clients have met since the
// one before.
func (t *taker) traffic(sample *sample) {
	load, now := &t.s.Load, Now()
	failed, answered := load.failed.Load(), load.answered.Load()
	failures, good := failed-t.failed, answered-t.answered
	t.failed, t.answered = failed, answered
	mute := load.Mute(now) > t.c.cfg.Health.Stall
	switch {
	case t.s.Role != config.RoleReplica: // who may write is not for live traffic to say
		if sample.ok {
			load.Alive(now, sample.status.answered)
		}
	case !sample.ok:
		sample.proven = sample.mute && good == 0 && (failures > 0 || mute)
	case failures >= uint64(t.c.cfg.Health.Fall) && good == 0:
		sample.ok = false
		sample.reason = fmt.Sprintf("answers the probe, but %d connections of clients failed and none was answered", failures)
	default:
		load.Alive(now, sample.status.answered)
	}
}

// settle publishes what the sample means, under the cluster's lock. strict is
// whether the server is reachable without the benefit of a doubt about this
// host's network: what counts for writes.
func (t *taker) settle(sample *sample) (st *Status, strict bool) {
	c, s, now := t.c, t.s, Now()
	h := c.healths[s.Index]
	was, first, spared := h.up, !h.seen, c.snapshot.Load().OwnFault
	h.mute = sample.mute && !sample.ok
	h.take(sample, now, ownFault(c.healths))
	if sample.ok && s.Role == config.RoleReplica {
		t.lag(&sample.status, now)
	} else if sample.ok {
		c.beats.note(now, sample.status.beat)
		if w := c.gate.Current(); w.Server == s {
			c.history.note(w.Epoch, &sample.status.Position, sample.status.asked+sample.status.answered)
		}
	}
	c.change(func(next *Snapshot) {
		st = &next.Servers[s.Index]
		mode, since := st.Mode, st.Since
		if sample.ok {
			*st = sample.status
		}
		if h.up != was && !first {
			since = now
		}
		st.Server, st.Mode, st.Since, st.Up, st.Reason = s, mode, since, h.up, h.reason
		if h.up && sample.ok && st.Warning != "" {
			st.Reason += "; " + st.Warning
		}
		st.LastProbe, st.Latency = sample.status.LastProbe, sample.status.Latency
		next.OwnFault = false
		for _, other := range c.healths {
			next.OwnFault = next.OwnFault || other.spared
		}
	})
	if sample.ok {
		c.compare(st, c.snapshot.Load().Servers)
		s.Fresh.settle(st.asked)
	}
	t.tell(h, was, first, sample)
	t.notePart(st)
	if now := c.snapshot.Load().OwnFault; now != spared {
		c.noteOwnFault(now)
	}
	return st, h.up && !h.spared
}

// lag finishes what a replica's probe said about its lag.
func (t *taker) lag(st *Status, now time.Duration) {
	c := t.c
	writing := c.gate.Current().Server != nil
	if lag, known := c.beats.lag(now, st.beat, writing); known {
		st.Lag, st.LagKnown = lag, true
	}
	t.follower.follow(st, writing)
	if !st.LagKnown {
		return
	}
	st.Lag = max(st.Lag, c.history.behind(&st.Position, st.asked))
	before, bound := t.hold.held, c.cfg.Reads.MaxLag
	st.LagHeld = t.hold.take(now, st.Lag)
	if bound > 0 && (before > bound) != (st.LagHeld > bound) {
		text := fmt.Sprintf("is %v behind, more than reads.max_lag %v: it takes no new reads", st.Lag, bound)
		if st.LagHeld <= bound {
			text = fmt.Sprintf("is %v behind and has been below %d %% of reads.max_lag for %v: it takes reads again",
				st.Lag, c.cfg.Reads.LagReturn, c.cfg.Reads.LagSettle)
		}
		c.note("lag", t.s, text)
	}
}

// tell notes a change, and acts on it.
func (t *taker) tell(h *health, was, first bool, sample *sample) {
	switch {
	case h.up && (!was || first):
		t.s.Load.forget()
		t.s.Fresh.forget()
		t.s.Load.Alive(Now(), sample.status.answered)
		t.c.note("up", t.s, h.reason)
	case !h.up && (was || first):
		text := h.reason
		if n := t.lost(sample); n > 0 {
			text = fmt.Sprintf("%s; %d connections for reads were closed", text, n)
		}
		t.c.note("down", t.s, text)
	}
}

// lost cuts the connections to a server that is gone: what waits there is read
// elsewhere. A server that still speaks finishes what it has begun.
func (t *taker) lost(sample *sample) int {
	if !sample.mute && !sample.refused || t.s.Role != config.RoleReplica {
		return 0
	}
	return t.s.cut(every)
}

func (c *Cluster) noteOwnFault(on bool) {
	if !on {
		c.note("network", nil, "a server answers again")
		return
	}
	c.log.Error("no server answers: this host's own network is suspected, and no server is taken out for it")
	c.note("network", nil, "no server answers: this host's own network is suspected, and no server is taken out for it")
}

// change publishes the snapshot after the current one, under the cluster's lock.
func (c *Cluster) change(edit func(next *Snapshot)) {
	old := c.snapshot.Load()
	next := &Snapshot{Seq: old.Seq + 1, Servers: append([]Status(nil), old.Servers...), OwnFault: old.OwnFault}
	edit(next)
	c.snapshot.Store(next)
	close(c.changed)
	c.changed = make(chan struct{})
}
