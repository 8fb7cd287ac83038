package drbdwatch

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"signalbox/config"
)

// Authority is the published answer to who may take writes. It is immutable; a
// new one replaces it whole.
type Authority struct {
	Seq      uint64       `json:"seq"`               // rises with each
	Writer   string       `json:"writer"`            // server name, empty for nobody
	Leaving  string       `json:"leaving,omitempty"` // the writer before, which may finish what it has begun
	Paused   string       `json:"paused,omitempty"`  // the writer before, whose I/O is frozen: it keeps its connections and its epoch
	Epoch    uint64       `json:"epoch"`             // of the last writer; only rises, across restarts too
	Verdict  Verdict      `json:"decision"`
	Reason   string       `json:"reason"`           // stable code
	Sentence string       `json:"sentence"`         // for people
	Advice   string       `json:"advice,omitempty"` // what to do about it
	Since    time.Time    `json:"since"`
	Nodes    []NodeStatus `json:"nodes,omitempty"`
}

// NodeStatus is what is known of one DRBD node.
type NodeStatus struct {
	Node     string  `json:"node"`
	Source   string  `json:"source"`
	Version  string  `json:"version,omitempty"`
	Summary  string  `json:"summary"` // the devices in /proc/drbd's words
	Verdict  Verdict `json:"verdict"`
	Reason   string  `json:"reason"`
	Sentence string  `json:"sentence"`
}

// Watch samples every source and publishes the Authority. Create it with New
// and start it with Run.
type Watch struct {
	cfg        config.Authority
	log        *slog.Logger
	nodes      []*feed
	runners    []func(context.Context) // sources and streams
	streams    []*stream
	candidates []string // servers of role primary, without DRBD

	current atomic.Pointer[Authority]
	kick    chan struct{} // a probe came in

	mu      sync.Mutex // guards what follows
	probes  map[string]Probe
	changed chan struct{}

	// The permission under way; touched by Run's goroutine only.
	wanted   string
	samples  int
	splits   int // rounds of samples in a row that showed a split brain
	epoch    uint64
	paused   time.Time     // when the pause under way began
	patience time.Duration // how long one may last

	disputed map[string]bool // nodes that claimed to be Primary together, until one is seen not to
	fences   map[string]*evidence
}

// evidence is a Fence as this proxy got it.
type evidence struct {
	since time.Time
	void  bool // the node was seen alive after it
}

// New prepares a watch over the servers that cfg names.
func New(cfg *config.Config, log *slog.Logger) (*Watch, error) {
	w := &Watch{cfg: cfg.Authority, log: log, patience: cfg.Hold.Timeout, kick: make(chan struct{}, 1), probes: make(map[string]Probe),
		changed: make(chan struct{}), disputed: make(map[string]bool), fences: make(map[string]*evidence)}
	for i := range cfg.Servers {
		s := &cfg.Servers[i]
		switch s.Role {
		case config.RoleDRBD:
			f := newFeed(s, &w.cfg, w.wake)
			w.nodes = append(w.nodes, f)
			if s.DRBD.Agent == "" {
				w.runners = append(w.runners, NewSource(s.DRBD, w.cfg.Poll, f.take).Run)
				continue
			}
			stream, err := newStream(s.DRBD.Agent, &cfg.Agents, f, log)
			if err != nil {
				return nil, err
			}
			w.streams = append(w.streams, stream)
			w.runners = append(w.runners, stream.run)
		case config.RolePrimary:
			w.candidates = append(w.candidates, s.Name)
		}
	}
	var err error
	if w.epoch, err = firstEpoch(cfg.StateDir, time.Now()); err != nil {
		log.Error("epochs", "error", err)
	}
	w.current.Store(&Authority{Verdict: Hold, Reason: "starting", Sentence: "the proxy has just started", Since: time.Now()})
	return w, nil
}

// Current is the latest Authority, never nil.
func (w *Watch) Current() *Authority { return w.current.Load() }

