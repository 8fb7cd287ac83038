// Package agent publishes what one DRBD node says of itself: its DRBD state,
// where its data directory lies, and who its mysqld is, to every proxy that
// asks and proves who it is.
//
// It needs no privilege and decides nothing: the proxies do. It changes nothing
// on the node.
package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"signalbox/config"
	"signalbox/drbdwatch"
)

// Agent is one node's view of itself, kept fresh by Run.
type Agent struct {
	cfg     *config.AgentFile
	log     *slog.Logger
	boot    string
	start   string
	source  *drbdwatch.Source
	asker   *asker
	notices *notices

	mu       sync.Mutex // guards what follows
	sample   drbdwatch.Sample
	samples  uint64    // counted
	moved    time.Time // when the state changed last
	database *drbdwatch.Database
	mount    *drbdwatch.Mount
	sampled  chan struct{} // closed at each sample and change
	changed  chan struct{} // closed at each change

	streams map[*stream]struct{}
	refused uint64 // requests without the right credentials
}

// New prepares an agent.
func New(cfg *config.AgentFile, log *slog.Logger) (*Agent, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read the boot id: %w", err)
	}
	a := &Agent{cfg: cfg, log: log, boot: strings.TrimSpace(string(boot)), start: token(), sampled: make(chan struct{}), changed: make(chan struct{}),
		streams: make(map[*stream]struct{}), sample: drbdwatch.Sample{Err: "not read yet", At: time.Now()}}
	if a.notices, err = loadNotices(cfg.State, a.boot, cfg.Leave); err != nil {
		return nil, err
	}
	a.source = drbdwatch.NewSource(cfg.Source(), cfg.Poll, a.take)
	if cfg.Database.Address != "" {
		a.asker = newAsker(&cfg.Database)
	}
	return a, nil
}

// token is 64 random bits, to tell things apart.
func token() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, as its documentation says
	return hex.EncodeToString(b[:])
}

// Run keeps the view fresh until ctx ends.
func (a *Agent) Run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { a.source.Run(ctx) })
	group.Go(func() { a.ask(ctx) })
	group.Wait()
}

// take keeps a sample of DRBD.
func (a *Agent) take(s drbdwatch.Sample, changed bool) {
	if s.State != nil && !primary(s.State) {
		a.notices.left()
	}
	a.keep(s, changed)
	if changed {
		runtime.Gosched() // the streams first: this goroutine has more to read
		a.log.Info("drbd", "source", s.Source, "state", summary(&s))
	}
}

func (a *Agent) keep(s drbdwatch.Sample, changed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sample = s
	a.samples++
	if changed {
		a.news()
		return
	}
	close(a.sampled)
	a.sampled = make(chan struct{})
}

func summary(s *drbdwatch.Sample) string {
	if s.State == nil {
		return s.Err
	}
	var list []string
	for i := range s.State.Devices {
		list = append(list, s.State.Devices[i].String())
	}
	return strings.Join(list, "; ")
}

func primary(s *drbdwatch.State) bool {
	for i := range s.Devices {
		if s.Devices[i].Role == "Primary" {
			return true
		}
	}
	return false
}

// news tells every stream that something has changed. The caller holds a.mu.
func (a *Agent) news() {
	a.moved = time.Now()
	a.wake()
}

// wake wakes whoever waits for a change or a sample. The caller holds a.mu.
func (a *Agent) wake() {
	close(a.sampled)
	close(a.changed)
	a.sampled, a.changed = make(chan struct{}), make(chan struct{})
}

// Pauses between looks at the database: the short one while it does not answer
// and the node is Primary, so that its start is seen at once.
const (
	askEvery = time.Second
	askSoon  = 50 * time.Millisecond
	askAfter = 20 * time.Millisecond // a change, which is to be told first
)

// ask looks at the mount and the database until ctx ends.
func (a *Agent) ask(ctx context.Context) {
	if a.asker == nil && a.cfg.Database.DataDir == "" {
		return
	}
	defer a.asker.close()
	for {
		database, mount := a.asker.ask(ctx), (*drbdwatch.Mount)(nil)
		dir := a.cfg.Database.DataDir
		if database != nil && database.DataDir != "" {
			dir = database.DataDir
		}
		if dir != "" {
			mount = mountOf(dir)
		}
		if database != nil && mount != nil {
			database.OnDRBD = len(mount.Minors) > 0
		}
		a.mu.Lock()
		pause := askEvery
		if database != nil && database.Err != "" && a.sample.State != nil && primary(a.sample.State) {
			pause = askSoon
		}
		if !same(database, a.database) || !sameMount(mount, a.mount) {
			a.database, a.mount = database, mount
			a.news()
		}
		changed := a.changed // a promotion, above all
		a.mu.Unlock()
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-changed:
			timer.Reset(askAfter)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		}
		timer.Stop()
	}
}

func same(a, b *drbdwatch.Database) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func sameMount(a, b *drbdwatch.Mount) bool {
	return a == b || a != nil && b != nil && fmt.Sprint(*a) == fmt.Sprint(*b)
}

// report is the view now, and what makes the next one worth sending before its
// time. samples is the count at the report before.
func (a *Agent) report(samples uint64) (r drbdwatch.Report, counted uint64, next <-chan struct{}) {
	leaving, fences := a.notices.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	r = drbdwatch.Report{Node: a.cfg.Node, Boot: a.boot, Start: a.start, Age: now.Sub(a.sample.At), Samples: a.samples - samples,
		Source: a.sample.Source, State: a.sample.State, Err: a.sample.Err, Mount: a.mount, Database: a.database, Leaving: leaving, Fences: fences}
	if now.Sub(a.moved) < youth {
		return r, a.samples, a.sampled
	}
	return r, a.samples, a.changed
}

// youth is how long after a change each sample is reported: the proxies want
// several before they permit a writer.
const youth = 3 * time.Second

// Once is the report that a proxy would get now, after one look at everything.
func (a *Agent) Once(ctx context.Context) drbdwatch.Report {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	var group sync.WaitGroup
	group.Go(func() { a.Run(ctx) })
	wait := func(ready func() bool) {
		for ctx.Err() == nil {
			a.mu.Lock()
			ok, next := ready(), a.sampled
			a.mu.Unlock()
			if ok {
				return
			}
			select {
			case <-next:
			case <-ctx.Done():
			}
		}
	}
	wait(func() bool { return a.samples > 0 })
	wait(func() bool {
		return (a.asker == nil || a.database != nil) && (a.cfg.Database.DataDir == "" || a.mount != nil)
	})
	r, _, _ := a.report(0)
	cancel()
	group.Wait()
	r.Seq = 1
	return r
}
