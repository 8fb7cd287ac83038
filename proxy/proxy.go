// Package proxy is the MySQL server that clients see: listeners,
// authentication, sessions, the relay of statements and answers, and the hold
// while no server may take writes.
//
// It carries out what router decides, on the servers that backend offers; it
// decides neither where a statement goes nor who may take writes. A session is
// one goroutine that passes packets as the bytes they are.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox/backend"
	"signalbox/config"
	"signalbox/internal/wire"
	"signalbox/router"
)

// Proxy serves clients. Create it with New and start it with Run.
type Proxy struct {
	cfg        *config.Config
	log        *slog.Logger
	cluster    *backend.Cluster
	door       *Door
	classifier *router.Classifier
	rules      *router.Rules
	metrics    *metrics
	hold       *hold
	reads      *reads
	fresh      *freshness
	fixed      fixedStatements

	mu       sync.Mutex // guards sessions
	sessions map[uint32]*session
	group    Group
}

// fixedStatements stand for commands that have no SQL text.
type fixedStatements struct {
	use, show, write, unknown, processes *router.Statement
}

// New prepares a proxy; it opens nothing yet.
func New(cfg *config.Config, cluster *backend.Cluster, log *slog.Logger, reg prometheus.Registerer) (*Proxy, error) {
	rules, err := router.NewRules(cfg.Router)
	if err != nil {
		return nil, fmt.Errorf("router.rules: %w", err)
	}
	p := &Proxy{cfg: cfg, log: log, cluster: cluster, rules: rules, sessions: make(map[uint32]*session)}
	p.classifier = router.NewClassifier(cfg.Router)
	p.hold = newHold(cfg.Hold)
	p.reads = newReads(cfg.Reads, cluster)
	p.fresh = newFreshness(cfg, cluster)
	p.metrics = newMetrics(p, reg)
	p.fixed = fixedStatements{
		use:       p.classifier.Classify([]byte("USE a"), 0),
		show:      p.classifier.Classify([]byte("SHOW TABLES"), 0),
		write:     p.classifier.Classify([]byte("FLUSH STATUS"), 0),
		unknown:   p.classifier.Classify([]byte("SET SESSION sql_auto_is_null=0"), 0),
		processes: p.classifier.Classify([]byte("SHOW PROCESSLIST"), 0),
	}
	p.door, err = NewDoor(cfg, DoorOptions{
		ServerVersion: p.serverVersion,
		OnReject:      func(reason string) { p.metrics.rejected.WithLabelValues(reason).Inc() },
	}, log)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// serverVersion is what clients are greeted with: the writer's own version, so
// that they use the features it has.
func (p *Proxy) serverVersion() string {
	snapshot := p.cluster.Snapshot()
	if w := p.cluster.Gate().Current().Server; w != nil && snapshot.Servers[w.Index].Version != "" {
		return snapshot.Servers[w.Index].Version
	}
	for i := range snapshot.Servers {
		if v := snapshot.Servers[i].Version; v != "" {
			return v
		}
	}
	return ""
}

// Run accepts clients on the listeners until ctx ends, then lets each session
// end at its next quiet moment, for at most grace, and closes the rest.
func (p *Proxy) Run(ctx context.Context, listeners []net.Listener) error {
	sessions, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	p.group.Go(func() { p.closeIdle(ctx) })
	err := Serve(ctx, listeners, func(_ context.Context, nc net.Conn) { p.admit(sessions, nc) })
	p.drain()
	cancel()
	p.group.Wait()
	p.fresh.writer.close()
	return err
}

// admit runs a client's handshake, and its session on a goroutine of its own
// with a fresh, small stack: a handshake leaves a deep one.
func (p *Proxy) admit(ctx context.Context, nc net.Conn) {
	c, err := p.door.Admit(ctx, nc)
	if err != nil {
		level := slog.LevelInfo
		if errors.Is(err, net.ErrClosed) {
			level = slog.LevelDebug
		}
		p.log.Log(ctx, level, "client turned away", "client", nc.RemoteAddr().String(), "error", err)
		return
	}
	p.metrics.accepted.Inc()
	s := newSession(ctx, p, c)
	if p.debugging() {
		s.log().Debug("client connected", "tls", c.TLS, "schema", c.Schema, "attributes", c.Attributes)
	}
	p.add(s)
	p.group.Go(func() {
		s.run()
		p.remove(s)
		c.Close()
	})
}

func (p *Proxy) debugging() bool { return p.log.Enabled(context.Background(), slog.LevelDebug) }

func (p *Proxy) add(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions[s.client.ID] = s
}

func (p *Proxy) remove(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, s.client.ID)
}