// Changed returns a channel that is closed at the next change of Current. Take
// it before Current, or a change in between is missed.
func (w *Watch) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// ReportProbe takes what a database server said of itself.
func (w *Watch) ReportProbe(server string, p Probe) {
	w.mu.Lock()
	same := w.probes[server] == p
	w.probes[server] = p
	w.mu.Unlock()
	if !same {
		w.wake()
	}
}

// ReportUse takes whether this proxy has connections that may write to a
// server. The node's agent is told.
func (w *Watch) ReportUse(server string, using bool) {
	for _, f := range w.nodes {
		if f.node == server {
			f.use(using)
		}
	}
}

func (w *Watch) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// Run samples and decides until ctx ends. It waits for everything it started.
func (w *Watch) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	for _, run := range w.runners {
		group.Go(func() { run(ctx) })
	}
	tick := time.NewTicker(w.cfg.Poll)
	defer tick.Stop()
	for {
		w.step(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-w.kick:
		}
	}
}

// step decides once and publishes what changed. Denial is immediate; permission
// takes several samples in a row with the same answer; from one writer to
// another it always goes through nobody. A writer that was only paused goes on in its epoch.
func (w *Watch) step(now time.Time) {
	decision, nodes, sampled := w.decide(now)
	next := &Authority{Writer: decision.Writer, Verdict: decision.Verdict, Reason: decision.Reason,
		Sentence: decision.Sentence, Advice: decision.Advice, Nodes: nodes, Epoch: w.epoch}
	before := w.current.Load()
	w.confirmSplit(next, sampled)
	confirmed := w.confirmed(decision.Candidate, sampled)
	switch {
	case decision.Writer == "":
		if d := decision.Leaving; d != "" && (d == before.Writer || d == before.Leaving) {
			next.Leaving = d
		}
		if p := decision.Paused; p != "" && (p == before.Writer || p == before.Paused) && w.patient(now) {
			next.Paused = p
		}
	case decision.Writer == before.Writer:
	case decision.Writer == before.Paused && confirmed:
	case !confirmed || before.Writer != "":
		next.Writer, next.Verdict, next.Reason = "", Hold, "confirming"
		next.Sentence = fmt.Sprintf("%s qualifies; confirming with %d samples (%s)", decision.Writer, w.cfg.PermitSamples, decision.Sentence)
		next.Advice = ""
		if decision.Writer == before.Paused && w.patient(now) {
			next.Paused = before.Paused
		}
	default:
		w.epoch++
		next.Epoch = w.epoch
	}
	if next.Paused == "" {
		w.paused = time.Time{}
	}
	w.publish(before, next, now)
	for _, n := range w.nodes {
		n.decided()
	}
}

// patient tells whether the pause under way, which begins now if there is none,
// may go on.
func (w *Watch) patient(now time.Time) bool {
	if w.paused.IsZero() {
		w.paused = now
	}
	return now.Sub(w.paused) < w.patience
}

// confirmSplit gives a split brain its name only when it is seen in a second
// round of samples: in a switchover the old node's view may be the older one.
// Nobody may write meanwhile.
func (w *Watch) confirmSplit(a *Authority, sampled bool) {
	if a.Reason != "split-brain" {
		w.splits = 0
		return
	}
	if sampled {
		w.splits++
	}
	if w.splits < 2 {
		a.Verdict, a.Reason, a.Advice = Hold, "two-claims", ""
		a.Sentence += ", if the next samples say so too"
	}
}

// confirmed counts samples that agree on a candidate. They are counted while
// its database starts, so that both delays run together.
func (w *Watch) confirmed(candidate string, sampled bool) bool {
	if w.wanted != candidate {
		w.wanted, w.samples = candidate, 0
	}
	if sampled && candidate != "" {
		w.samples++
	}
	return candidate != "" && w.samples >= w.cfg.PermitSamples
}

