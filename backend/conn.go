package backend

import (
	"time"

	"signalbox/config"
)

// Begin counts a statement that is about to be sent on c.
func (c *Conn) Begin() {
	c.End()
	now := Now()
	c.running.Store(int64(max(now, 1)))
	c.answered = false
	c.Server.Load.Begin(now)
}

// Answer notes that the first bytes of its answer have come.
func (c *Conn) Answer() {
	if began := c.running.Load(); began != 0 && !c.answered {
		c.answered = true
		now := Now()
		c.Server.Load.Answer(now, now-time.Duration(began))
	}
}

// End counts the statement as over, however it ended. Without a Begin before it
// it does nothing.
func (c *Conn) End() {
	if c.running.Load() != 0 {
		c.running.Store(0)
		c.Server.Load.End(c.answered)
	}
}

// Lost counts the statement as over because the connection failed: evidence
// against the server that needs no probe, unless it was cut by this proxy.
func (c *Conn) Lost() {
	c.End()
	if !c.cut.Load() {
		c.Server.fails()
	}
}

// Cut tells whether this proxy has closed the connection under its session.
func (c *Conn) Cut() bool { return c.cut.Load() }

// Keep says whether the session is pinned to the connection, so that a server
// that is drained does not lose it.
func (c *Conn) Keep(pinned bool) {
	if c.kept.Load() != pinned {
		c.kept.Store(pinned)
	}
}

// Close ends what runs, forgets the connection and closes it.
func (c *Conn) Close() {
	c.End()
	c.Server.leave(c)
	_ = c.NetConn.Close()
}

// enter keeps a connection for reads, to be cut when the server is taken out. The
// Gate keeps those that may write.
func (s *Server) enter(c *Conn) {
	if s.Role != config.RoleReplica {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
}

func (s *Server) leave(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Connections is how many sessions have a connection to the server for reads.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// cut closes the connections that which says, and returns how many. A session
// in the middle of a statement wakes up with an error.
func (s *Server) cut(which func(*Conn) bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if which(c) {
			c.cut.Store(true)
			abort(c.NetConn)
			delete(s.conns, c)
			n++
		}
	}
	return n
}

func idle(c *Conn) bool { return c.running.Load() == 0 && !c.kept.Load() }
func every(*Conn) bool  { return true }

// fails notes that live traffic failed on the server, and has it probed at once.
func (s *Server) fails() {
	s.Load.failed.Add(1)
	s.Fresh.doubt(Now())
	s.hurry()
}

// hurry has the server probed at once.
func (s *Server) hurry() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}
