// Package child runs programs that do not outlive this one: it starts them,
// waits until they are ready and ends them, by id only. It knows nothing of what
// they are, and serves the demo and the tests; what the daemon runs it watches
// itself.
package child

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"signalbox/internal/poll"
)

// Process is a program that was started. Its methods may be called from any
// goroutine.
type Process struct {
	Name string
	Log  string // the file with what it printed

	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; valid after done
}

// launcher starts every child from one thread that never ends: Pdeathsig is
// sent when the thread that started the child ends, not the process (prctl(2),
// PR_SET_PDEATHSIG).
var launcher = sync.OnceValue(func() chan func() {
	work := make(chan func())
	go launch(work)
	return work
})

func launch(work <-chan func()) {
	runtime.LockOSThread()
	for f := range work {
		f()
	}
}

// Launch starts cmd as a process group of its own, so that a terminal's Ctrl-C
// does not reach it, that the kernel kills when this program ends. The caller
// waits for it.
func Launch(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	result := make(chan error)
	launcher() <- func() { result <- cmd.Start() }
	return <-result
}

// Output runs cmd and returns what it printed.
func Output(cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := Launch(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	return out.Bytes(), err
}

// Start launches cmd with its output in the file log.
func Start(name, log string, cmd *exec.Cmd) (*Process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := Launch(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{Name: name, Log: log, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Pid is its process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when it has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running tells whether it has not ended; nil does not run.
func (p *Process) Running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Err is how it ended, nil for in good order or not yet.
func (p *Process) Err() error {
	if p.Running() {
		return nil
	}
	return p.err
}

// Signal sends it a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks it to end, kills it when it has not ended within patience, and
// returns when it has gone. It returns false when it had to be killed.
func (p *Process) Stop(patience time.Duration) (inOrder bool) {
	_ = p.Signal(syscall.SIGCONT)
	_ = p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		p.Kill()
		return false
	}
}

// Kill ends it at once and returns when it has gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Await calls ready until it succeeds, the program ends or limit is over. The
// error has the end of what the program printed.
func (p *Process) Await(ctx context.Context, limit time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-p.done:
			cancel(fmt.Errorf("it ended at once (%v)", p.err))
		case <-ctx.Done():
		}
	}()
	err := poll.Until(ctx, limit, ready)
	cancel(nil)
	<-watched
	if err != nil {
		return fmt.Errorf("%s is not ready: %w: %s", p.Name, err, p.LastWords())
	}
	return nil
}

// lastLines is how many lines LastWords are.
const lastLines = 8

// LastWords is the end of what it printed.
func (p *Process) LastWords() string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-lastLines):], "\n")
}
