package proxy

import (
	"encoding/binary"
	"fmt"
	"time"

	"signalbox/internal/wire"
	"signalbox/router"
)

// outcome is how the relay of one answer ended.
type outcome uint8

const (
	delivered  outcome = iota // the whole answer is with the client
	declined                  // a replica refused a write; the client has seen nothing
	lostEarly                 // the server was lost before the client had seen a byte
	lostMidway                // the server was lost in the middle of the answer
	clientGone                // the client could not be written to
	wantsFile                 // LOAD DATA LOCAL: the client sends a file now
	tooLate                   // the replica did not have what the read must find; the client has seen nothing
)

// exchange sends one request and relays its answer. mayDecline lets a refusal
// that only a replica gives (1290, 1792, 1836) be kept from the client.
func (s *session) exchange(c *serverConn, request []byte, kind wire.AnswerKind, mayDecline bool) outcome {
	buf := wire.GetBuffer()
	defer buf.Free()
	s.begin(c, kind)
	c.Begin()
	s.limitAnswer(c, mayDecline)
	n, err := c.sock.Exchange(request, buf[:])
	if err != nil {
		c.Lost()
		c.broken = err
		return lostEarly
	}
	return s.answered(c, buf[:], n, mayDecline)
}

// limitAnswer bounds the time to the first byte of an answer, where another
// server may be asked instead.
func (s *session) limitAnswer(c *serverConn, movable bool) {
	if limit := s.p.cfg.Reads.Timeout; limit > 0 && movable {
		_ = c.NetConn.SetReadDeadline(time.Now().Add(limit))
		c.limited = true
	}
}

// answered relays the answer of which b[:n] has come, its first bytes.
func (s *session) answered(c *serverConn, b []byte, n int, mayDecline bool) outcome {
	if c.limited {
		c.limited = false
		_ = c.NetConn.SetReadDeadline(time.Time{})
	}
	c.Answer()
	result := s.deliver(c, b, n, mayDecline)
	if result == lostEarly || result == lostMidway {
		c.Lost()
	} else {
		c.End()
	}
	return result
}

// begin prepares for an answer of c.
func (s *session) begin(c *serverConn, kind wire.AnswerKind) {
	c.answer.Reset(kind)
	s.got = router.Answer{Status: s.got.Status}
	s.learnt = s.state
	s.gtid = s.gtid[:0]
	s.silent = false
	s.wrote = false
}

// deliver relays the answer of which b[:n] has been read, until it is complete.
func (s *session) deliver(c *serverConn, b []byte, n int, mayDecline bool) outcome {
	for {
		used, err := s.forward(c, b[:n], &mayDecline)
		switch {
		case err == errDeclined:
			return declined
		case err == errInfile:
			return wantsFile
		case err != nil:
			return s.interrupted(c, err)
		case c.answer.Done():
			return delivered
		}
		n = copy(b, b[used:n])
		if n == len(b) {
			b = append(b, make([]byte, len(b))...)
		}
		m, err := c.sock.Read(b[n:])
		if err != nil {
			c.broken = err
			return s.interrupted(c, err)
		}
		n += m
	}
}

func (s *session) interrupted(c *serverConn, err error) outcome {
	if s.lost != nil {
		// The rest of the answer is unread: nothing else can use the connection.
		c.broken = fmt.Errorf("client left in the middle of an answer: %w", s.lost)
		return clientGone
	}
	c.broken = err
	if s.wrote {
		return lostMidway
	}
	return lostEarly
}

var (
	errDeclined = fmt.Errorf("replica declined")
	errInfile   = fmt.Errorf("local file wanted")
)

// forward passes on what b holds of the answer and returns how much that was.
// The bytes go out as they came; only an OK or EOF that the client would read
// in another form than the server sent is written anew.
func (s *session) forward(c *serverConn, b []byte, mayDecline *bool) (used int, err error) {
	a := &c.answer
	from := 0        // b[from:used] waits to be written as it is
	out := s.out[:0] // what was written anew, with what came before it
	stopped := error(nil)
	for stopped == nil {
		n, size, stop, err := a.Scan(b[used:])
		used += n
		if err != nil {
			return used, fmt.Errorf("answer of %s: %w", c.Server.Name, err)
		}
		if !stop {
			break
		}
		packet := b[used : used+size]
		if *mayDecline {
			*mayDecline = false
			if a.Packet == wire.PacketErr && onlyReplicaSays(a.Result.Code) {
				return used, errDeclined
			}
		}
		s.learn(c, packet)
		if !s.passes(c) {
			out = append(out, b[from:used]...)
			out = s.rewrite(out, c, packet)
			from = used + size
		}
		used += size
		if a.Packet == wire.PacketInfile {
			stopped = errInfile
		}
	}
	if used > from && len(out) > 0 {
		out = append(out, b[from:used]...)
		from = used
	}
	if len(out) > 0 {
		err = s.toClient(out)
		s.out = out[:0]
		if cap(s.out) > maxKeptOut {
			s.out = nil
		}
	} else if used > from {
		err = s.toClient(b[from:used])
	}
	if err == nil {
		err = stopped
	}
	return used, err
}

