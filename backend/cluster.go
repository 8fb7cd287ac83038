package backend

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox/config"
	"signalbox/drbdwatch"
)

// Cluster is all servers: it probes them, publishes snapshots and keeps the
// Gate true to the authority.
type Cluster struct {
	cfg     *config.Config
	watch   *drbdwatch.Watch
	log     *slog.Logger
	servers []*Server
	gate    *Gate

	snapshot atomic.Pointer[Snapshot]
	mu       sync.Mutex // serialises publishing of snapshots, and guards changed
	changed  chan struct{}
	failures *prometheus.CounterVec
}

// New prepares a cluster; Run starts it.
func New(cfg *config.Config, watch *drbdwatch.Watch, log *slog.Logger, reg prometheus.Registerer) *Cluster {
	c := &Cluster{cfg: cfg, watch: watch, log: log, servers: servers(cfg), gate: NewGate(), changed: make(chan struct{})}
	first := &Snapshot{Servers: make([]Status, len(c.servers))}
	for i, s := range c.servers {
		first.Servers[i] = Status{Server: s, Reason: "not asked yet"}
	}
	c.snapshot.Store(first)
	c.register(reg)
	return c
}

// Snapshot is the latest, never nil.
func (c *Cluster) Snapshot() *Snapshot { return c.snapshot.Load() }

// Changed returns a channel that is closed at the next Snapshot. Take it before
// Snapshot, or a change in between is missed.
func (c *Cluster) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Gate is the way to the writer.
func (c *Cluster) Gate() *Gate { return c.gate }

// PickReplica chooses a replica that satisfies need, nil when there is none.
func (c *Cluster) PickReplica(need *Need) *Server {
	return Pick(c.snapshot.Load(), need, c.cfg.Reads.MaxLag, rand.Uint64())
}

// Run probes and follows the authority until ctx ends, then closes the gate. It
// waits for everything it started.
func (c *Cluster) Run(ctx context.Context) error {
	var group sync.WaitGroup
	for _, s := range c.servers {
		group.Go(func() { c.probe(ctx, s) })
	}
	c.follow(ctx)
	group.Wait()
	return nil
}

// follow carries the authority's changes out on the gate.
func (c *Cluster) follow(ctx context.Context) {
	var drain drain
	defer drain.stop()
	for {
		changed := c.watch.Changed()
		a := c.watch.Current()
		c.gate.Set(drain.next(c.writer(a)))
		c.reportUse()
		select {
		case <-ctx.Done():
			c.gate.Set(Writer{Epoch: a.Epoch, Reason: "stopping", Sentence: "the proxy is shutting down"})
			c.reportUse()
			return
		case <-changed:
		case <-drain.tick(c.gate, c.cfg.Authority.Drain):
		}
	}
}

// writer is the authority as the gate takes it.
func (c *Cluster) writer(a *drbdwatch.Authority) Writer {
	w := Writer{Epoch: a.Epoch, Reason: a.Reason, Sentence: a.Sentence}
	for _, s := range c.servers {
		if s.Name == a.Writer {
			w.Server = s
		}
		if s.Name == a.Leaving {
			w.Leaving = s
		}
	}
	return w
}

// reportUse tells the watch on which server this proxy may write.
func (c *Cluster) reportUse() {
	now := c.gate.Current()
	for _, s := range c.servers {
		if s.Role == config.RoleDRBD {
			c.watch.ReportUse(s.Name, s == now.Server || s == now.Leaving)
		}
	}
}

// drain ends the time of a writer that is leaving: as soon as nothing runs there
// any more, and after a while in any case.
type drain struct {
	since time.Time
	over  bool // for this leaving
	timer *time.Ticker
}

// drainLook is how often it is looked whether something still runs.
const drainLook = 2 * time.Millisecond

// next is the writer to set for what the authority says.
func (d *drain) next(w Writer) Writer {
	switch {
	case w.Leaving == nil:
		d.stop()
		d.since, d.over = time.Time{}, false
	case d.since.IsZero():
		d.since = time.Now()
	case d.over:
		w.Leaving = nil
	}
	return w
}

// tick returns when follow should look again, nil when nothing is leaving.
func (d *drain) tick(g *Gate, patience time.Duration) <-chan time.Time {
	if d.since.IsZero() || d.over || g.Current().Leaving == nil {
		d.stop()
		return nil
	}
	if g.Busy() == 0 || time.Since(d.since) > patience {
		d.over = true
	}
	if d.timer == nil {
		d.timer = time.NewTicker(drainLook)
	}
	return d.timer.C
}

func (d *drain) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// hurry is how often a candidate for the writer is probed while nobody may take
// writes, so that the database's start ends the pause.
const hurry = 50 * time.Millisecond

// probe samples one server until ctx ends.
func (c *Cluster) probe(ctx context.Context, s *Server) {
	p := &probe{server: s, cfg: c.cfg.Health}
	defer p.close()
	h := &health{rise: c.cfg.Health.Rise, fall: c.cfg.Health.Fall}
	if s.Role != config.RoleReplica {
		h.rise = 1 // the authority confirms a writer by samples of its own
	}
	for {
		sample := p.run(ctx)
		if ctx.Err() != nil {
			return
		}
		c.take(s, h, &sample)
		pause := time.NewTimer(c.pause(s))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// pause is the time to the next probe, jittered so that probes of several
// proxies do not come together.
func (c *Cluster) pause(s *Server) time.Duration {
	every := c.cfg.Health.Interval
	if s.Role != config.RoleReplica && c.gate.Current().Server == nil {
		every = min(every, hurry)
	}
	return every - time.Duration(rand.Int64N(int64(every)/10+1))
}

// take makes a sample the server's status and tells the watch.
func (c *Cluster) take(s *Server, h *health, sample *sample) {
	was, first := h.up, !h.seen
	h.take(sample)
	if !sample.ok {
		c.failures.WithLabelValues(s.Name).Inc()
	}
	if sample.ok && s.Role == config.RoleReplica {
		h.follow(&sample.status, c.gate.Current().Server != nil)
	}
	if h.up != was || first {
		c.log.Info("server", "server", s.Name, "up", h.up, "reason", h.reason)
	}
	c.publish(s, h, sample)
	if s.Role != config.RoleReplica {
		p := drbdwatch.Probe{Reachable: h.up, Reason: h.reason}
		if st := &c.Snapshot().Servers[s.Index]; h.up {
			p.ReadOnly, p.Hostname, p.ServerID, p.UUID = st.ReadOnly, st.Hostname, uint64(st.ServerID), st.UUID
		}
		c.watch.ReportProbe(s.Name, p)
	}
}

func (c *Cluster) publish(s *Server, h *health, sample *sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.snapshot.Load()
	next := &Snapshot{Seq: old.Seq + 1, Servers: make([]Status, len(old.Servers))}
	copy(next.Servers, old.Servers)
	st := &next.Servers[s.Index]
	if sample.ok {
		*st = sample.status
	}
	st.Server, st.Up, st.Reason = s, h.up, h.reason
	st.LastProbe, st.Latency = sample.status.LastProbe, sample.status.Latency
	c.snapshot.Store(next)
	close(c.changed)
	c.changed = make(chan struct{})
}
