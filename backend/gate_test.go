package backend

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sink accepts connections and reads what comes.
type sink struct {
	ln    net.Listener
	group sync.WaitGroup
}

func newSink(t *testing.T) *sink {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{ln: ln}
	s.group.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			s.group.Go(func() {
				defer nc.Close()
				buf := make([]byte, 64)
				for {
					if _, err := nc.Read(buf); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); s.group.Wait() })
	return s
}

// TestNoWriteAfterTheCut lets many sessions write while the writer moves to and
// fro. After Set has returned with another writer, a write on a connection of
// the old epoch must fail.
func TestNoWriteAfterTheCut(t *testing.T) {
	sinks := []*sink{newSink(t), newSink(t)}
	servers := []*Server{{Name: "a"}, {Name: "b"}}
	g := NewGate()
	var group sync.WaitGroup
	var stop atomic.Bool
	var writes, refused atomic.Int64
	for range 8 {
		group.Go(func() {
			for !stop.Load() {
				w := g.Current()
				if w.Server == nil {
					runtime.Gosched()
					continue
				}
				at := 0
				if w.Server == servers[1] {
					at = 1
				}
				nc, err := net.Dial("tcp", sinks[at].ln.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				c := &Conn{NetConn: nc, Server: w.Server}
				if !g.Admit(c, w.Epoch) {
					refused.Add(1)
					_ = nc.Close()
					continue
				}
				for !stop.Load() {
					// Read the writer before the write: if it is another's already, the
					// write must fail, because the cut comes before the change is seen.
					now := g.Current()
					_, err := nc.Write([]byte("x"))
					if err != nil {
						break
					}
					if now.Epoch != c.Epoch {
						t.Errorf("a write of epoch %d went out in epoch %d", c.Epoch, now.Epoch)
					}
					writes.Add(1)
				}
				g.Leave(c)
				_ = nc.Close()
			}
		})
	}
	for epoch := uint64(1); epoch <= 200; epoch++ {
		g.Set(Writer{Server: servers[epoch%2], Epoch: epoch})
		mark := writes.Load()
		for until := time.Now().Add(50 * time.Millisecond); writes.Load() < mark+5 && time.Now().Before(until); {
			runtime.Gosched()
		}
		if epoch%3 == 0 {
			g.Set(Writer{Epoch: epoch, Reason: "no-primary"})
		}
	}
	stop.Store(true)
	g.Set(Writer{Reason: "stopping"})
	group.Wait()
	if writes.Load() < 200 || g.Cut() == 0 {
		t.Fatalf("%d writes, %d cut: the test proved nothing", writes.Load(), g.Cut())
	}
}

func TestAdmitNeedsTheCurrentEpoch(t *testing.T) {
	g, a := NewGate(), &Server{Name: "a"}
	g.Set(Writer{Server: a, Epoch: 5})
	x, y := net.Pipe()
	defer y.Close()
	c := &Conn{NetConn: x, Server: a}
	if g.Admit(c, 4) || g.Admit(&Conn{Server: &Server{Name: "b"}}, 5) || !g.Admit(c, 5) {
		t.Fatal("admitted by the wrong epoch or server, or not by the right one")
	}
	changed := g.Changed()
	g.Set(Writer{Server: a, Epoch: 5, Sentence: "degraded"})
	select {
	case <-changed:
	default:
		t.Fatal("a new sentence is a change")
	}
	if g.Cut() != 0 {
		t.Fatal("the same writer in the same epoch keeps its connections")
	}
	g.Set(Writer{Server: a, Epoch: 6})
	if g.Cut() != 1 {
		t.Fatal("a new epoch of the same server cuts too")
	}
}

// A pause keeps the connections of the writer that it is for, and of nobody else.
func TestPausedWriterKeepsItsConnections(t *testing.T) {
	a, b := &Server{Name: "a"}, &Server{Name: "b"}
	for _, tt := range []struct {
		name     string
		next     []Writer
		cut      uint64
		switches uint64
	}{
		{"pause and go on", []Writer{{Paused: a, Epoch: 5}, {Paused: a, Epoch: 5, Reason: "confirming"}, {Server: a, Epoch: 5}}, 0, 1},
		{"pause given up", []Writer{{Paused: a, Epoch: 5}, {Epoch: 5}}, 1, 1},
		{"another writer", []Writer{{Paused: a, Epoch: 5}, {Server: b, Epoch: 6}}, 1, 2},
		{"the same, in another epoch", []Writer{{Paused: a, Epoch: 5}, {Server: a, Epoch: 6}}, 1, 2},
		{"pause of another", []Writer{{Paused: b, Epoch: 5}}, 1, 1},
		{"pause, then leave", []Writer{{Paused: a, Epoch: 5}, {Leaving: a, Epoch: 5}, {Epoch: 5}}, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := NewGate()
			g.Set(Writer{Server: a, Epoch: 5})
			x, y := net.Pipe()
			defer y.Close()
			if !g.Admit(&Conn{NetConn: x, Server: a}, 5) {
				t.Fatal("not admitted")
			}
			for i, w := range tt.next {
				g.Set(w)
				if w.Server == nil && g.Admit(&Conn{Server: a}, 5) {
					t.Fatalf("step %d: a connection was admitted", i)
				}
			}
			if g.Cut() != tt.cut || g.Switches() != tt.switches {
				t.Fatalf("%d cut and %d switches, want %d and %d", g.Cut(), g.Switches(), tt.cut, tt.switches)
			}
		})
	}
}