// maxKeptOut is the largest rewriting buffer, in bytes, that a session keeps.
const maxKeptOut = 512

// onlyReplicaSays are the errors by which a replica refuses to write:
// ER_OPTION_PREVENTS_STATEMENT (--read-only), ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION,
// ER_READ_ONLY_MODE.
func onlyReplicaSays(code uint16) bool { return code == 1290 || code == 1792 || code == 1836 }

// passes tells whether a packet that Scan stopped at means the same to the
// client as to the proxy. A server connection never has DEPRECATE_EOF when the
// client has not; it may lack it where the server is old.
func (s *session) passes(c *serverConn) bool {
	a := &c.answer
	switch a.Packet {
	case wire.PacketOK:
		if s.tracking != a.Tracking && len(a.Result.Info) > 0 {
			return false
		}
		return len(a.Result.State) == 0 || s.tracking && s.tracksItself
	case wire.PacketEOF:
		return s.deprecateEOF == a.DeprecateEOF
	case wire.PacketErr:
		return !s.refusedByReplica(c)
	}
	return true
}

// refusedByReplica tells whether a write in a read-only transaction was refused
// because its server is a replica. The primary would have given the
// transaction as the reason (ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION).
func (s *session) refusedByReplica(c *serverConn) bool {
	return c != s.primary && s.route.InTransaction() && (c.answer.Result.Code == 1290 || c.answer.Result.Code == 1836)
}

// rewrite appends the client's form of an OK or EOF packet. An EOF after column
// definitions has no form where the client has DEPRECATE_EOF: it is left out,
// and the sequence numbers after it move down.
func (s *session) rewrite(out []byte, c *serverConn, packet []byte) []byte {
	a := &c.answer
	seq, head := packet[3], packet[wire.HeaderLen]
	if a.Packet == wire.PacketErr {
		a.Result.Code = 1792
		return wire.AppendErr(out, seq, 1792, "25006", "Cannot execute statement in a READ ONLY transaction")
	}
	if a.Packet == wire.PacketEOF {
		if !a.Ends {
			a.SeqDelta--
			return out
		}
		head = 0xfe
	}
	if len(a.Result.State) > 0 && s.tracking {
		a.Result.State = shownState(a.Result.State)
	}
	return wire.AppendOK(out, seq, head, &a.Result, s.tracking)
}

// learn keeps what a packet says about the session.
func (s *session) learn(c *serverConn, packet []byte) {
	a := &c.answer
	switch a.Packet {
	case wire.PacketErr:
		s.got.Failed, s.got.Code = true, a.Result.Code
	case wire.PacketPrepared:
		s.learnPrepared(c, packet)
	case wire.PacketOK, wire.PacketEOF:
		if !a.Ends {
			return
		}
		s.silent = a.Packet == wire.PacketEOF
		s.got.Status, s.got.Warnings = a.Result.Status, a.Result.Warnings
		if a.Packet == wire.PacketOK && a.Delivered == 0 {
			s.affected = int64(a.Result.AffectedRows)
			if a.Result.LastInsertID != 0 {
				s.lastInsertID = a.Result.LastInsertID
			}
		}
		if len(a.Result.State) > 0 {
			s.learnState(a.Result.State)
		}
	}
}

// learnState reads session tracking.
func (s *session) learnState(data []byte) {
	tracked := wire.TrackedState(data)
	var e wire.Tracked
	for tracked.Next(&e) {
		switch e.Kind {
		case wire.TrackSchema:
			s.learnt = s.learnt.withSchema(string(e.Value))
		case wire.TrackStateChange:
			s.got.StateChanged = true
		case wire.TrackGTIDs:
			s.learnPosition(e.Value)
		case wire.TrackVariable:
			switch effectOf(e.Name) {
			case replay:
				s.learnt = s.learnt.with(string(e.Name), string(e.Value))
			case position:
				s.learnPosition(e.Value)
			case takeover:
				s.tracksItself = true
				s.got.Unreplayable = true
			case bind:
				s.got.Unreplayable = true
			}
		}
	}
}

// learnPosition adds to the positions that the answer reports: one of several
// results may each bring its own.
func (s *session) learnPosition(text []byte) {
	if len(s.gtid) > 0 && len(text) > 0 {
		s.gtid = append(s.gtid, ',')
	}
	s.gtid = append(s.gtid, text...)
}

// toClient writes to the client; a failure ends the session.
func (s *session) toClient(b []byte) error {
	s.wrote = true
	if err := s.sock.Write(b); err != nil {
		s.lost = err
		return err
	}
	return nil
}

// learnPrepared gives a newly prepared statement the client's number, in place.
func (s *session) learnPrepared(c *serverConn, packet []byte) {
	p := packet[wire.HeaderLen:]
	if s.preparing == nil {
		return
	}
	c.know(s.preparing, binary.LittleEndian.Uint32(p[1:]))
	s.preparing.params = int(binary.LittleEndian.Uint16(p[7:]))
	binary.LittleEndian.PutUint32(p[1:], s.preparing.id)
}
