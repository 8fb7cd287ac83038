// Package router decides where each statement goes: Classify finds out what a
// text is, and Decide, a pure function of the session's state, the statement
// and the rules, names the target with a stable reason.
//
// The law behind every decision: a statement goes to a replica only when it is
// proven to be a read that may run there; everything else goes to the primary.
// The package knows no server and no connection, does no I/O and reads no clock.
package router

import (
	"strings"
	"sync/atomic"
	"time"
)

// Target is where a statement goes.
type Target uint8

// The targets.
const (
	Primary Target = iota
	Replica
	Local // answered by the proxy from what it tracked, or where that is known exactly
	Same  // where the statement before it ran

	Targets = 4 // how many there are
)

var targetNames = [Targets]string{"primary", "replica", "local", "same"}

// String is the target's stable word.
func (t Target) String() string { return targetNames[t] }

// Pin is a set of reasons why a session keeps its server connection.
type Pin uint16

// The pins.
const (
	PinTransaction Pin = 1 << iota
	PinNextTransaction
	PinXA
	PinLockTables
	PinUserLock
	PinTemporaryTable
	PinUserVariable
	PinHandler
	PinPrepared
	PinUnknownState
	PinFoundRows
	PinDiagnostics
	PinReplication
)

// PinsOfTransaction end with a transaction, which a client can restart.
const PinsOfTransaction = PinTransaction | PinNextTransaction

// softPins hold no state: they only say where the next question is answered.
const softPins = PinFoundRows | PinDiagnostics

var pinTexts = [...]string{
	"until COMMIT or ROLLBACK",
	"until the next transaction has ended",
	"until XA PREPARE, XA COMMIT or XA ROLLBACK",
	"until UNLOCK TABLES",
	"until every user lock is released",
	"until the last temporary table is dropped",
	"until the session is reset (user variables)",
	"until HANDLER CLOSE",
	"until the session is reset (prepared from a variable)",
	"until the session is reset (state that cannot be replayed)",
	"until the next statement that is not FOUND_ROWS()",
	"until the next statement that is not about warnings",
	"until the connection ends (replication)",
}

// String says until when, empty for no pin.
func (p Pin) String() string {
	var parts []string
	for i, text := range pinTexts {
		if p&(1<<i) != 0 {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, " and ")
}

// LocalFunc is something the proxy knows of the session.
type LocalFunc uint8

// What the proxy knows.
const (
	LocalLastInsertID LocalFunc = iota
	LocalRowCount
	LocalConnectionID
	LocalPosition // SHOW SIGNALBOX POSITION
)

// LocalColumn is one column of a statement that asks for such things alone.
type LocalColumn struct {
	Func LocalFunc
	Name string // as the server would name the column
}

// Kill is the statement KILL.
type Kill struct {
	ID        uint64
	QueryOnly bool
}

// Hint is what a comment /* signalbox: … */ asks for.
type Hint struct {
	Target Target
	Server string        // server=NAME, empty for any
	MaxLag time.Duration // max_lag=500ms, 0 for none

	Consistency Consistency // consistency=LEVEL, or unset
	After       bool        // after=TOKEN; the token is found by After
}

// Statement is what Classify found out about a text. It is immutable but for
// Demoted, and shared by all sessions.
type Statement struct {
	Kind   Kind
	Digest string // the normalised text
	ID     string // 16 hexadecimal digits that name the digest

	IsRead  bool // proven to change nothing: may be sent again elsewhere
	IsWrite bool // may change data
	Multi   bool // several statements in one packet

	Local []LocalColumn
	Kill  *Kill
	Hint  *Hint

	target  Target
	reason  Reason
	effects []effect
	mayBind bool // may change session state in a way that cannot be told from the text
	begins  begin
	demoted atomic.Bool
}

// begin is what a statement does about transactions, by its text.
type begin uint8

const (
	beginNone begin = iota
	beginReadWrite
	beginReadOnly
	beginDefault // as the session's characteristics say
	beginEnd     // COMMIT, ROLLBACK
)

// effect is what a statement makes of the session when it succeeds.
type effect struct {
	do   effectKind
	name string // lower case
}

type effectKind uint8

const (
	effectPin        effectKind = iota // pin, see pin
	effectTempCreate                   // name: the table
	effectTempDrop                     // name: a table that may be temporary
	effectLockTables
	effectUnlockTables
	effectGetLock     // name: the lock, empty when it is no literal
	effectReleaseLock // name as above
	effectReleaseAll
	effectHandlerOpen
	effectHandlerClose
	effectUserVariable
	effectPreparedFromVariable
	effectPrepared
	effectXABegin
	effectXAEnd
	effectNextTransaction // SET TRANSACTION …; name: "read only" or empty
	effectSessionReadOnly
	effectSessionReadWrite
	effectFoundRows
	effectReplication
)

// Demote remembers that a replica refused the statement as a write: from now on
// its digest goes to the primary.
func (st *Statement) Demote() { st.demoted.Store(true) }
