package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"

	"signalbox/internal/wire"
	"signalbox/router"
)

// statement is a prepared statement of the client. It is prepared lazily on
// each server connection that executes it; the client's number for it is the
// proxy's own.
type statement struct {
	id     uint32
	text   []byte
	st     *router.Statement
	params int
	types  []byte      // parameter types of the last execution that sent any
	on     *serverConn // holds its cursor or its long data, nil for neither
}

// know records that a statement is prepared on the connection as id.
func (c *serverConn) know(st *statement, id uint32) {
	if c.prepared == nil {
		c.prepared = make(map[uint32]*preparedHere)
	}
	c.prepared[st.id] = &preparedHere{id: id}
}

// prepare runs COM_STMT_PREPARE where the statement would run.
func (s *session) prepare(text, packet []byte) error {
	s.lastStatement++
	st := &statement{id: s.lastStatement, text: append([]byte(nil), text...)}
	st.st = s.classify(st.text)
	w := s.begun(st.st, packet, wire.AnswerPrepare)
	w.prep = st
	switch {
	case w.d.Deny != "":
		return s.fault(faultDenied(w.d.Deny))
	case len(st.st.Local) > 0 && st.st.Local[0].Func == router.LocalPosition:
		return s.fault(&Fault{1295, "HY000", "This command is not supported in the prepared statement protocol yet"})
	}
	if s.statements == nil {
		s.statements = make(map[uint32]*statement)
	}
	s.statements[st.id] = st
	s.preparing = st
	err := s.dispatch(&w)
	s.preparing = nil
	if s.got.Failed || err != nil {
		delete(s.statements, st.id)
	}
	return err
}

// execute runs COM_STMT_EXECUTE: like the statement's text, but for the server
// that holds its long data.
func (s *session) execute(packet []byte) error {
	st, err := s.named(packet, "mysqld_stmt_execute")
	if st == nil {
		return err
	}
	w := s.begun(st.st, packet, wire.AnswerQuery)
	w.prep = st
	switch {
	case w.d.Deny != "":
		return s.fault(faultDenied(w.d.Deny))
	case st.on != nil && st.on.broken != nil:
		st.on = nil
		return s.fault(&Fault{1105, "HY000", "signalbox: the parameters sent ahead were lost with their server; send them again"})
	}
	w.on = st.on
	return s.dispatch(&w)
}

// named returns the statement that a packet names. When there is none the
// client has been told so, if the command has an answer.
func (s *session) named(packet []byte, function string) (*statement, error) {
	if len(packet) < wire.HeaderLen+5 {
		_ = s.fault(faultMalformed("statement number missing"))
		return nil, fmt.Errorf("packet of %d bytes for %s", len(packet), function)
	}
	id := binary.LittleEndian.Uint32(packet[wire.HeaderLen+1:])
	if st := s.statements[id]; st != nil {
		return st, nil
	}
	return nil, s.fault(faultUnknownStatement(id, function))
}

// preparedOn returns the statement's number on c, preparing it there when c has
// not seen it yet. The server's refusal is a *Fault.
func (s *session) preparedOn(c *serverConn, st *statement) (*preparedHere, error) {
	if here := c.prepared[st.id]; here != nil {
		return here, nil
	}
	err := c.command(wire.AnswerPrepare, wire.ComStmtPrepare, st.text, func(packet []byte) {
		if c.answer.Packet == wire.PacketPrepared {
			p := packet[wire.HeaderLen:]
			c.know(st, binary.LittleEndian.Uint32(p[1:]))
			st.params = int(binary.LittleEndian.Uint16(p[7:]))
		}
	})
	if err != nil {
		return nil, err
	}
	here := c.prepared[st.id]
	if here == nil {
		c.broken = errors.New("answer to COM_STMT_PREPARE without a statement number")
		return nil, c.broken
	}
	return here, nil
}

// COM_STMT_EXECUTE: header, command, statement id (4), flags (1), iterations
// (4), then the NULL bitmap, whether types follow, and the types.
const executeBitmap = wire.HeaderLen + 10

// withTypes returns the execution as this server must see it: drivers send the
// parameter types only once, so a server that has not seen them gets them put in.
func (s *session) withTypes(here *preparedHere, st *statement, packet []byte) []byte {
	bound := executeBitmap + (st.params+7)/8
	if st.params == 0 || len(packet) <= bound {
		return packet
	}
	if packet[bound] == 1 {
		end := min(bound+1+2*st.params, len(packet))
		if types := packet[bound+1 : end]; string(types) != string(st.types) {
			st.types = append(st.types[:0], types...)
		}
		here.typesSent = true
		return packet
	}
	if here.typesSent || len(st.types) == 0 {
		return packet
	}
	payload := make([]byte, 0, len(packet)+len(st.types))
	payload = append(payload, packet[wire.HeaderLen:bound]...)
	payload = append(payload, 1)
	payload = append(payload, st.types...)
	payload = append(payload, packet[bound+1:]...)
	here.typesSent = true
	request, _ := wire.AppendPacket(nil, packet[3], payload)
	return request
}

