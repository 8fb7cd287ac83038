package router

import "time"

// Server status flags (SERVER_STATUS_* in mysql_com.h).
const (
	statusInTrans         = 0x0001
	statusAutocommit      = 0x0002
	statusInTransReadOnly = 0x2000
)

// Session is what routing knows of one client session. The zero value with
// Reset called is a session that has done nothing. It is owned by the session's
// goroutine.
type Session struct {
	User   string        // account, for rules
	Schema string        // default schema, for rules
	MaxLag time.Duration // of the account, 0 for none of its own

	Consistency Consistency // of the account's reads

	status   uint16
	pins     Pin
	held     *heldNames
	readOnly bool   // SET SESSION TRANSACTION READ ONLY
	side     Target // where the pinned connection is
	bound    bool   // text statements are prepared on the primary connection
}

// heldNames are what a session holds by name; most sessions hold nothing.
type heldNames struct {
	tables, locks, handlers map[string]int
}

// Reset forgets everything but the account: COM_RESET_CONNECTION,
// COM_CHANGE_USER, or a new session.
func (s *Session) Reset() {
	*s = Session{User: s.User, Schema: s.Schema, MaxLag: s.MaxLag, Consistency: s.Consistency, status: statusAutocommit}
}

// Pinned says why the session keeps its connection, 0 for not at all.
func (s *Session) Pinned() Pin { return s.pins }

// PinnedSide is where the connection is that the session keeps.
func (s *Session) PinnedSide() Target { return s.side }

// InTransaction tells whether a transaction is open, by the server's word.
func (s *Session) InTransaction() bool {
	return s.status&(statusInTrans|statusInTransReadOnly) != 0
}

// Autocommit tells whether autocommit is on, by the server's word.
func (s *Session) Autocommit() bool { return s.status&statusAutocommit != 0 }

// Bound says what the session would lose with its primary connection although
// it is not pinned to it.
func (s *Session) Bound() Pin {
	if s.bound {
		return PinPrepared
	}
	return 0
}

// TransactionLost records that the server connection went away with the
// transaction that was open on it.
func (s *Session) TransactionLost() {
	s.status &^= statusInTrans | statusInTransReadOnly
	s.pins &^= PinsOfTransaction
}

// Answer is what a server's answer said.
type Answer struct {
	Failed       bool
	Code         uint16 // error number, when Failed
	Status       uint16 // server status flags; those before, when Failed
	Warnings     uint16
	StateChanged bool // session tracking reports a change of state
	Unreplayable bool // a variable was set that another connection cannot be given
}

// Observe records what the answer to st made of the session. d says where it
// ran. Whether a transaction is open is what the status flags say, never the
// text.
func (s *Session) Observe(st *Statement, d Decision, a Answer) {
	if !a.Failed {
		s.status = a.Status
	}
	where := d.Target
	if where != Replica {
		where = Primary
	}
	before := s.pins
	s.transaction(st, a)
	if !a.Failed || st.Multi {
		for i := range st.effects {
			s.apply(&st.effects[i], a.Failed)
		}
	}
	known := len(st.effects) > 0 || st.Kind == KindSet || st.Kind == KindUse || st.Kind == KindBegin || st.Kind == KindPrepare
	if a.Unreplayable || a.StateChanged && (st.mayBind && !known || st.Multi || st.Kind == KindSelect) {
		s.pins |= PinUnknownState
	}
	if before == 0 && s.pins != 0 {
		s.side = where
	}
}

// transaction follows the transaction by the status flags.
func (s *Session) transaction(st *Statement, a Answer) {
	switch {
	case s.InTransaction():
		s.pins |= PinTransaction
		s.pins &^= PinNextTransaction
	case !a.Failed:
		s.pins &^= PinTransaction
		// SET TRANSACTION is for the one transaction that follows; a statement
		// in autocommit is one.
		if st.Kind != KindSet && st.Kind != KindUse && st.Kind != KindShow {
			s.pins &^= PinNextTransaction
		}
	}
}

// apply makes one effect true. After a failure half-way through several
// statements only what adds pins is taken.
func (s *Session) apply(e *effect, failed bool) {
	switch e.do {
	case effectTempCreate:
		s.hold(&s.names().tables, e.name, PinTemporaryTable)
	case effectGetLock:
		s.hold(&s.names().locks, e.name, PinUserLock)
	case effectHandlerOpen:
		s.hold(&s.names().handlers, e.name, PinHandler)
	case effectLockTables:
		s.pins |= PinLockTables
	case effectUserVariable:
		s.pins |= PinUserVariable
	case effectPreparedFromVariable:
		s.pins |= PinPrepared
	case effectPrepared:
		s.bound = true
	case effectXABegin:
		s.pins |= PinXA
	case effectNextTransaction:
		if !s.InTransaction() {
			s.pins |= PinNextTransaction
		}
	case effectSessionReadOnly:
		s.readOnly = true
	case effectSessionReadWrite:
		s.readOnly = false
	case effectReplication:
		s.pins |= PinReplication
	default:
		if !failed {
			s.release(e)
		}
	}
}

func (s *Session) release(e *effect) {
	switch e.do {
	case effectTempDrop:
		s.letGo(s.names().tables, e.name, PinTemporaryTable)
	case effectReleaseLock:
		if e.name != "" { // an expression may name any lock
			s.letGo(s.names().locks, e.name, PinUserLock)
		}
	case effectReleaseAll:
		s.names().locks = nil
		s.pins &^= PinUserLock
	case effectHandlerClose:
		s.letGo(s.names().handlers, e.name, PinHandler)
	case effectUnlockTables:
		s.pins &^= PinLockTables
	case effectXAEnd:
		s.pins &^= PinXA
	}
}

func (s *Session) names() *heldNames {
	if s.held == nil {
		s.held = new(heldNames)
	}
	return s.held
}

// hold counts: a lock taken twice must be released twice.
func (s *Session) hold(set *map[string]int, name string, pin Pin) {
	if *set == nil {
		*set = make(map[string]int)
	}
	(*set)[name]++
	s.pins |= pin
}

func (s *Session) letGo(set map[string]int, name string, pin Pin) {
	if set[name] > 1 && pin == PinUserLock {
		set[name]--
		return
	}
	delete(set, name)
	if len(set) == 0 {
		s.pins &^= pin
	}
}

// Predict is the answer that a server would give to st if it succeeded, as far
// as the text tells: for explain, which has no server.
func (s *Session) Predict(st *Statement) Answer {
	a := Answer{Status: s.status}
	switch {
	case st.begins == beginEnd:
		a.Status &^= statusInTrans | statusInTransReadOnly
	case st.begins != beginNone:
		a.Status |= statusInTrans
		if st.begins == beginReadOnly || st.begins == beginDefault && (s.readOnly || s.side == Replica && s.pins&PinNextTransaction != 0) {
			a.Status |= statusInTransReadOnly
		}
	case st.Kind == KindDDL && st.reason == ReasonDDL, st.Kind == KindLock, st.Kind == KindDCL:
		a.Status &^= statusInTrans | statusInTransReadOnly // implicit commit
	case !s.Autocommit() && (st.IsRead || st.IsWrite) && st.Kind != KindShow:
		a.Status |= statusInTrans
	}
	return a
}

// PredictAutocommit sets the flag as SET autocommit would.
func (a *Answer) PredictAutocommit(on bool) {
	if on {
		a.Status |= statusAutocommit
		a.Status &^= statusInTrans
		return
	}
	a.Status &^= statusAutocommit
}
