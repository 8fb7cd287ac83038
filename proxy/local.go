package proxy

import (
	"strconv"

	"signalbox/internal/wire"
	"signalbox/router"
)

// local answers a statement from what the proxy knows. done is false when a
// server knows it better: LAST_INSERT_ID() on the connection that inserted is
// exact even for values that the client gave itself, which the OK packet cannot
// tell apart.
func (s *session) local(st *router.Statement) (done bool, err error) {
	if st.Local[0].Func == router.LocalPosition {
		return true, s.showPosition(st)
	}
	for _, column := range st.Local {
		if column.Func != router.LocalConnectionID && s.last != nil && s.last.broken == nil {
			return false, nil
		}
	}
	return true, s.toClient(s.appendRow(nil, st.Local))
}

// appendRow appends a result set of one row.
func (s *session) appendRow(b []byte, columns []router.LocalColumn) []byte {
	seq := byte(1)
	packet := func(payload []byte) { b, seq = wire.AppendPacket(b, seq, payload) }
	packet([]byte{byte(len(columns))})
	var row []byte
	for _, c := range columns {
		packet(columnDefinition(c))
		row = wire.AppendLenencString(row, s.localValue(c.Func))
	}
	if !s.deprecateEOF {
		b = wire.AppendEOF(b, seq, 0, s.got.Status)
		seq++
	}
	packet(row)
	if !s.deprecateEOF {
		return wire.AppendEOF(b, seq, 0, s.got.Status)
	}
	return wire.AppendOK(b, seq, 0xfe, &wire.Result{Status: s.got.Status}, s.tracking)
}

func (s *session) localValue(f router.LocalFunc) string {
	switch f {
	case router.LocalConnectionID:
		return strconv.FormatUint(uint64(s.client.ID), 10)
	case router.LocalPosition:
		return string(appendToken(nil, &s.trail.at, s.trail.onPrimary))
	case router.LocalRowCount:
		return strconv.FormatInt(s.affected, 10)
	}
	return strconv.FormatUint(s.lastInsertID, 10)
}

// showPosition answers SHOW SIGNALBOX POSITION.
func (s *session) showPosition(st *router.Statement) error {
	if s.trail.unknown && !s.trail.onPrimary {
		p, err := s.p.fresh.asker.ask(s.ctx)
		if err != nil {
			return s.fault(faultNoPrimary("the session's position is not known: " + err.Error()))
		}
		s.trail.asked(&p)
	}
	return s.toClient(s.appendRow(nil, st.Local))
}

// columnDefinition describes a BIGINT UNSIGNED NOT NULL column, or a position's,
// VARCHAR(4096) NOT NULL in ASCII (Protocol::ColumnDefinition41).
func columnDefinition(c router.LocalColumn) []byte {
	b := wire.AppendLenencString(nil, "def")
	for range 3 { // schema, table and its original name: none
		b = append(b, 0)
	}
	b = wire.AppendLenencString(b, c.Name)
	b = append(b, 0)    // original name: none
	b = append(b, 0x0c) // length of what follows
	if c.Func == router.LocalPosition {
		b = append(b, 11, 0)                  // ascii_general_ci
		b = append(b, 0, 16, 0, 0)            // display width
		return append(b, 0xfd, 1, 0, 0, 0, 0) // MYSQL_TYPE_VAR_STRING, NOT_NULL, decimals, filler
	}
	b = append(b, 63, 0)       // binary character set
	b = append(b, 21, 0, 0, 0) // display width
	b = append(b, 0x08)        // MYSQL_TYPE_LONGLONG
	b = append(b, 0xa1, 0)     // NOT_NULL | UNSIGNED | BINARY
	return append(b, 0, 0, 0)  // decimals, filler
}
