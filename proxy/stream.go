package proxy

import (
	"encoding/binary"
	"fmt"
	"io"

	"signalbox/internal/wire"
)

// sendFile goes on with LOAD DATA LOCAL after the server has asked for the
// file: the client's packets go to the server up to the empty one, then the
// server's verdict comes back.
func (s *session) sendFile(w *work, c *serverConn) error {
	s.running.Store(c)
	defer s.running.Store(nil)
	if err := s.copyFrames(c, func(n int) bool { return n == 0 }); err != nil {
		return err
	}
	c.answer.Resume()
	buf := wire.GetBuffer()
	defer buf.Free()
	n, err := c.sock.Read(buf[:])
	if err != nil {
		c.broken = err
		return s.serverLost(w, c)
	}
	switch s.deliver(c, buf[:], n, false) {
	case delivered:
		return s.finish(w, c)
	case clientGone:
		return s.lost
	case wantsFile:
		return s.sendFile(w, c)
	}
	if s.wrote {
		return fmt.Errorf("server %s was lost after LOAD DATA LOCAL: %w", c.Server.Name, c.broken)
	}
	return s.serverLost(w, c)
}

// copyFrames copies frames of the client to the server until last says that
// one, by the length of its payload, was the last.
func (s *session) copyFrames(c *serverConn, last func(n int) bool) error {
	for {
		n, err := s.copyFrame(c, nil)
		if err != nil {
			return err
		}
		if last(n) {
			return nil
		}
	}
}

// copyFrame copies one frame to the server, with its first bytes, header
// included, put in the place of what the client sent there. A lost server is
// noted in c.broken and the rest of the frame is read and thrown away, so that
// the client can be told.
func (s *session) copyFrame(c *serverConn, first []byte) (length int, err error) {
	var h [wire.HeaderLen]byte
	if first == nil {
		if _, err := io.ReadFull(s, h[:]); err != nil {
			return 0, fmt.Errorf("read from client: %w", err)
		}
		first = h[:]
	}
	length = wire.PayloadLen(first)
	s.feed(c, first)
	buf := wire.GetBuffer()
	defer buf.Free()
	for left := length + wire.HeaderLen - len(first); left > 0; {
		n, err := s.Read(buf[:min(left, len(buf))])
		if err != nil {
			return length, fmt.Errorf("read from client: %w", err)
		}
		s.feed(c, buf[:n])
		left -= n
	}
	return length, nil
}

func (s *session) feed(c *serverConn, b []byte) {
	if c.broken != nil {
		return
	}
	if err := c.sock.Write(b); err != nil {
		c.broken = err
	}
}

// streamed is how much of a streamed command is looked at, in bytes.
const streamed = wire.BufferLen - wire.HeaderLen

// streamCommand runs a command too long to hold: its beginning decides, the
// rest follows to the server as it comes. What is too long to be read whole is
// never a read.
func (s *session) streamCommand(length int) error {
	head := make([]byte, wire.HeaderLen+streamed)
	if _, err := io.ReadFull(s, head); err != nil {
		return err
	}
	switch cmd := head[wire.HeaderLen]; cmd {
	case wire.ComQuery:
		st := s.p.classifier.ClassifyPrefix(head[wire.HeaderLen+1:], s.mode())
		w := s.begun(st, head, wire.AnswerQuery)
		return s.stream(&w, nil)
	case wire.ComStmtExecute:
		st, err := s.named(head, "mysqld_stmt_execute")
		if st == nil {
			return s.discard(head, err)
		}
		w := s.begun(st.st, head, wire.AnswerQuery)
		return s.stream(&w, st)
	case wire.ComStmtSendLongData:
		st, err := s.dataHolder(head)
		if st == nil {
			return s.discard(head, err)
		}
		binary.LittleEndian.PutUint32(head[wire.HeaderLen+1:], st.on.prepared[st.id].id)
		return s.copyCommand(st.on, head)
	default:
		return fmt.Errorf("command %#x of %d bytes or more", cmd, length)
	}
}

// discard reads the rest of a streamed command that is not run.
func (s *session) discard(head []byte, err error) error {
	if err != nil {
		return err
	}
	return s.copyCommand(&serverConn{broken: io.ErrClosedPipe}, head)
}

// copyCommand sends a streamed command whose beginning is head: a frame, and
// the frames that continue it.
func (s *session) copyCommand(c *serverConn, head []byte) error {
	n, err := s.copyFrame(c, head)
	total := int64(n)
	for err == nil && n == wire.MaxPayload {
		if n, err = s.copyFrame(c, nil); err == nil {
			total += int64(n)
			if limit := int64(s.p.cfg.Limits.MaxPacket); total > limit {
				_ = s.fault(faultTooLarge(limit))
				return fmt.Errorf("statement of more than %d bytes, limits.max_packet", limit)
			}
		}
	}
	return err
}

// stream runs a streamed statement on the primary.
func (s *session) stream(w *work, prep *statement) error {
	if w.d.Deny != "" {
		if err := s.discard(w.request, nil); err != nil {
			return err
		}
		return s.fault(faultDenied(w.d.Deny))
	}
	c, err := s.connect(w)
	if err == nil && prep != nil {
		err = s.headFor(c, prep, w)
	}
	if err != nil {
		if derr := s.discard(w.request, nil); derr != nil {
			return derr
		}
		return s.refuse(w, err)
	}
	s.running.Store(c)
	defer s.running.Store(nil)
	s.begin(c, w.kind)
	if err := s.copyCommand(c, w.request); err != nil {
		return err
	}
	if c.broken != nil {
		return s.serverLost(w, c)
	}
	buf := wire.GetBuffer()
	defer buf.Free()
	n, err := c.sock.Read(buf[:])
	if err != nil {
		c.broken = err
		return s.serverLost(w, c)
	}
	switch s.deliver(c, buf[:], n, false) {
	case delivered:
		return s.finish(w, c)
	case wantsFile:
		return s.sendFile(w, c)
	case clientGone:
		return s.lost
	}
	return s.serverLost(w, c)
}

// headFor puts the server's statement number into the beginning of a streamed
// execution. Types that the server has not seen cannot be put in, as every
// frame would move: the statement is then prepared again by the client.
func (s *session) headFor(c *serverConn, prep *statement, w *work) error {
	here, err := s.preparedOn(c, prep)
	if err != nil {
		return err
	}
	bound := executeBitmap + (prep.params+7)/8
	if prep.params > 0 && bound < len(w.request) {
		if w.request[bound] == 0 && !here.typesSent {
			return &Fault{1105, "HY000", "signalbox: the statement moved to another server and its parameter types were not sent again; prepare it anew"}
		}
		s.withTypes(here, prep, w.request)
	}
	binary.LittleEndian.PutUint32(w.request[wire.HeaderLen+1:], here.id)
	return nil
}