func (p *Proxy) session(id uint64) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[uint32(id)]
}

func (p *Proxy) each(f func(*session)) {
	p.mu.Lock()
	list := make([]*session, 0, len(p.sessions))
	for _, s := range p.sessions {
		list = append(list, s)
	}
	p.mu.Unlock()
	for _, s := range list {
		f(s)
	}
}

// Clients is the number of authenticated clients.
func (p *Proxy) Clients() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sessions)
}

// Waiting is the number of statements that wait for a primary.
func (p *Proxy) Waiting() int { return int(p.hold.waiting.Load()) }

// Readable tells whether a replica, or the primary by its share, can serve reads.
func (p *Proxy) Readable() bool {
	srv, _ := p.reads.choose(&backend.Need{MaxLag: p.cfg.Reads.MaxLag}, backend.Now())
	return srv != nil
}

// Answered is how many statements of clients each server has answered.
func (p *Proxy) Answered() map[string]uint64 {
	all := make(map[string]uint64)
	for _, st := range p.cluster.Snapshot().Servers {
		all[st.Server.Name] = p.metrics.answered[st.Server.Index&63].Load()
	}
	return all
}

// Routes lists how many statements took which route.
func (p *Proxy) Routes() []Routed { return p.metrics.routed() }

// idleSweep is how often idle clients are looked at.
const idleSweep = 10 * time.Second

// closeIdle disconnects clients that were idle for limits.idle_timeout.
func (p *Proxy) closeIdle(ctx context.Context) {
	limit := p.cfg.Limits.IdleTimeout
	if limit <= 0 {
		return
	}
	tick := time.NewTicker(min(idleSweep, limit))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			p.each(func(s *session) {
				if since := s.idle.Load(); since != 0 && now.UnixNano()-since > int64(limit) {
					s.stop()
				}
			})
		}
	}
}

// grace is how long a busy session may go on after the proxy was told to stop.
const grace = 10 * time.Second

// drain ends the sessions: idle ones at once, busy ones when they are done.
func (p *Proxy) drain() {
	over := time.NewTimer(grace)
	defer over.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for p.Clients() > 0 {
		p.each(func(s *session) {
			s.ending.Store(true)
			if s.idle.Load() != 0 && !s.inTransaction.Load() {
				s.stop()
			}
		})
		select {
		case <-over.C:
			p.each((*session).stop)
			return
		case <-look.C:
		}
	}
}

// dial connects to a server for a session, with the session's account and what
// its client negotiated.
//
// It runs on a goroutine of its own: a handshake leaves a deep stack, which the
// session would keep while it rests.
func (p *Proxy) dial(ctx context.Context, s *session, srv *backend.Server) (c *backend.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Limits.ConnectTimeout)
	defer cancel()
	var dialled sync.WaitGroup
	dialled.Go(func() { c, err = p.dialNow(ctx, s, srv) })
	dialled.Wait()
	return c, err
}

func (p *Proxy) dialNow(ctx context.Context, s *session, srv *backend.Server) (*backend.Conn, error) {
	user, password := s.client.User.Name, s.client.User.Password
	if s.client.User.BackendUser != "" {
		user = s.client.User.BackendUser
	}
	if s.client.User.BackendPassword != "" {
		password = s.client.User.BackendPassword
	}
	return backend.Dial(ctx, srv, backend.DialOptions{
		User: user, Password: password.Reveal(), Schema: s.start.schema,
		Capability: s.client.Capability&passedOn | wire.ClientSessionTrack,
		Collation:  s.client.Collation,
		MariaDB:    s.client.Extended,
		Attributes: map[string]string{"program_name": "signalbox", "signalbox_client": s.client.Remote},
	})
}

// passedOn are the capabilities that a server connection has exactly when the
// client has them: they change how the server answers or what it accepts.
const passedOn = wire.ClientFoundRows | wire.ClientLocalFiles | wire.ClientIgnoreSpace | wire.ClientInteractive |
	wire.ClientMultiStatements | wire.ClientMultiResults | wire.ClientPSMultiResults | wire.ClientDeprecateEOF
