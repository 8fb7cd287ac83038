package lab

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"signalbox/internal/child"
	"signalbox/internal/poll"
)

//go:embed init.sh
var initScript []byte

// Node is one DRBD node. Its guest runs between Boot and PowerCut.
type Node struct {
	Name    string // db1 or db2, its host name too
	Address string // on the service network
	number  int
	lab     *Lab

	formatted bool // its disk has DRBD's metadata

	mu      sync.Mutex // guards what follows
	cmd     *exec.Cmd
	gone    chan struct{} // closed when the guest has ended
	line    *os.File      // to the guest
	next    uint64
	waiting map[uint64]chan result
}

const (
	bootPatience = 60 * time.Second
	runPatience  = 90 * time.Second
)

// Boot starts the guest, waits until it listens, and brings DRBD up.
func (n *Node) Boot(ctx context.Context) error {
	dir := n.lab.opts.Dir
	script := filepath.Join(dir, "init.sh")
	if err := os.WriteFile(script, initScript, 0o755); err != nil {
		return err
	}
	fromHost, toGuest, err := os.Pipe()
	if err != nil {
		return err
	}
	fromGuest, toHost, err := os.Pipe()
	if err != nil {
		return err
	}
	console, err := os.Create(filepath.Join(dir, n.Name+".console"))
	if err != nil {
		return err
	}
	defer console.Close()
	cmd := exec.Command("linux.uml", "mem=512M", "rootfstype=hostfs", "rootflags=/", "ro", "init="+script,
		fmt.Sprintf("lab_node=%d", n.number), "lab_dir="+dir, "lab_program="+n.lab.opts.Program,
		"ubdb="+disk(dir, n.number), "con=null", "con0=null,fd:1", "ssl0=fd:3,fd:4", "umid="+n.Name+fmt.Sprint(os.Getpid()), "quiet",
		fmt.Sprintf("vec0:transport=tap,ifname=%s,mac=52:54:00:00:00:%02x", tap("r", n.number), n.number),
		fmt.Sprintf("vec1:transport=tap,ifname=%s,mac=52:54:00:00:01:%02x", tap("s", n.number), n.number))
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, console, console
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	cmd.ExtraFiles = []*os.File{fromHost, toHost}
	err = child.Launch(cmd)
	_, _ = fromHost.Close(), toHost.Close()
	if err != nil {
		return fmt.Errorf("boot %s: %w", n.Name, err)
	}
	ready := make(chan result, 1)
	n.mu.Lock()
	n.cmd, n.gone, n.line = cmd, make(chan struct{}), toGuest
	n.waiting = map[uint64]chan result{0: ready}
	gone := n.gone
	n.mu.Unlock()
	go func() {
		read(fromGuest, n.answered)
		_ = fromGuest.Close()
	}()
	go func() { _ = cmd.Wait(); close(gone) }()
	select {
	case <-ready:
	case <-gone:
		return fmt.Errorf("boot %s: it ended: %s", n.Name, n.Console())
	case <-time.After(bootPatience):
		n.PowerCut()
		return fmt.Errorf("boot %s: not ready in %s: %s", n.Name, bootPatience, n.Console())
	case <-ctx.Done():
		n.PowerCut()
		return fmt.Errorf("boot %s: %w", n.Name, ctx.Err())
	}
	if !n.formatted {
		if err := n.run(ctx, "drbdadm create-md --force mysql"); err != nil {
			return err
		}
		n.formatted = true
	}
	return n.run(ctx, "drbdadm up mysql")
}

func (n *Node) answered(r result) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.waiting[r.ID]; c != nil {
		delete(n.waiting, r.ID)
		c <- r
	}
}

// Console is the end of what the guest's kernel printed.
func (n *Node) Console() string {
	text, _ := os.ReadFile(filepath.Join(n.lab.opts.Dir, n.Name+".console"))
	return strings.TrimSpace(string(text[max(0, len(text)-2000):]))
}

// Run runs a shell script in the guest and returns what it printed.
func (n *Node) Run(ctx context.Context, script string) (string, error) {
	return n.do(ctx, order{Script: script})
}

// File is what a file in the guest says.
func (n *Node) File(ctx context.Context, path string) (string, error) {
	return n.do(ctx, order{File: path})
}

func (n *Node) do(ctx context.Context, o order) (string, error) {
	what := o.Script + o.File
	ctx, cancel := context.WithTimeout(ctx, runPatience)
	defer cancel()
	answer := make(chan result, 1)
	n.mu.Lock()
	if n.cmd == nil {
		n.mu.Unlock()
		return "", fmt.Errorf("%s: %s: it is off", n.Name, what)
	}
	n.next++
	gone := n.gone
	o.ID, o.Timeout = n.next, runPatience
	n.waiting[o.ID] = answer
	if t, ok := ctx.Deadline(); ok {
		o.Timeout = time.Until(t)
	}
	text, _ := json.Marshal(o) // of plain fields
	_, err := n.line.Write(append(text, '\n'))
	n.mu.Unlock()
	if err != nil {
		return "", fmt.Errorf("%s: %w", n.Name, err)
	}
	select {
	case r := <-answer:
		if r.Code != 0 {
			return r.Out, fmt.Errorf("%s: %s: exit status %d: %s", n.Name, what, r.Code, strings.TrimSpace(r.Out))
		}
		return r.Out, nil
	case <-gone:
		return "", fmt.Errorf("%s: %s: the guest is off", n.Name, what)
	case <-ctx.Done():
		return "", fmt.Errorf("%s: %s: %w", n.Name, what, ctx.Err())
	}
}

func (n *Node) run(ctx context.Context, script string) error {
	_, err := n.Run(ctx, script)
	return err
}

// PowerCut ends the guest as a loss of power does.
func (n *Node) PowerCut() {
	n.mu.Lock()
	cmd, gone, line := n.cmd, n.gone, n.line
	n.cmd = nil
	n.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	<-gone
	_ = line.Close()
}

// condition waits until ok succeeds.
func condition(ctx context.Context, what string, ok func() error) error {
	if err := poll.Until(ctx, runPatience, func(context.Context) error { return ok() }); err != nil {
		return fmt.Errorf("wait for %s: %w", what, err)
	}
	return nil
}
