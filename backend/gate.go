package backend

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Writer is who may take writes now, as the Gate has carried it out. It is
// immutable.
type Writer struct {
	Server   *Server // nil for nobody
	Leaving  *Server // the writer before: what has begun there may end, nothing new may begin
	Paused   *Server // the writer before, whose I/O is frozen: what has begun there waits, nothing new may begin
	Epoch    uint64
	Reason   string // stable code
	Sentence string // for people
}

// holder is whose connections are open, nil for nobody.
func (w *Writer) holder() *Server {
	switch {
	case w.Server != nil:
		return w.Server
	case w.Leaving != nil:
		return w.Leaving
	}
	return w.Paused
}

// Gate is the only way to a connection that may write. It carries out a change
// of authority in the one safe order: stop handing out the old writer, cut every
// connection to it, then open the new one.
type Gate struct {
	current atomic.Pointer[Writer]

	mu      sync.Mutex // guards what follows
	conns   map[*Conn]struct{}
	changed chan struct{}

	cut, switches atomic.Uint64
}

// NewGate returns a closed gate.
func NewGate() *Gate {
	g := &Gate{conns: make(map[*Conn]struct{}), changed: make(chan struct{})}
	g.current.Store(&Writer{Reason: "starting", Sentence: "the proxy has just started"})
	return g
}

// Current is the writer now, never nil.
func (g *Gate) Current() *Writer { return g.current.Load() }

// Changed returns a channel that is closed at the next change of Current. Take
// it before Current, or a change in between is missed.
func (g *Gate) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// Admit registers a connection for writing. It returns false when epoch is no
// longer the current one: the connection must then be closed unused.
func (g *Gate) Admit(c *Conn, epoch uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w := g.current.Load(); w.Server != c.Server || w.Epoch != epoch {
		return false
	}
	c.Epoch = epoch
	g.conns[c] = struct{}{}
	return true
}

// Leave forgets a connection that its owner closes.
func (g *Gate) Leave(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

// Set makes w the writer. When it returns, every connection of another epoch is
// closed, and was closed before w could be seen. A writer that becomes the one
// that is leaving or paused keeps its connections, and so does one whose pause
// ends.
func (g *Gate) Set(w Writer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.current.Load()
	if *now == w {
		return
	}
	if h := w.holder(); h == nil || h != now.holder() || w.Epoch != now.Epoch {
		w.Leaving, w.Paused = nil, nil
		if now.Server != nil {
			g.publish(Writer{Reason: w.Reason, Sentence: w.Sentence, Epoch: now.Epoch})
		}
		g.cutAll()
		if w.Server != nil {
			g.switches.Add(1)
		}
	}
	g.publish(w)
}

func (g *Gate) publish(w Writer) {
	g.current.Store(&w)
	close(g.changed)
	g.changed = make(chan struct{})
}

// cutAll closes all connections. A goroutine that is in the middle of a
// statement on one wakes up with an error.
func (g *Gate) cutAll() {
	for c := range g.conns {
		c.cut.Store(true)
		abort(c.NetConn)
		delete(g.conns, c)
		g.cut.Add(1)
	}
}

// abort closes at once. The shutdown comes first: a goroutine that is just
// about to write holds the descriptor open beyond Close, but not the socket.
func abort(nc net.Conn) {
	if c, ok := nc.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	_ = nc.SetDeadline(time.Unix(1, 0))
	_ = nc.Close()
}

// Busy is how many connections have a statement running or a transaction open.
func (g *Gate) Busy() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for c := range g.conns {
		if c.Busy.Load() {
			n++
		}
	}
	return n
}

// Cut is how many connections were cut.
func (g *Gate) Cut() uint64 { return g.cut.Load() }

// Switches is how often a writer was opened.
func (g *Gate) Switches() uint64 { return g.switches.Load() }
