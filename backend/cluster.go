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
	mu       sync.Mutex // serialises publishing of snapshots
	failures *prometheus.CounterVec
}

// New prepares a cluster; Run starts it.
func New(cfg *config.Config, watch *drbdwatch.Watch, log *slog.Logger, reg prometheus.Registerer) *Cluster {
	c := &Cluster{cfg: cfg, watch: watch, log: log, servers: servers(cfg), gate: NewGate()}
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
	for {
		changed := c.watch.Changed()
		a := c.watch.Current()
		w := Writer{Epoch: a.Epoch, Reason: a.Reason, Sentence: a.Sentence}
		for _, s := range c.servers {
			if s.Name == a.Writer {
				w.Server = s
			}
		}
		c.gate.Set(w)
		select {
		case <-ctx.Done():
			c.gate.Set(Writer{Epoch: a.Epoch, Reason: "stopping", Sentence: "the proxy is shutting down"})
			return
		case <-changed:
		}
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
		c.watch.ReportProbe(s.Name, drbdwatch.Probe{Reachable: h.up, ReadOnly: h.up && c.Snapshot().Servers[s.Index].ReadOnly, Reason: h.reason})
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
}
