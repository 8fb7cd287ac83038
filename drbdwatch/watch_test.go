package drbdwatch

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"signalbox/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func twoNodes(pathA, pathB string) *config.Config {
	return &config.Config{
		Servers: []config.Server{
			{Name: "a", Role: config.RoleDRBD, DRBD: config.DRBD{Source: "proc", File: pathA}},
			{Name: "b", Role: config.RoleDRBD, DRBD: config.DRBD{Source: "proc", File: pathB}}},
		Authority: config.Authority{Source: "drbd", Policy: "strict", Poll: 5 * time.Millisecond, PermitSamples: 3, LocalFresh: time.Second},
	}
}

func text(d Device) []byte { return []byte(head84 + " " + d.String() + "\n") }

func watching(t *testing.T, cfg *config.Config) *Watch {
	t.Helper()
	w, err := New(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// clockwork drives a Watch by hand.
type clockwork struct {
	*Watch
	now time.Time
}

func (c *clockwork) sample(a, b Device) *Authority {
	c.now = time.Now()
	c.nodes[0].take(Sample{State: &State{Version: "8.4.11", Devices: []Device{a}}, At: c.now}, true)
	c.nodes[1].take(Sample{State: &State{Version: "8.4.11", Devices: []Device{b}}, At: c.now}, true)
	c.step(c.now)
	return c.Current()
}

func TestPermissionIsSlowAndDenialIsNot(t *testing.T) {
	w := &clockwork{Watch: watching(t, twoNodes("", ""))}
	w.ReportProbe("a", up)
	w.ReportProbe("b", up)
	for i := range 2 {
		if a := w.sample(healthy, standby); a.Writer != "" || a.Reason != "confirming" {
			t.Fatalf("sample %d: %+v", i+1, a)
		}
	}
	w.step(w.now) // the same samples again confirm nothing
	if w.Current().Writer != "" {
		t.Fatal("confirmed without a new sample")
	}
	first := w.sample(healthy, standby)
	if first.Writer != "a" || first.Epoch == 0 {
		t.Fatalf("third sample: %+v", first)
	}
	if a := w.sample(with(healthy, func(d *Device) { d.CS, d.PeerDisk = "SyncSource", "Inconsistent" }), standby); a.Epoch != first.Epoch || a.Verdict != RouteDegraded {
		t.Fatalf("degraded: %+v", a)
	}
	if a := w.sample(standby, standby); a.Writer != "" || a.Reason != "no-primary" {
		t.Fatalf("one sample must be enough to deny: %+v", a)
	}
	for range 3 {
		w.sample(standby, healthy)
	}
	if a := w.Current(); a.Writer != "b" || a.Epoch <= first.Epoch {
		t.Fatalf("after the switch: %+v", a)
	}
}

// A writer whose I/O is frozen is kept, in its epoch, until hold.timeout: then,
// or when anything else is wrong with it, it is a writer like any other.
func TestFrozenWriterIsPaused(t *testing.T) {
	frozen := with(healthy, func(d *Device) { d.Suspended = true })
	start := func() (*clockwork, uint64) {
		cfg := twoNodes("", "")
		cfg.Hold.Timeout = time.Second
		w := &clockwork{Watch: watching(t, cfg)}
		w.ReportProbe("a", up)
		w.ReportProbe("b", up)
		if a := w.sample(frozen, standby); a.Paused != "" {
			t.Fatalf("paused before it was the writer: %+v", a)
		}
		for range 3 {
			w.sample(healthy, standby)
		}
		return w, w.Current().Epoch
	}
	w, epoch := start()
	if a := w.sample(frozen, standby); a.Writer != "" || a.Paused != "a" || a.Epoch != epoch || a.Reason != "io-suspended" {
		t.Fatalf("frozen: %+v", a)
	}
	for i := range 2 {
		if a := w.sample(healthy, standby); a.Writer != "" || a.Paused != "a" || a.Reason != "confirming" {
			t.Fatalf("sample %d after it: %+v", i+1, a)
		}
	}
	if a := w.sample(healthy, standby); a.Writer != "a" || a.Paused != "" || a.Epoch != epoch {
		t.Fatalf("it must go on in its epoch %d: %+v", epoch, a)
	}

	w.sample(frozen, standby)
	if a := w.sample(standby, standby); a.Paused != "" || a.Writer != "" {
		t.Fatalf("demoted: %+v", a)
	}
	for range 3 {
		w.sample(healthy, standby)
	}
	if a := w.Current(); a.Writer != "a" || a.Epoch <= epoch {
		t.Fatalf("it was not the writer in between, the epoch must rise: %+v", a)
	}

	w, epoch = start()
	w.sample(frozen, standby)
	w.step(w.now.Add(900 * time.Millisecond))
	if a := w.Current(); a.Paused != "a" {
		t.Fatalf("before hold.timeout: %+v", a)
	}
	w.step(w.now.Add(time.Second))
	if a := w.Current(); a.Paused != "" || a.Writer != "" {
		t.Fatalf("after hold.timeout: %+v", a)
	}
	if a := w.sample(frozen, standby); a.Paused != "" {
		t.Fatalf("paused anew: %+v", a)
	}
	for range 3 {
		w.sample(healthy, standby)
	}
	if a := w.Current(); a.Writer != "a" || a.Epoch <= epoch {
		t.Fatalf("its connections were cut, the epoch must rise: %+v", a)
	}

	w, _ = start()
	if a := w.sample(frozen, alone); a.Paused != "" {
		t.Fatalf("another node claims to be Primary: %+v", a)
	}
}

func TestFromWriterToWriterThroughNobody(t *testing.T) {
	w := &clockwork{Watch: watching(t, twoNodes("", ""))}
	w.ReportProbe("a", up)
	w.ReportProbe("b", up)
	for range 3 {
		w.sample(healthy, standby)
	}
	if a := w.sample(standby, healthy); a.Writer != "" {
		t.Fatalf("went straight to %s", a.Writer)
	}
}

func TestStaleViewEndsAuthority(t *testing.T) {
	w := &clockwork{Watch: watching(t, twoNodes("", ""))}
	w.ReportProbe("a", up)
	for range 3 {
		w.sample(alone, lonely)
	}
	if w.Current().Writer != "a" {
		t.Fatalf("%+v", w.Current())
	}
	w.step(w.now.Add(2 * time.Second))
	if a := w.Current(); a.Writer != "" || a.Reason != "no-fresh-view" {
		t.Fatalf("%+v", a)
	}
}

func TestEpochRisesAcrossRestarts(t *testing.T) {
	for _, dir := range []string{"", filepath.Join(t.TempDir(), "state")} {
		var last uint64
		for range 3 {
			cfg := twoNodes("", "")
			cfg.StateDir = dir
			w := &clockwork{Watch: watching(t, cfg)}
			w.ReportProbe("a", up)
			for range 3 {
				w.sample(healthy, standby)
			}
			if e := w.Current().Epoch; e <= last {
				t.Fatalf("epoch %d after %d (state_dir %q)", e, last, dir)
			} else {
				last = e
			}
		}
	}
}

func TestRunFollowsFiles(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write := func(path string, d Device) {
		if err := os.WriteFile(path+".new", text(d), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(a, healthy)
	write(b, standby)
	w := watching(t, twoNodes(a, b))
	w.ReportProbe("a", up)
	w.ReportProbe("b", up)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Run(ctx) }()
	until := func(ok func(*Authority) bool) {
		t.Helper()
		for {
			changed := w.Changed()
			if ok(w.Current()) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatalf("stuck at %+v", w.Current())
			}
		}
	}
	until(func(a *Authority) bool { return a.Writer == "a" })
	write(b, alone) // both claim
	until(func(a *Authority) bool { return a.Reason == "split-brain" && a.Writer == "" })
	write(a, lonely)
	until(func(a *Authority) bool { return a.Writer == "b" })
	if err := os.WriteFile(b, []byte("garbage"), 0o644); err != nil {
		t.Fatal(err)
	}
	until(func(a *Authority) bool { return a.Writer == "" && a.Reason == "no-fresh-view" })
	cancel()
	<-done
}

// The ping that an announced demotion waits for is sent once, after a decision
// that knew of it: before, the proxy might still begin to write there.
func TestDemotionIsAnsweredAfterTheDecision(t *testing.T) {
	f := newFeed(&config.Server{Name: "a"}, &config.Authority{RemoteFresh: time.Second}, func() {})
	answers := func(what string, want bool, do func()) {
		t.Helper()
		_, _, now := f.used()
		do()
		select {
		case <-now:
			if !want {
				t.Fatalf("%s: the agent is pinged", what)
			}
		default:
			if want {
				t.Fatalf("%s: the agent is not pinged", what)
			}
		}
	}
	report := func(leaving bool) { f.report(&Report{Node: "a", Leaving: leaving}, time.Now()) }
	decide := func() { f.view(time.Now()); f.decided() }
	for range 2 {
		answers("a decision without it", false, decide)
		answers("the announcement", false, func() { f.view(time.Now()); report(true) })
		answers("a decision on an older view", false, f.decided)
		answers("the decision that knows of it", true, decide)
		answers("the next", false, decide)
		answers("what follows from it", true, func() { f.use(true); f.use(false) })
		answers("its end", false, func() { report(false); decide() })
	}
}
