package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// changes is how many role changes each source is measured over.
func changes() int {
	if n, err := strconv.Atoi(os.Getenv("SIGNALBOX_LAB_CHANGES")); err == nil && n > 0 {
		return n
	}
	return 20
}

// From the kernel's notification of a role change, as another process in the
// guest receives it, to the proxy's decision; the permit delay is not in it: a
// promotion counts when the proxy has begun to think of the node.
func TestTimeToDecision(t *testing.T) {
	f := before(t)
	serving, other := f.writer(t)
	defer f.restore(t, serving)
	must(t, serving.StopServing(t.Context()))
	must(t, serving.Demote(t.Context()))
	must(t, other.WatchPushes(t.Context()))
	defer func() {
		for _, n := range f.Nodes {
			must(t, f.restartAgent(context.Background(), n, "auto"))
		}
	}()
	t.Logf("%-8s %8s %8s %8s  role change to decision, %d changes", "source", "p50", "p99", "max", changes())
	for _, source := range []string{"netlink", "events2", "proc"} {
		for _, n := range f.Nodes {
			must(t, f.restartAgent(t.Context(), n, source))
		}
		must(t, f.awaitReason(t.Context(), "no-primary"))
		// The first two wait for the proxy to have connected to the new agents.
		f.change(t, other, "primary", source)
		f.change(t, other, "secondary", source)
		var took []time.Duration
		for len(took) < changes() {
			took = append(took, f.change(t, other, "primary", source), f.change(t, other, "secondary", source))
		}
		slices.Sort(took)
		at := func(q float64) time.Duration {
			return took[int(q*float64(len(took)-1)+0.5)].Round(100 * time.Microsecond)
		}
		t.Logf("%-8s %8s %8s %8s", source, at(0.5), at(0.99), at(1))
		// A source that pushes polls every 2 s here.
		if source != "proc" && at(0.5) > 500*time.Millisecond {
			t.Errorf("%s: half of the decisions took longer than %s: pushes do not drive them", source, at(0.5))
		}
	}
}

// change changes the role of n and returns how long the proxy took to decide.
func (f *front) change(t *testing.T, n *Node, to, source string) time.Duration {
	t.Helper()
	ctx := t.Context()
	_, seen, _ := n.Pushed(ctx, 0)
	decisions, err := f.decisions()
	must(t, err)
	must(t, n.run(ctx, "drbdsetup "+to+" 0"))
	var decided time.Time
	must(t, condition(ctx, "a decision on "+n.Name+" "+to, func() error {
		now, err := f.decisions()
		if err == nil && len(now) <= len(decisions) {
			err = fmt.Errorf("there is none by %s", source)
		}
		if err == nil {
			decided = now[len(decisions)]
		}
		return err
	}))
	var at time.Time
	must(t, condition(ctx, "the kernel's notification", func() (err error) {
		at, _, err = n.Pushed(ctx, seen)
		return err
	}))
	must(t, condition(ctx, "the proxy to be done", func() error {
		s, err := f.status(ctx)
		if want := map[string]bool{"primary": false, "secondary": true}[to]; err == nil && (s.Authority.Reason == "no-primary") != want {
			err = fmt.Errorf("the authority is %+v", s.Authority)
		}
		return err
	}))
	return decided.Sub(at)
}

// decisions are the times of the proxy's decisions, from its log.
func (f *front) decisions() (list []time.Time, err error) {
	text, err := os.ReadFile(f.log)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			Time time.Time `json:"time"`
			Msg  string    `json:"msg"`
		}
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Msg == "authority" {
			list = append(list, e.Time)
		}
	}
	return list, lines.Err()
}
