package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"signalbox/config"
	"signalbox/drbdwatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

const patience = 20 * time.Second

// node is one DRBD node of a test: a file for /proc/drbd and an agent.
type node struct {
	name, file string
	cfg        *config.AgentFile
	agent      *Agent
	url        string
	stop       func()
}

func (n *node) says(t *testing.T, state string) {
	t.Helper()
	text := "version: 8.4.11 (api:1/proto:86-101)\nbuilt-in\n 0: cs:" + state + "\n"
	if err := os.WriteFile(n.file+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(n.file+".new", n.file); err != nil {
		t.Fatal(err)
	}
}

const (
	healthy = "Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----"
	standby = "Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r-----"
	alone   = "WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----"
)

// newNode starts an agent; more is added to its configuration.
func newNode(t *testing.T, name, more string) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{name: name, file: filepath.Join(dir, "proc")}
	var err error
	n.cfg, err = config.ParseAgent("agent.yaml", fmt.Appendf(nil, "node: %s\naddress: 127.0.0.1:1\nheartbeat: 20ms\npoll: 5ms\nstate_dir: %s\ndrbd: {source: proc, file: %s}\n%s",
		name, dir, n.file, more))
	if err != nil {
		t.Fatal(err)
	}
	n.says(t, standby)
	n.start(t, "127.0.0.1:0")
	return n
}

func (n *node) start(t *testing.T, address string) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	n.cfg.Address = ln.Addr().String()
	if n.agent, err = New(n.cfg, quiet); err != nil {
		t.Fatal(err)
	}
	scheme := "http://"
	if n.cfg.CertFile != "" {
		scheme = "https://"
	}
	n.url = scheme + n.cfg.Address
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, 2)
	go func() { n.agent.Run(ctx); done <- struct{}{} }()
	go func() {
		if err := n.agent.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
		done <- struct{}{}
	}()
	n.stop = func() {
		cancel()
		<-done
		<-done
		n.stop = func() {}
	}
	t.Cleanup(func() { n.stop() })
}

