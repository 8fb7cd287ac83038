package backend

import (
	"context"
	"log/slog"
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
	events   Events

	mu      sync.Mutex // serialises publishing of snapshots, and guards what follows
	changed chan struct{}
	healths []*health // by server index
	beats   beats
	history history

	failures, changes *prometheus.CounterVec
}

// New prepares a cluster; Run starts it.
func New(cfg *config.Config, watch *drbdwatch.Watch, log *slog.Logger, reg prometheus.Registerer) *Cluster {
	c := &Cluster{cfg: cfg, watch: watch, log: log, servers: servers(cfg), gate: NewGate(), changed: make(chan struct{})}
	modes, err := loadModes(cfg.StateDir)
	if err != nil {
		log.Error("servers that were drained or disabled are used again", "error", err)
	}
	first := &Snapshot{Servers: make([]Status, len(c.servers))}
	for i, s := range c.servers {
		first.Servers[i] = Status{Server: s, Reason: "not asked yet", Mode: modes[s.Name], Free: -1}
		h := &health{rise: cfg.Health.Rise, fall: cfg.Health.Fall, damped: true}
		if s.Role != config.RoleReplica {
			h.rise, h.damped = 1, false // the authority confirms a writer by samples of its own
		}
		c.healths = append(c.healths, h)
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

// Events are what happened to the servers.
func (c *Cluster) Events() *Events { return &c.events }

// note logs, counts and keeps an event.
func (c *Cluster) note(kind string, s *Server, text string) {
	name := ""
	if s != nil {
		name = s.Name
	}
	c.log.Info("server", "event", kind, "server", name, "what", text)
	c.changes.WithLabelValues(name, kind).Inc()
	c.events.Add(kind, name, text)
}

// Run probes and follows the authority until ctx ends, then closes the gate. It
// waits for everything it started.
func (c *Cluster) Run(ctx context.Context) error {
	var group sync.WaitGroup
	for _, s := range c.servers {
		group.Go(func() { c.probe(ctx, s) })
	}
	group.Go(func() { c.tend(ctx) })
	if c.cfg.Health.Heartbeat.Write {
		group.Go(func() { c.beat(ctx) })
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
		was := c.gate.Current().Server
		c.gate.Set(drain.next(c.writer(a)))
		if now := c.gate.Current(); now.Server != was {
			c.note("writer", now.Server, a.Reason+": "+a.Sentence)
		}
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
		if s.Name == a.Paused {
			w.Paused = s
		}
	}
	return w
}

// reportUse tells the watch on which server this proxy may write.
func (c *Cluster) reportUse() {
	now := c.gate.Current()
	for _, s := range c.servers {
		if s.Role == config.RoleDRBD {
			c.watch.ReportUse(s.Name, s == now.holder())
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