// decide gathers the inputs. sampled tells whether every view that is believed
// is newer than the one that was counted last, so that neither a probe nor one
// node alone confirms anything.
func (w *Watch) decide(now time.Time) (d Decision, nodes []NodeStatus, sampled bool) {
	w.mu.Lock()
	probes := make(map[string]Probe, len(w.probes))
	for k, v := range w.probes {
		probes[k] = v
	}
	w.mu.Unlock()
	switch w.cfg.Source {
	case "static", "read_only":
		return DecideByReadOnly(w.candidates, probes), nil, true
	}
	in := Inputs{Probes: probes, Policy: Policy(w.cfg.Policy), Pin: w.cfg.Pin, Quorum: w.cfg.Quorum, AnyDataDir: !w.cfg.DataDirOnDRBD}
	trusted, newer := 0, 0
	for _, n := range w.nodes {
		v := n.view(now)
		v.Disputed = w.disputed[n.node]
		v.Fenced = w.fenced(&v, now)
		in.Views = append(in.Views, v)
		if v.trusted() && !v.Fenced {
			trusted++
			if n.newer() {
				newer++
			}
		}
	}
	if sampled = trusted > 0 && newer == trusted; sampled {
		for _, n := range w.nodes {
			n.count()
		}
	}
	d = Decide(in)
	w.remember(in.Views)
	for i, n := range w.nodes {
		nodes = append(nodes, n.status(&in.Views[i], &d.Rows[i]))
	}
	return d, nodes, sampled
}

// fenced tells whether there is evidence that a node is off: a fence that
// another node's agent reports, until the node itself is seen after it.
func (w *Watch) fenced(v *View, now time.Time) bool {
	found := false
	for _, n := range w.nodes {
		if n.node == v.Node {
			continue
		}
		for _, f := range n.evidence() {
			if f.Node != v.Node {
				continue
			}
			e := w.fences[f.ID]
			if e == nil {
				e = &evidence{since: now}
				w.fences[f.ID] = e
				w.log.Warn("fenced", "node", v.Node, "reported_by", n.node, "id", f.ID)
			}
			if v.State != nil && now.Add(-v.Age).After(e.since) && !e.void {
				e.void = true
				n.refute(f.ID)
				w.log.Warn("fencing evidence is void: the node was seen after it", "node", v.Node, "id", f.ID)
			}
			found = found || !e.void
		}
	}
	return found
}

// remember keeps which nodes claimed to be Primary at the same time. A claim
// that was last heard before another began does not dispute that one: the node
// may have died, and the other been promoted.
func (w *Watch) remember(views []View) {
	for i := range views {
		v := &views[i]
		switch {
		case !v.trusted():
		case v.claimsNow():
			w.disputed[v.Node] = false
			for j := range views {
				o := &views[j]
				if j != i && (o.Disputed || o.claimsNow() && v.Heard <= o.Claimed && o.Heard <= v.Claimed) {
					w.disputed[v.Node] = true
				}
			}
		default:
			delete(w.disputed, v.Node)
		}
	}
}

func (w *Watch) publish(before, next *Authority, now time.Time) {
	if same(before, next) {
		return
	}
	next.Seq, next.Since = before.Seq+1, now
	if before.Writer == next.Writer && before.Reason == next.Reason {
		next.Since = before.Since
	} else {
		w.log.Info("authority", "writer", next.Writer, "epoch", next.Epoch, "decision", next.Verdict.String(),
			"reason", next.Reason, "why", next.Sentence)
	}
	w.current.Store(next)
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

func same(a, b *Authority) bool {
	if a.Writer != b.Writer || a.Leaving != b.Leaving || a.Paused != b.Paused || a.Epoch != b.Epoch || a.Verdict != b.Verdict || a.Reason != b.Reason ||
		a.Sentence != b.Sentence || len(a.Nodes) != len(b.Nodes) {
		return false
	}
	for i := range a.Nodes {
		if a.Nodes[i] != b.Nodes[i] {
			return false
		}
	}
	return true
}

// String is the device in /proc/drbd's words.
func (d *Device) String() string {
	if !d.Configured {
		return fmt.Sprintf("%d: cs:Unconfigured", d.Minor)
	}
	return fmt.Sprintf("%d: cs:%s ro:%s/%s ds:%s/%s %s %s", d.Minor, d.CS, d.Role, d.PeerRole, d.Disk, d.PeerDisk, d.Protocol, d.Flags)
}
