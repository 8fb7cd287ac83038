package sandbox

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// forwarder is a floating address: a port of loopback whose connections go to
// the active node. Moving it cuts them, as moving an address does. It can hold
// what goes to the server back for a while, as a long way does, and keep what the
// server says to itself, as a network that loses everything does.
type forwarder struct {
	ln    net.Listener
	group sync.WaitGroup
	delay atomic.Int64 // of what goes to the server, in nanoseconds

	mu    sync.Mutex
	to    string // empty: connections are refused
	conns map[net.Conn]struct{}
	clear chan struct{} // closed while what the server says goes through
	lost  bool          // clear is not closed
}

func newForwarder() (*forwarder, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &forwarder{ln: ln, conns: make(map[net.Conn]struct{}), clear: make(chan struct{})}
	close(f.clear)
	f.group.Go(f.accept)
	return f, nil
}

func (f *forwarder) address() string { return f.ln.Addr().String() }

func (f *forwarder) accept() {
	for {
		nc, err := f.ln.Accept()
		if err != nil {
			return
		}
		f.group.Go(func() { f.forward(nc) })
	}
}

func (f *forwarder) forward(nc net.Conn) {
	defer nc.Close()
	f.mu.Lock()
	to := f.to
	f.mu.Unlock()
	if to == "" {
		return
	}
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	f.mu.Lock()
	if f.to != to {
		f.mu.Unlock()
		return
	}
	f.conns[nc], f.conns[server] = struct{}{}, struct{}{}
	f.mu.Unlock()
	f.group.Go(func() {
		f.copy(server, nc, f.far)
		_ = server.Close()
	})
	f.copy(nc, server, f.untilClear)
	f.mu.Lock()
	delete(f.conns, nc)
	delete(f.conns, server)
	f.mu.Unlock()
}

// copy copies; what was read passes when held returns.
func (f *forwarder) copy(to io.Writer, from io.Reader, held func()) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		held()
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// far holds back for the delay of the moment. What comes meanwhile is held back
// longer: enough for requests that wait for their answers.
func (f *forwarder) far() {
	if d := f.delay.Load(); d > 0 {
		time.Sleep(time.Duration(d))
	}
}

// untilClear holds back what the server says while it is lost.
func (f *forwarder) untilClear() {
	f.mu.Lock()
	way := f.clear
	f.mu.Unlock()
	<-way
}

// lose begins or ends keeping back what the server says.
func (f *forwarder) lose(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if on == f.lost {
		return
	}
	if f.lost = on; on {
		f.clear = make(chan struct{})
	} else {
		close(f.clear)
	}
}

// point moves the address to a node, empty for none.
func (f *forwarder) point(to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = to
	for c := range f.conns {
		_ = c.Close()
	}
	clear(f.conns)
}

func (f *forwarder) close() {
	_ = f.ln.Close()
	f.lose(false)
	f.point("")
	f.group.Wait()
}
