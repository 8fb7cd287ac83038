package proxy

import (
	"errors"
	"fmt"
	"io"
	"time"

	"signalbox/internal/wire"
	"signalbox/router"
)

// command runs one command of the client; packet is the whole packet with its
// header. An error ends the session; whatever can be told to the client has
// been told.
func (s *session) command(packet []byte) error {
	if len(packet) == wire.HeaderLen {
		_ = s.fault(faultMalformed("it is empty"))
		return fmt.Errorf("client sent an empty packet as a command")
	}
	cmd, arg := packet[wire.HeaderLen], packet[wire.HeaderLen+1:]
	switch cmd {
	case wire.ComQuery:
		return s.run1(s.classify(arg), packet, wire.AnswerQuery)
	case wire.ComStmtExecute:
		return s.execute(packet)
	case wire.ComStmtPrepare:
		return s.prepare(arg, packet)
	case wire.ComStmtClose:
		return s.closeStatement(arg)
	case wire.ComStmtReset:
		return s.resetStatement(packet)
	case wire.ComStmtFetch:
		return s.fetch(packet)
	case wire.ComStmtSendLongData:
		return s.longData(packet)
	case wire.ComPing:
		return s.ok()
	case wire.ComQuit:
		return errQuit
	case wire.ComInitDB:
		return s.run1(s.p.fixed.use, packet, wire.AnswerQuery)
	case wire.ComFieldList:
		return s.run1(s.p.fixed.show, packet, wire.AnswerFields)
	case wire.ComStatistics:
		return s.run1(s.p.fixed.show, packet, wire.AnswerText)
	case wire.ComSetOption:
		return s.run1(s.p.fixed.unknown, packet, wire.AnswerQuery)
	case wire.ComDebug, wire.ComRefresh:
		return s.run1(s.p.fixed.write, packet, wire.AnswerQuery)
	case wire.ComProcessInfo:
		return s.run1(s.p.fixed.processes, packet, wire.AnswerQuery)
	case wire.ComProcessKill:
		if len(arg) < 4 {
			return s.fault(faultMalformed("COM_PROCESS_KILL without an id"))
		}
		id := uint64(arg[0]) | uint64(arg[1])<<8 | uint64(arg[2])<<16 | uint64(arg[3])<<24
		return s.kill(id, false)
	case wire.ComResetConnection:
		s.dropAll()
		s.begins()
		return s.ok()
	case wire.ComChangeUser:
		payload := append([]byte(nil), packet[wire.HeaderLen:]...)
		s.resume = func() error { return s.changeUser(payload) }
		return nil
	case wire.ComBinlogDump, wire.ComBinlogDumpGTID, wire.ComTableDump, wire.ComRegisterSlave:
		return s.fault(&Fault{1047, "08S01", "signalbox does not relay replication: connect the replica to the server itself"})
	}
	return s.fault(faultUnknownCommand(cmd))
}

func (s *session) classify(sql []byte) *router.Statement {
	return s.p.classifier.Classify(sql, s.mode())
}

// mode is how the session's servers read SQL text.
func (s *session) mode() router.Mode {
	m := s.textMode
	if s.got.Status&wire.StatusNoBackslash != 0 {
		m |= router.ModeNoBackslashEscapes
	}
	return m
}

// changeUser answers COM_CHANGE_USER: another account, a new session on the
// same connection.
func (s *session) changeUser(payload []byte) error {
	p := &clientPackets{s: s, seq: 1}
	changed, err := s.p.door.ChangeUser(s.client, payload, p)
	if err != nil {
		if f := (*Fault)(nil); errors.As(err, &f) {
			_ = s.faultAt(f, p.seq)
		}
		return fmt.Errorf("change user: %w", err)
	}
	s.dropAll()
	s.client = changed
	s.begins()
	r := wire.Result{Status: wire.StatusAutocommit}
	return s.toClient(wire.AppendOK(nil, p.seq, 0, &r, s.tracking))
}

// clientPackets reads and writes packets of one exchange with the client.
type clientPackets struct {
	s   *session
	seq byte
}

// maxAuthPacket bounds, in bytes, a packet of an authentication exchange.
const maxAuthPacket = 64 << 10

func (p *clientPackets) ReadPacket() ([]byte, error) {
	var h [wire.HeaderLen]byte
	if _, err := io.ReadFull(p.s, h[:]); err != nil {
		return nil, err
	}
	n := wire.PayloadLen(h[:])
	if n > maxAuthPacket {
		return nil, fmt.Errorf("packet of %d bytes during authentication", n)
	}
	p.seq = h[3] + 1
	b := make([]byte, n)
	_, err := io.ReadFull(p.s, b)
	return b, err
}

func (p *clientPackets) WritePacket(payload []byte) error {
	var b []byte
	b, p.seq = wire.AppendPacket(nil, p.seq, payload)
	return p.s.toClient(b)
}

// largeCommand runs the command at the head of the buffer, which does not fit
// into it.
func (s *session) largeCommand() error {
	length := wire.PayloadLen(s.buf[:])
	if limit := int64(s.p.cfg.Limits.MaxPacket); int64(length) > limit {
		_ = s.fault(faultTooLarge(limit))
		return fmt.Errorf("packet of %d bytes, limits.max_packet is %d", length, limit)
	}
	if length > maxWholeCommand {
		return s.streamCommand(length)
	}
	packet := make([]byte, wire.HeaderLen+length)
	if _, err := io.ReadFull(s, packet); err != nil {
		return err
	}
	return s.command(packet)
}

// maxWholeCommand is the longest command, in bytes, that is held in memory
// whole; a longer one streams to the server as it comes.
const maxWholeCommand = 1 << 20

// observed counts a statement that was answered.
func (s *session) observed(w *work) { s.p.metrics.statement(w, time.Since(w.started)) }
