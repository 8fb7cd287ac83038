package lvslab

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signalbox/internal/poll"
)

// server is a real server that says its name to whoever connects, and then gives
// every line back.
type server struct {
	name     string
	accepted atomic.Int64

	mu       sync.Mutex // guards what follows
	listener net.Listener
	open     map[net.Conn]struct{}
	group    sync.WaitGroup
}

// serve starts one on all addresses of a namespace, until the test ends.
func (l *lab) serve(t *testing.T, s *space, name string, port int) *server {
	t.Helper()
	v := &server{name: name, open: make(map[net.Conn]struct{})}
	var err error
	l.do(s, func() { v.listener, err = net.Listen("tcp", fmt.Sprint(":", port)) })
	if err != nil {
		t.Fatalf("serve as %s: %v", name, err)
	}
	v.group.Go(v.accept)
	t.Cleanup(v.stop)
	return v
}

func (v *server) accept() {
	for {
		c, err := v.listener.Accept()
		if err != nil {
			return
		}
		v.accepted.Add(1)
		v.mu.Lock()
		v.open[c] = struct{}{}
		v.mu.Unlock()
		v.group.Go(func() {
			defer func() {
				_ = c.Close()
				v.mu.Lock()
				delete(v.open, c)
				v.mu.Unlock()
			}()
			if _, err := fmt.Fprintln(c, v.name); err != nil {
				return
			}
			for lines := bufio.NewScanner(c); lines.Scan(); {
				if _, err := fmt.Fprintln(c, lines.Text()); err != nil {
					return
				}
			}
		})
	}
}

func (v *server) stop() {
	_ = v.listener.Close()
	v.mu.Lock()
	for c := range v.open {
		_ = c.Close()
	}
	v.mu.Unlock()
	v.group.Wait()
}

// call is a client's connection.
type call struct {
	net.Conn
	in     *bufio.Reader
	server string // who answered
}

const patience = 3 * time.Second

// call connects from a client and reads who answers.
func (l *lab) call(from *space, to netip.AddrPort) (*call, error) {
	conn, err := l.dial(from, "tcp", to)
	if err != nil {
		return nil, err
	}
	c := &call{Conn: conn, in: bufio.NewReader(conn)}
	c.server, err = c.line()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *call) line() (string, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	text, err := c.in.ReadString('\n')
	return strings.TrimSpace(text), err
}

// echo sends a line and reads it back.
func (c *call) echo(text string) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c, text); err != nil {
		return err
	}
	back, err := c.line()
	if err == nil && back != text {
		err = fmt.Errorf("sent %q, got %q", text, back)
	}
	return err
}

// ask calls n times, one after the other, and counts who answered.
func (l *lab) ask(t *testing.T, from *space, to netip.AddrPort, n int, hold bool) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	for range n {
		c, err := l.call(from, to)
		if err != nil {
			t.Fatalf("call %s from %s: %v\n%s", to, from.name, err, run(t, "ipvsadm -Ln; ipvsadm -Lnc"))
		}
		counts[c.server]++
		if hold {
			t.Cleanup(func() { _ = c.Close() })
		} else {
			_ = c.Close()
		}
	}
	return counts
}

// eventually waits until ok has no error.
func eventually(t *testing.T, ok func() error) {
	t.Helper()
	if err := within(20*time.Second, ok); err != nil {
		t.Fatal(err)
	}
}

// within waits until ok has no error, for a time at most.
func within(most time.Duration, ok func() error) error {
	return poll.Until(context.Background(), most, func(context.Context) error { return ok() })
}