// closeStatement forgets a statement here and on the servers. No answer.
func (s *session) closeStatement(arg []byte) error {
	if len(arg) < 4 {
		return fmt.Errorf("COM_STMT_CLOSE without a statement number")
	}
	id := binary.LittleEndian.Uint32(arg)
	delete(s.statements, id)
	s.closeOn(s.primary, id)
	for _, c := range s.others {
		s.closeOn(c, id)
	}
	return nil
}

func (s *session) closeOn(c *serverConn, id uint32) {
	if c == nil || c.broken != nil || c.prepared[id] == nil {
		return
	}
	b := []byte{5, 0, 0, 0, wire.ComStmtClose, 0, 0, 0, 0}
	binary.LittleEndian.PutUint32(b[wire.HeaderLen+1:], c.prepared[id].id)
	delete(c.prepared, id)
	if err := c.sock.Write(b); err != nil {
		c.broken = err
	}
}

// resetStatement discards long data and closes the cursor, where there is one.
func (s *session) resetStatement(packet []byte) error {
	st, err := s.named(packet, "mysqld_stmt_reset")
	if st == nil {
		return err
	}
	if st.on == nil || st.on.broken != nil {
		st.on = nil
		return s.ok()
	}
	c := st.on
	st.on = nil
	return s.onHolder(c, st, packet, wire.AnswerQuery)
}

// fetch gets rows of an open cursor from the server that has it.
func (s *session) fetch(packet []byte) error {
	st, err := s.named(packet, "mysqld_stmt_fetch")
	if st == nil {
		return err
	}
	if st.on == nil || st.on.broken != nil {
		return s.fault(&Fault{1421, "HY000", fmt.Sprintf("The statement (%d) has no open cursor.", st.id)})
	}
	return s.onHolder(st.on, st, packet, wire.AnswerRows)
}

// onHolder relays a command about a statement to the connection that holds its
// cursor or its long data.
func (s *session) onHolder(c *serverConn, st *statement, packet []byte, kind wire.AnswerKind) error {
	here := c.prepared[st.id]
	if here == nil {
		return s.fault(faultUnknownStatement(st.id, "mysqld_stmt_fetch"))
	}
	binary.LittleEndian.PutUint32(packet[wire.HeaderLen+1:], here.id)
	s.running.Store(c)
	result := s.exchange(c, packet, kind, false)
	s.running.Store(nil)
	switch result {
	case delivered:
		s.learned(c)
		return nil
	case clientGone:
		return s.lost
	case lostEarly:
		return s.fault(faultOutcomeUnknown(c.Server.Name, c.broken.Error()))
	}
	return fmt.Errorf("server %s was lost in the middle of an answer: %w", c.Server.Name, c.broken)
}

// longData passes a part of a parameter on; no answer. Where it goes the
// execution has to follow, so it goes to the primary.
func (s *session) longData(packet []byte) error {
	st, err := s.dataHolder(packet)
	if st == nil || err != nil {
		return err
	}
	return s.sendHeld(st, packet)
}

// dataHolder finds or opens the connection for a statement's long data. A
// failure is told when the statement is executed, as COM_STMT_SEND_LONG_DATA
// has no answer.
func (s *session) dataHolder(packet []byte) (*statement, error) {
	if len(packet) < wire.HeaderLen+7 {
		return nil, fmt.Errorf("COM_STMT_SEND_LONG_DATA of %d bytes", len(packet))
	}
	st := s.statements[binary.LittleEndian.Uint32(packet[wire.HeaderLen+1:])]
	if st == nil || st.on != nil {
		return st, nil
	}
	w := s.begun(st.st, packet, wire.AnswerQuery)
	w.d.Target = router.Primary
	c, err := s.connect(&w)
	if err == nil {
		_, err = s.preparedOn(c, st)
	}
	if err != nil {
		s.log().Info("parameter data could not be sent", "statement", st.id, "error", err)
		st.on = &serverConn{broken: err}
		return nil, nil
	}
	st.on = c
	return st, nil
}

func (s *session) sendHeld(st *statement, packet []byte) error {
	c := st.on
	if c.broken != nil {
		return nil
	}
	binary.LittleEndian.PutUint32(packet[wire.HeaderLen+1:], c.prepared[st.id].id)
	if err := c.sock.Write(packet); err != nil {
		c.broken = err
	}
	return nil
}
