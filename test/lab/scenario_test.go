package lab

import (
	"fmt"
	"strings"
	"testing"
)

// writer is the node that serves, and the other.
func (f *front) writer(t *testing.T) (serving, other *Node) {
	t.Helper()
	s, err := f.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	switch s.Authority.Writer {
	case "db1":
		return f.Nodes[0], f.Nodes[1]
	case "db2":
		return f.Nodes[1], f.Nodes[0]
	}
	t.Fatalf("nobody may write: %+v", s.Authority)
	return nil, nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// held tells that a write waits: it is not refused and does not run.
func (f *front) held(t *testing.T, reasons ...string) {
	t.Helper()
	must(t, f.awaitReason(t.Context(), reasons...))
	must(t, condition(t.Context(), "writes to wait", func() error {
		s, err := f.status(t.Context())
		if err == nil && s.Waiting == 0 {
			err = fmt.Errorf("none waits; %+v", s.Authority)
		}
		return err
	}))
}

// reads tells that the replica answers, whatever the writer does.
func (f *front) reads(t *testing.T) {
	t.Helper()
	if err := f.read(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestHealthyRouting(t *testing.T) {
	f := before(t)
	r := f.record(t)
	r.more(t)
	s, err := f.status(t.Context())
	must(t, err)
	for _, n := range s.Authority.Nodes {
		if n.Source != "agent, netlink" {
			t.Errorf("%s is read by %q, want netlink", n.Node, n.Source)
		}
	}
	serving, _ := f.writer(t)
	r.check(t, serving)
}

func TestPlannedSwitchover(t *testing.T) {
	f := before(t)
	from, to := f.writer(t)
	r := f.record(t)
	must(t, f.Switchover(t.Context(), from, to, func() error { return f.notify(t.Context(), from, "demote "+from.Name) }))
	must(t, f.awaitReason(t.Context(), "healthy"))
	r.more(t)
	r.check(t, to)
	if len(r.errs) > 0 {
		t.Errorf("%d errors in a planned switchover, such as %v", len(r.errs), r.errs[0])
	}
}

func TestPowerCut(t *testing.T) {
	f := before(t)
	lost, survivor := f.writer(t)
	defer f.restore(t, survivor)
	r := f.record(t)
	lost.PowerCut()
	must(t, survivor.Until(t.Context(), "cs:WFConnection"))
	f.held(t, "no-fresh-view")
	f.reads(t)
	must(t, survivor.Activate(t.Context()))
	f.held(t, "peer-unreachable") // the survivor or one half of a split brain?
	must(t, f.notify(t.Context(), survivor, "fenced "+lost.Name))
	r.more(t)
	r.check(t, survivor)
}

func TestLinkCutWithBothEndsAlive(t *testing.T) {
	f := before(t)
	serving, _ := f.writer(t)
	defer f.restore(t, serving)
	r := f.record(t)
	must(t, f.CutLink(t.Context()))
	must(t, f.awaitReason(t.Context(), "peer-unreachable"))
	r.more(t) // the other node is seen to be Secondary
	must(t, f.HealLink(t.Context()))
	must(t, f.awaitReason(t.Context(), "healthy"))
	r.more(t)
	r.check(t, serving)
}

// general is how many writes a node's server has been sent.
func general(t *testing.T, n *Node, table string) string {
	t.Helper()
	text, err := n.Run(t.Context(), "grep -c 'INSERT INTO "+table+"' /run/general.log; true")
	must(t, err)
	return strings.TrimSpace(text)
}

func TestSplitBrainStopsEveryWrite(t *testing.T) {
	f := before(t)
	serving, other := f.writer(t)
	defer f.restore(t, serving)
	r := f.record(t)
	must(t, f.CutLink(t.Context()))
	must(t, serving.Until(t.Context(), "cs:WFConnection"))
	must(t, other.Until(t.Context(), "cs:WFConnection"))
	must(t, other.Promote(t.Context()))
	f.held(t, "split-brain")
	must(t, other.Serve(t.Context()))
	before := [2]string{general(t, serving, r.table), general(t, other, r.table)}
	f.reads(t)
	s, err := f.status(t.Context())
	must(t, err)
	if s.Authority.Writer != "" || !strings.Contains(s.Authority.Sentence, "split brain") {
		t.Errorf("status: %+v", s.Authority)
	}
	must(t, f.HealLink(t.Context()))
	must(t, serving.Until(t.Context(), "cs:StandAlone"))
	must(t, f.awaitReason(t.Context(), "split-brain"))
	if after := [2]string{general(t, serving, r.table), general(t, other, r.table)}; after != before || after[1] != "0" {
		t.Errorf("writes ran in a split brain: %v, then %v", before, after)
	}
	f.restore(t, serving)
	r.more(t)
	r.check(t, serving)
}

func TestSuspendedIO(t *testing.T) {
	f := before(t)
	serving, _ := f.writer(t)
	defer f.restore(t, serving)
	r := f.record(t)
	must(t, serving.SuspendIO(t.Context()))
	f.held(t, "io-suspended")
	f.reads(t)
	must(t, serving.ResumeIO(t.Context()))
	must(t, f.awaitReason(t.Context(), "healthy"))
	r.more(t)
	r.check(t, serving)
}

func TestDetachedPrimaryGoesOnOverTheNet(t *testing.T) {
	f := before(t)
	serving, other := f.writer(t)
	defer f.restore(t, other) // its disk is good whatever happens
	r := f.record(t)
	must(t, serving.Detach(t.Context()))
	must(t, f.awaitReason(t.Context(), "diskless-primary"))
	r.more(t)
	must(t, serving.Attach(t.Context()))
	must(t, f.awaitReason(t.Context(), "healthy"))
	r.more(t)
	r.check(t, serving)
}

// A Primary that is being brought up to date serves from its peer; when the
// link goes then, its own disk is good for nothing, and no write may go there.
func TestResyncTargetThatLosesItsPeer(t *testing.T) {
	f := before(t)
	serving, other := f.writer(t)
	defer f.restore(t, other)
	r := f.record(t)
	must(t, serving.ReplaceDisk(t.Context()))
	must(t, f.awaitReason(t.Context(), "sync-target"))
	r.more(t)
	must(t, f.CutLink(t.Context()))
	must(t, f.awaitReason(t.Context(), "no-good-disk", "io-suspended"))
	f.reads(t)
	must(t, serving.KillDatabase(t.Context()))
	f.restore(t, other)
	r.more(t)
	r.check(t, other)
}

// A fence handler that says "peer unreachable, so it is off" without having made
// sure lets both sides go on: each has recorded the other as outdated.
func TestLyingFenceHandler(t *testing.T) {
	f := before(t)
	serving, other := f.writer(t)
	defer f.restore(t, serving)
	must(t, f.Fencing(t.Context(), "resource-and-stonith", 5))
	r := f.record(t)
	must(t, f.CutLink(t.Context()))
	must(t, serving.Until(t.Context(), "cs:WFConnection ro:Primary/Unknown ds:UpToDate/Outdated"))
	must(t, f.awaitReason(t.Context(), "peer-outdated")) // the other is seen to be Secondary
	r.more(t)
	must(t, other.Promote(t.Context()))
	f.held(t, "split-brain")
	f.reads(t)
	f.restore(t, serving)
	r.more(t)
	r.check(t, serving)
}

func TestResyncAndVerifyStopNothing(t *testing.T) {
	f := before(t)
	serving, other := f.writer(t)
	defer f.restore(t, serving)
	r := f.record(t)
	must(t, other.Invalidate(t.Context()))
	must(t, f.awaitReason(t.Context(), "sync-source"))
	r.more(t)
	must(t, f.awaitReason(t.Context(), "healthy"))
	must(t, other.Verify(t.Context()))
	must(t, f.awaitReason(t.Context(), "verifying"))
	r.more(t)
	must(t, f.awaitReason(t.Context(), "healthy"))
	r.check(t, serving)
	if len(r.errs) > 0 {
		t.Errorf("%d errors, such as %v", len(r.errs), r.errs[0])
	}
}
