package agent

import (
	"testing"
	"time"
)

// Confirmed fencing is kept while the host is up, and not a boot longer.
func TestFencesAreKeptForOneBoot(t *testing.T) {
	dir := t.TempDir()
	load := func(boot string) *notices {
		t.Helper()
		n, err := loadNotices(dir, boot, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := load("one").fence("db2"); err != nil {
		t.Fatal(err)
	}
	if _, fences := load("one").now(); len(fences) != 1 || fences[0].Node != "db2" {
		t.Errorf("after a restart of the agent: %v, want db2", fences)
	}
	if _, fences := load("two").now(); len(fences) != 0 {
		t.Errorf("after a restart of the host: %v, want none: db2 may have fenced this host since", fences)
	}
}

func TestFencedByMistakeIsTakenBack(t *testing.T) {
	n := newNode(t, "a", "")
	tell := func(action string) error {
		_, err := Notify(t.Context(), n.cfg, &Notice{Action: action, Node: "b"})
		return err
	}
	if err := tell("unfenced"); err == nil {
		t.Error("evidence that never was is taken back without a word")
	}
	if err := tell("fenced"); err != nil {
		t.Fatal(err)
	}
	if err := tell("unfenced"); err != nil {
		t.Fatal(err)
	}
	if _, fences := n.agent.notices.now(); len(fences) != 0 {
		t.Errorf("%v, want none", fences)
	}
}
