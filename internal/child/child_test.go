package child

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, argv ...string) *Process {
	t.Helper()
	p, err := Start(argv[0], filepath.Join(t.TempDir(), "log"), exec.Command(argv[0], argv[1:]...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(time.Minute) })
	return p
}

func TestStop(t *testing.T) {
	p := start(t, "sleep", "600")
	if !p.Running() || p.Err() != nil {
		t.Errorf("running %v, %v", p.Running(), p.Err())
	}
	for range 2 { // the second does no harm
		if !p.Stop(time.Minute) {
			t.Error("a sleep had to be killed")
		}
	}
	if p.Running() || p.Err() == nil || syscall.Kill(p.Pid(), 0) != syscall.ESRCH {
		t.Errorf("still there: %v", p.Err())
	}
	if (*Process)(nil).Running() {
		t.Error("nothing runs")
	}
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	p := start(t, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
	err := p.Await(t.Context(), time.Minute, func(context.Context) error {
		if p.LastWords() != "ready" {
			return errors.New("it has not said so")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.Stop(50*time.Millisecond) || p.Running() {
		t.Error("it ended in good order")
	}
}

func TestAwaitTellsWhy(t *testing.T) {
	never := func(context.Context) error { return errors.New("not yet") }
	err := start(t, "sh", "-c", "echo no such option >&2; exit 3").Await(t.Context(), time.Minute, never)
	if err == nil || !strings.Contains(err.Error(), "no such option") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = start(t, "sleep", "600").Await(ctx, time.Minute, never)
	if err == nil || !strings.Contains(err.Error(), "not yet") || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestOutput(t *testing.T) {
	if out, err := Output(exec.Command("sh", "-c", "echo one; echo two >&2; exit 4")); err == nil || string(out) != "one\ntwo\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := Output(exec.Command("/nowhere")); err == nil {
		t.Error("no error for a program that is not there")
	}
	if _, err := Start("x", t.TempDir(), exec.Command("true")); err == nil {
		t.Error("no error for a log that is a directory")
	}
}