// watch runs a proxy's watch over nodes; more is added to agents.
func watch(t *testing.T, more string, nodes ...*node) *drbdwatch.Watch {
	t.Helper()
	var servers strings.Builder
	for i, n := range nodes {
		fmt.Fprintf(&servers, "  - {name: %s, role: drbd, address: \"127.0.0.1:%d\", drbd: {agent: %q}}\n", n.name, i+1, n.url)
	}
	cfg, err := config.Parse("proxy.yaml", []byte("listeners: [{address: \"127.0.0.1:1\"}]\nusers: [{name: u}]\nhealth: {user: p}\n"+
		"authority: {poll: 5ms, local_fresh: 1s, remote_fresh: 400ms}\nagents: {heartbeat: 20ms"+more+"}\nservers:\n"+servers.String()))
	if err != nil {
		t.Fatal(err)
	}
	w, err := drbdwatch.New(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		w.ReportProbe(n.name, drbdwatch.Probe{Reachable: true})
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// until waits for an authority.
func until(t *testing.T, w *drbdwatch.Watch, what string, ok func(*drbdwatch.Authority) bool) *drbdwatch.Authority {
	t.Helper()
	over := time.After(patience)
	for {
		changed := w.Changed()
		if a := w.Current(); ok(a) {
			return a
		}
		select {
		case <-changed:
		case <-over:
			t.Fatalf("not seen: %s; stuck at %+v", what, w.Current())
		}
	}
}

func writer(name string) func(*drbdwatch.Authority) bool {
	return func(a *drbdwatch.Authority) bool { return a.Writer == name }
}

func reason(code string) func(*drbdwatch.Authority) bool {
	return func(a *drbdwatch.Authority) bool { return a.Reason == code && a.Writer == "" }
}

func TestProxyFollowsAgents(t *testing.T) {
	a, b := newNode(t, "a", ""), newNode(t, "b", "")
	w := watch(t, "", a, b)
	until(t, w, "nobody is Primary", reason("no-primary"))
	a.says(t, healthy)
	first := until(t, w, "a writes", writer("a"))
	if src := first.Nodes[0].Source; src != "agent, proc" {
		t.Errorf("source %q", src)
	}
	a.says(t, standby)
	until(t, w, "a is denied", reason("no-primary"))
	b.says(t, healthy)
	if second := until(t, w, "b writes", writer("b")); second.Epoch <= first.Epoch {
		t.Errorf("epoch %d after %d", second.Epoch, first.Epoch)
	}
	a.says(t, alone)
	b.says(t, alone)
	until(t, w, "split brain", reason("split-brain"))
	b.stop() // losing sight of b settles nothing
	until(t, w, "b's view is gone", func(a *drbdwatch.Authority) bool { return a.Writer == "" && a.Nodes[1].Reason == "no-fresh-view" })
	if got := w.Current(); got.Reason != "split-brain" {
		t.Errorf("after b was lost: %+v", got)
	}
}

// A survivor whose peer is gone may write only when the peer is confirmed to be
// off, and no longer once the peer is seen again.
func TestFencingEvidence(t *testing.T) {
	a, b := newNode(t, "a", ""), newNode(t, "b", "")
	w := watch(t, "", a, b)
	a.says(t, healthy)
	until(t, w, "a writes", writer("a"))
	address := a.cfg.Address
	a.stop()
	until(t, w, "a is not seen", reason("no-fresh-view"))
	b.says(t, alone)
	until(t, w, "b alone is not trusted", reason("peer-unreachable"))
	if _, err := Notify(t.Context(), b.cfg, &Notice{Action: "fenced", Node: "b"}); err == nil {
		t.Error("b was believed to be off by its own agent")
	}
	if _, err := Notify(t.Context(), b.cfg, &Notice{Action: "fenced", Node: "a"}); err != nil {
		t.Fatal(err)
	}
	until(t, w, "b writes", writer("b"))
	b.stop()
	until(t, w, "b is gone too", reason("no-fresh-view"))
	b.start(t, b.cfg.Address)
	until(t, w, "the evidence survived the agent's restart", writer("b"))
	a.says(t, alone)
	a.start(t, address)
	until(t, w, "a is back, and claims too", reason("split-brain"))
	over := time.Now().Add(patience)
	for _, fences := b.agent.notices.now(); len(fences) > 0 && time.Now().Before(over); _, fences = b.agent.notices.now() {
		select {
		case <-b.agent.next():
		case <-time.After(time.Until(over)):
		}
	}
	if _, fences := b.agent.notices.now(); len(fences) > 0 {
		t.Error("the evidence outlived a's return")
	}
}

func (a *Agent) next() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sampled
}

// A demotion is announced: the proxy stops before the node does, and says when
// it has.
func TestDemoteWaitsForTheProxies(t *testing.T) {
	a, b := newNode(t, "a", ""), newNode(t, "b", "")
	w := watch(t, "", a, b)
	a.says(t, healthy)
	until(t, w, "a writes", writer("a"))
	w.ReportUse("a", true)
	answer := make(chan *Noticed, 1)
	go func() {
		n, err := Notify(t.Context(), a.cfg, &Notice{Action: "demote", Node: "a", Wait: patience})
		if err != nil {
			t.Error(err)
		}
		answer <- n
	}()
	left := until(t, w, "a leaves", reason("demoting"))
	if left.Leaving != "a" {
		t.Errorf("leaving %q", left.Leaving)
	}
	select {
	case n := <-answer:
		t.Fatalf("demote returned while a proxy writes: %+v", n)
	case <-time.After(100 * time.Millisecond):
	}
	w.ReportUse("a", false)
	if n := <-answer; n == nil || n.Proxies != 1 || n.Writing != 0 {
		t.Fatalf("%+v", n)
	}
	a.says(t, standby)
	until(t, w, "a has left", reason("no-primary"))
	a.says(t, healthy)
	until(t, w, "a is back", writer("a"))
	if n, err := Notify(t.Context(), a.cfg, &Notice{Action: "demote", Node: "b"}); err == nil {
		t.Errorf("a's agent demoted b: %+v", n)
	}
}

func TestSilentAgentIsNotBelieved(t *testing.T) {
	a, b := newNode(t, "a", ""), newNode(t, "b", "")
	w := watch(t, "", a, b)
	a.says(t, alone)
	until(t, w, "a writes alone, b is seen", writer("a"))
	b.stop()
	until(t, w, "b's view is stale", reason("peer-unreachable"))
}

func TestWrongTokenIsRefusedAndCounted(t *testing.T) {
	a, b := newNode(t, "a", "token: right\n"), newNode(t, "b", "token: right\n")
	w := watch(t, ", token: wrong", a, b)
	a.says(t, healthy)
	over := time.Now().Add(patience)
	refused := func() uint64 { a.agent.mu.Lock(); defer a.agent.mu.Unlock(); return a.agent.refused }
	for refused() == 0 || w.Agents()[0].Failures["refused"] == 0 {
		if time.Now().After(over) {
			t.Fatal("not refused, or not counted")
		}
		<-a.agent.next()
	}
	if w.Current().Writer != "" {
		t.Error("believed an agent that refuses")
	}
	trusting := watch(t, ", token: right", a, b)
	until(t, trusting, "a writes", writer("a"))
}

func TestAgentOfAnotherNodeIsNotBelieved(t *testing.T) {
	a, b := newNode(t, "a", ""), newNode(t, "b", "")
	a.url, b.url = b.url, a.url
	w := watch(t, "", a, b)
	a.says(t, healthy)
	over := time.Now().Add(patience)
	for w.Agents()[0].Failures["malformed"] == 0 {
		if time.Now().After(over) {
			t.Fatal("the wrong node was believed")
		}
		<-a.agent.next()
	}
	if w.Current().Writer != "" {
		t.Errorf("%+v", w.Current())
	}
}
