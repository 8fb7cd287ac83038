package drbdwatch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"signalbox/config"
)

// Authority is the published answer to who may take writes. It is immutable; a
// new one replaces it whole.
type Authority struct {
	Seq      uint64       `json:"seq"`    // rises with each
	Writer   string       `json:"writer"` // server name, empty for nobody
	Epoch    uint64       `json:"epoch"`  // of the last writer; only rises, across restarts too
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
	nodes      []*fileSource
	candidates []string // servers of role primary, without DRBD

	current atomic.Pointer[Authority]
	kick    chan struct{} // a probe came in

	mu      sync.Mutex // guards what follows
	probes  map[string]Probe
	changed chan struct{}

	// The permission under way; touched by Run's goroutine only.
	wanted  string
	samples int
	splits  int // rounds of samples in a row that showed a split brain
	epoch   uint64

	disputed map[string]bool // nodes that claimed to be Primary together, until one is seen not to
}

// New prepares a watch over the servers that cfg names.
func New(cfg *config.Config, log *slog.Logger) *Watch {
	w := &Watch{cfg: cfg.Authority, log: log, kick: make(chan struct{}, 1),
		probes: make(map[string]Probe), changed: make(chan struct{}), disputed: make(map[string]bool)}
	for _, s := range cfg.Servers {
		switch s.Role {
		case config.RoleDRBD:
			w.nodes = append(w.nodes, &fileSource{node: s.Name, path: s.DRBD.File, minors: s.DRBD.Minors})
		case config.RolePrimary:
			w.candidates = append(w.candidates, s.Name)
		}
	}
	w.current.Store(&Authority{Verdict: Hold, Reason: "starting", Sentence: "the proxy has just started", Since: time.Now()})
	return w
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
	if same {
		return
	}
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// Run samples and decides until ctx ends. It waits for everything it started.
func (w *Watch) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	for _, n := range w.nodes {
		group.Go(func() { n.poll(ctx, w.cfg.Poll) })
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
// another it always goes through nobody.
func (w *Watch) step(now time.Time) {
	decision, nodes, sampled := w.decide(now)
	next := &Authority{Writer: decision.Writer, Verdict: decision.Verdict, Reason: decision.Reason,
		Sentence: decision.Sentence, Advice: decision.Advice, Nodes: nodes, Epoch: w.epoch}
	before := w.current.Load()
	w.confirmSplit(next, sampled)
	switch {
	case decision.Writer == "":
		w.wanted, w.samples = "", 0
	case decision.Writer == before.Writer:
	case !w.permitted(decision.Writer, sampled) || before.Writer != "":
		next.Writer, next.Verdict, next.Reason = "", Hold, "confirming"
		next.Sentence = fmt.Sprintf("%s qualifies; confirming with %d samples (%s)", decision.Writer, w.cfg.PermitSamples, decision.Sentence)
		next.Advice = ""
	default:
		w.epoch = max(w.epoch+1, uint64(now.UnixMicro()))
		next.Epoch = w.epoch
	}
	w.publish(before, next, now)
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

// permitted counts samples that agree on a writer.
func (w *Watch) permitted(writer string, sampled bool) bool {
	if w.wanted != writer {
		w.wanted, w.samples = writer, 0
	}
	if sampled {
		w.samples++
	}
	return w.samples >= w.cfg.PermitSamples
}

// decide gathers the inputs. sampled tells whether every node's view is newer
// than at the decision before, so that a probe alone confirms nothing.
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
	in := Inputs{Probes: probes, Policy: Policy(w.cfg.Policy), Pin: w.cfg.Pin, Fresh: w.cfg.LocalFresh}
	sampled = true
	for _, n := range w.nodes {
		v, fresh := n.view(now)
		v.Disputed = w.disputed[n.node]
		in.Views = append(in.Views, v)
		sampled = sampled && fresh
	}
	d = Decide(in)
	w.remember(in.Views, in.Fresh)
	for i, n := range w.nodes {
		nodes = append(nodes, n.status(&in.Views[i], &d.Rows[i], in.Fresh))
	}
	return d, nodes, sampled
}

// remember keeps which nodes claimed to be Primary at the same time.
func (w *Watch) remember(views []View, fresh time.Duration) {
	claims := 0
	for i := range views {
		if views[i].claimsNow(fresh) || views[i].Disputed {
			claims++
		}
	}
	for i := range views {
		v := &views[i]
		switch {
		case !v.trusted(fresh):
		case v.claimsNow(fresh):
			w.disputed[v.Node] = claims > 1
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
	if a.Writer != b.Writer || a.Epoch != b.Epoch || a.Verdict != b.Verdict || a.Reason != b.Reason ||
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

// fileSource reads one node's view from a file in /proc/drbd's format.
type fileSource struct {
	node, path string
	minors     []int

	mu     sync.Mutex // guards what follows
	at     time.Time  // when the last read ended
	state  *State
	err    string
	serial uint64 // counts reads
	seen   uint64 // serial at the decision before
}

// maxProcText bounds, in bytes, what is read of /proc/drbd.
const maxProcText = 1 << 20

// poll reads the file until ctx ends. A read that hangs makes the view stale,
// which is what it should be.
func (f *fileSource) poll(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last []byte
	buf := make([]byte, 0, 4096)
	for {
		text, err := readFile(f.path, buf)
		if err == nil && last != nil && bytes.Equal(text, last) {
			f.keep()
		} else {
			f.take(text, err)
			last = append(last[:0], text...)
			if err != nil {
				last = nil
			}
		}
		buf = text[:0]
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// readFile reads path into buf, without an allocation where it fits.
func readFile(path string, buf []byte) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return buf[:0], err
	}
	defer file.Close()
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := file.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil || len(buf) > maxProcText {
			return buf[:0], fmt.Errorf("read %s: more than %d bytes, or %w", path, maxProcText, err)
		}
	}
}

// keep records that the file was read again and said the same.
func (f *fileSource) keep() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = time.Now()
	f.serial++
}

func (f *fileSource) take(text []byte, err error) {
	var state *State
	if err == nil {
		state, err = ParseProc(text)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.state, f.err = time.Now(), state, ""
	f.serial++
	if err != nil {
		f.state, f.err = nil, err.Error()
	}
}

// view returns the last sample, and whether it is another than at the call
// before.
func (f *fileSource) view(now time.Time) (View, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fresh := f.serial != f.seen
	f.seen = f.serial
	return View{Node: f.node, State: f.state, Err: f.err, Age: now.Sub(f.at), Minors: f.minors}, fresh
}

func (f *fileSource) status(v *View, row *Row, fresh time.Duration) NodeStatus {
	s := NodeStatus{Node: v.Node, Source: f.path, Verdict: row.Verdict, Reason: row.Reason, Sentence: row.Sentence}
	if !v.trusted(fresh) {
		s.Summary = v.whyNot(fresh)
		if v.Err == "" && v.State != nil {
			s.Summary = "stale" // without the age, which would make every snapshot differ
		}
		return s
	}
	s.Version = v.State.Version
	for i := range v.State.Devices {
		if d := &v.State.Devices[i]; d.Configured {
			if s.Summary != "" {
				s.Summary += "; "
			}
			s.Summary += d.String()
		}
	}
	return s
}

// String is the device in /proc/drbd's words.
func (d *Device) String() string {
	if !d.Configured {
		return fmt.Sprintf("%d: cs:Unconfigured", d.Minor)
	}
	return fmt.Sprintf("%d: cs:%s ro:%s/%s ds:%s/%s %s %s", d.Minor, d.CS, d.Role, d.PeerRole, d.Disk, d.PeerDisk, d.Protocol, d.Flags)
}
