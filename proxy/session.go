package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"signalbox/internal/wire"
	"signalbox/router"
)

// session is one authenticated client. One goroutine runs it; the fields that
// others read are atomic. An idle session holds no buffer.
type session struct {
	p      *Proxy
	client *Client
	sock   *wire.Socket
	ctx    context.Context

	tracking, deprecateEOF bool // what the client negotiated
	tracksItself           bool // the client has set what session tracking reports

	buf  *wire.Buffer // what the client has sent; nil while idle
	have int          // bytes of it

	route    router.Session
	textMode router.Mode
	state    *state // what every server connection of the session must have
	start    *state // what a new connection has
	primary  *serverConn
	others   []*serverConn // to replicas, one each
	last     *serverConn   // where the last statement ran
	anchor   *serverConn   // the replica that the session is pinned to, nil for none

	releasing bool // a statement that was held is running, see hold.leave

	trail trail // where the session's writes are

	statements    map[uint32]*statement
	lastStatement uint32
	preparing     *statement // whose number the answer in progress brings

	affected     int64
	lastInsertID uint64

	// What the answer in progress said.
	got    router.Answer
	learnt *state
	gtid   []byte // positions, with commas between them
	silent bool   // its last result ended with an EOF, which reports no position
	wrote  bool   // bytes of it went to the client
	lost   error  // writing to the client failed
	out    []byte

	end    error        // why the session ends
	resume func() error // goes on with a command that must read from the client
	large  bool         // the command at hand does not fit into buf

	running       atomic.Pointer[serverConn] // what a KILL interrupts
	idle          atomic.Int64               // since when, Unix nanoseconds; 0 while busy
	inTransaction atomic.Bool                // or pinned by anything else
	ending        atomic.Bool                // to be closed as soon as it is idle
}

func newSession(ctx context.Context, p *Proxy, c *Client) *session {
	s := &session{p: p, client: c, ctx: ctx, sock: wire.NewSocket(c.Conn)}
	s.tracking = c.Capability&wire.ClientSessionTrack != 0
	s.deprecateEOF = c.Capability&wire.ClientDeprecateEOF != 0
	s.begins()
	return s
}

// log is made anew for each of its rare uses: kept, it would be a good part of
// an idle session's memory.
func (s *session) log() *slog.Logger {
	return s.p.log.With("session", s.client.ID, "user", s.client.User.Name, "client", s.client.Remote)
}

// begins sets the state of a session that has done nothing yet.
func (s *session) begins() {
	s.start = &state{schema: s.client.Schema}
	s.state = s.start
	s.route = router.Session{User: s.client.User.Name, Schema: s.client.Schema, MaxLag: s.client.User.MaxLag,
		Consistency: s.p.consistencyOf(s.client.User)}
	s.route.Reset()
	s.got = router.Answer{Status: wire.StatusAutocommit}
	s.statements = nil
	s.tracksItself = false
	s.affected, s.lastInsertID = 0, 0
}

// run serves the client until it goes or ctx ends.
func (s *session) run() {
	defer s.close()
	defer func() {
		if r := recover(); r != nil {
			s.log().Error("session panicked", "panic", r, "stack", string(debug.Stack()))
			s.p.metrics.panics.Inc()
			_ = s.fault(&Fault{1105, "HY000", "signalbox: internal error; the session is closed"})
		}
	}()
	s.rest()
	err := s.serve()
	if err != nil && !errors.Is(err, errQuit) && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		s.log().Info("session ended", "reason", err)
		return
	}
	if s.p.debugging() {
		s.log().Debug("session ended", "reason", err)
	}
}

func (s *session) serve() error {
	if !s.sock.Raw() {
		return s.serveStream()
	}
	for {
		err := s.sock.Serve(s.readable)
		if s.end != nil {
			return s.end
		}
		if err != nil {
			return err
		}
		if err := s.slow(); err != nil {
			return err
		}
	}
}

// readable takes and runs what the client has sent. It returns true when the
// session ends or needs to wait for more of the client's bytes (see slow).
func (s *session) readable() bool {
	for {
		if s.buf == nil {
			s.buf = wire.GetBuffer()
		}
		n, err := s.sock.TryRead(s.buf[s.have:])
		if err == wire.ErrEmpty {
			s.rest()
			return false
		}
		if err != nil {
			s.end = err
			return true
		}
		s.have += n
		full := s.have == len(s.buf)
		s.commands()
		if s.end != nil || s.large || s.resume != nil {
			return true
		}
		if !full {
			s.rest()
			return false
		}
	}
}

