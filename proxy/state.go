package proxy

import (
	"strings"

	"signalbox/internal/wire"
	"signalbox/router"
)

// variable is one session variable that differs from the connection's start.
type variable struct{ name, value string }

// state is what a session has set on its server connections and what another
// connection must be told before a statement of the session runs on it. It is
// immutable and compared by pointer: equal pointers, nothing to do.
type state struct {
	schema    string
	variables []variable // in the order of their first change
}

// withSchema returns the state with another default schema.
func (s *state) withSchema(schema string) *state {
	if s.schema == schema {
		return s
	}
	return &state{schema: schema, variables: s.variables}
}

// with returns the state with a variable set.
func (s *state) with(name, value string) *state {
	next := &state{schema: s.schema, variables: make([]variable, len(s.variables), len(s.variables)+1)}
	copy(next.variables, s.variables)
	for i := range next.variables {
		if next.variables[i].name == name {
			next.variables[i].value = value
			return next
		}
	}
	next.variables = append(next.variables, variable{name, value})
	return next
}

// catchUp returns the SQL that brings a connection from state s to state to,
// and the schema it must change to, each empty where there is nothing to do.
// A variable that s has and to lacks cannot happen within one session.
func (s *state) catchUp(to *state) (sql, schema string) {
	var b strings.Builder
	for _, v := range to.variables {
		if s.has(v) {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("SET SESSION ")
		} else {
			b.WriteString(", SESSION ")
		}
		b.WriteByte('`')
		b.WriteString(v.name)
		b.WriteString("`=")
		b.WriteString(literal(v))
	}
	if to.schema != s.schema {
		schema = to.schema
	}
	return b.String(), schema
}

func (s *state) has(v variable) bool {
	for _, w := range s.variables {
		if w == v {
			return true
		}
	}
	return false
}

// literal writes a tracked value as SQL. The server reports numbers and words
// alike as text, and takes no quoted number for a numeric variable.
func literal(v variable) string {
	switch {
	case v.value == "" && v.name == "character_set_results":
		return "NULL" // how the server reports the NULL of SET NAMES binary and such
	case isNumber(v.value):
		return v.value
	}
	r := strings.NewReplacer("'", "''", `\`, `\\`)
	return "'" + r.Replace(v.value) + "'"
}

// isNumber reports whether text is digits with at most a sign and a point.
func isNumber(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	if whole == "" {
		return false
	}
	for _, r := range whole + fraction {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}

// effect is what a tracked variable means to the proxy.
type effect uint8

const (
	replay   effect = iota // part of the session's state
	position               // reports where the write is in the binary log
	takeover               // the client tracks by itself, and the proxy is blind from here on
	bind                   // cannot be replayed: true only on this connection
	passing                // no state: MySQL counts statements so
)

// effectOf classifies a variable that session tracking reports.
func effectOf(name []byte) effect {
	switch string(name) {
	case "last_gtid":
		return position
	case "statement_id":
		return passing
	case "session_track_system_variables", "session_track_schema", "session_track_state_change",
		"session_track_gtids", "session_track_transaction_info":
		return takeover
	case "insert_id", "last_insert_id", "identity", "timestamp", "rand_seed1", "rand_seed2",
		"gtid_next", "gtid_seq_no", "gtid_domain_id", "server_id", "pseudo_thread_id",
		"pseudo_slave_mode", "pseudo_replica_mode", "sql_log_bin", "skip_replication",
		"binlog_format", "debug", "debug_sync":
		return bind
	}
	return replay
}

// textMode is what the session's character set and sql_mode mean for reading
// SQL text.
func textMode(s *state) (m router.Mode) {
	for _, v := range s.variables {
		switch v.name {
		case "character_set_client":
			switch v.value {
			case "gbk", "sjis", "big5", "cp932", "gb18030":
				m |= router.ModeMultibyte
			}
		case "sql_mode":
			if strings.Contains(v.value, "ANSI_QUOTES") || strings.Contains(v.value, "ANSI") {
				m |= router.ModeAnsiQuotes
			}
		}
	}
	return m
}

// shown tells whether a server reports the variable to a client that has set
// nothing about tracking: the default of session_track_system_variables.
func shown(name []byte) bool {
	switch string(name) {
	case "autocommit", "character_set_client", "character_set_connection", "character_set_results", "time_zone":
		return true
	}
	return false
}

// shownState returns of a session tracking what the client would be told by a
// server itself. The proxy asks its servers for more.
func shownState(data []byte) []byte {
	var out, entry []byte
	tracked := wire.TrackedState(data)
	var e wire.Tracked
	for tracked.Next(&e) {
		switch {
		case e.Kind == wire.TrackVariable && shown(e.Name):
			entry = wire.AppendLenencString(wire.AppendLenencString(entry[:0], string(e.Name)), string(e.Value))
		case e.Kind == wire.TrackSchema:
			entry = wire.AppendLenencString(entry[:0], string(e.Value))
		default:
			continue
		}
		out = wire.AppendLenencString(append(out, byte(e.Kind)), string(entry))
	}
	return out
}