// serveStream serves a connection whose bytes do not come from a descriptor.
// It waits with a few bytes of its own before it takes a buffer.
func (s *session) serveStream() error {
	var first [wire.HeaderLen]byte
	for {
		n, err := s.sock.Read(first[:])
		if err != nil {
			return err
		}
		s.buf = wire.GetBuffer()
		s.have = copy(s.buf[:], first[:n])
		for s.have > 0 {
			s.commands()
			if s.end != nil {
				return s.end
			}
			if s.large || s.resume != nil {
				if err := s.slow(); err != nil {
					return err
				}
				continue
			}
			if s.have == 0 {
				break
			}
			n, err := s.sock.Read(s.buf[s.have:])
			if err != nil {
				return err
			}
			s.have += n
		}
		s.rest()
	}
}

// rest marks the session idle, and lets the buffer go when it is empty.
func (s *session) rest() {
	s.p.hold.leave(s)
	if c := s.primary; c != nil && c.Busy.Load() && !s.route.InTransaction() {
		c.Busy.Store(false)
	}
	if s.have == 0 && s.buf != nil {
		s.buf.Free()
		s.buf = nil
	}
	if s.idle.Load() == 0 {
		s.idle.Store(time.Now().UnixNano())
	}
}

// commands runs the complete commands in the buffer.
func (s *session) commands() {
	off := 0
	for s.have-off >= wire.HeaderLen && s.end == nil && s.resume == nil {
		length := wire.PayloadLen(s.buf[off:])
		if s.buf[off+3] != 0 {
			s.end = fmt.Errorf("client's packet out of order: sequence number %d, want 0", s.buf[off+3])
			_ = s.fault(&Fault{1156, "08S01", "Got packets out of order"})
			break
		}
		if wire.HeaderLen+length > len(s.buf) {
			s.large = true
			break
		}
		if s.have-off < wire.HeaderLen+length {
			break
		}
		packet := s.buf[off : off+wire.HeaderLen+length]
		off += len(packet)
		s.idle.Store(0)
		if err := s.command(packet); err != nil {
			s.end = err
		}
	}
	if off > 0 {
		s.have = copy(s.buf[:], s.buf[off:s.have])
	}
}

// slow runs, outside of Serve, what has to wait for more from the client.
func (s *session) slow() error {
	s.idle.Store(0)
	if s.buf == nil {
		s.buf = wire.GetBuffer()
	}
	var err error
	if resume := s.resume; resume != nil {
		s.resume = nil
		err = resume()
	} else if s.large {
		s.large = false
		err = s.largeCommand()
	}
	if err != nil {
		return err
	}
	s.commands()
	if s.end != nil {
		return s.end
	}
	if s.resume != nil || s.large {
		return s.slow()
	}
	s.rest()
	return nil
}

// Read takes bytes of the client that may already be in the buffer; only for
// use in slow.
func (s *session) Read(b []byte) (int, error) {
	if s.have > 0 {
		n := copy(b, s.buf[:s.have])
		s.have = copy(s.buf[:], s.buf[n:s.have])
		return n, nil
	}
	return s.sock.Read(b)
}

// fault sends an error in answer to a command; the session goes on.
func (s *session) fault(f *Fault) error { return s.faultAt(f, 1) }

func (s *session) faultAt(f *Fault, seq byte) error {
	s.p.metrics.fault(f.Code)
	if s.p.debugging() {
		s.log().Debug("statement failed", "code", f.Code, "message", f.Message)
	}
	return s.toClient(wire.AppendErr(nil, seq, f.Code, f.SQLState, f.Message))
}

// ok sends an OK in answer to a command.
func (s *session) ok() error {
	r := wire.Result{Status: s.got.Status}
	return s.toClient(wire.AppendOK(nil, 1, 0, &r, s.tracking))
}

// stop ends the session at once, from any goroutine.
func (s *session) stop() { _ = s.client.Conn.Close() }

// drop closes one server connection of the session.
func (s *session) drop(c *serverConn) {
	if c == nil {
		return
	}
	if c.broken == nil {
		c.broken = net.ErrClosed
		_ = c.sock.Write([]byte{1, 0, 0, 0, wire.ComQuit})
	}
	s.p.cluster.Gate().Leave(c.Conn)
	c.Close()
	if s.last == c {
		s.last = nil
	}
	if s.anchor == c {
		s.anchor = nil
	}
	if s.primary == c {
		s.primary = nil
		return
	}
	for i, o := range s.others {
		if o == c {
			s.others = append(s.others[:i], s.others[i+1:]...)
			return
		}
	}
}

// dropAll closes every server connection.
func (s *session) dropAll() {
	s.drop(s.primary)
	for len(s.others) > 0 {
		s.drop(s.others[0])
	}
}

func (s *session) close() {
	s.p.hold.leave(s)
	s.dropAll()
	if s.buf != nil {
		s.buf.Free()
		s.buf = nil
	}
	_ = s.client.Conn.Close()
}
