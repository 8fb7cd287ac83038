package router

// Kind is what a statement is, for metrics, rules and people.
type Kind uint8

// The kinds.
const (
	KindUnknown Kind = iota
	KindSelect
	KindInsert
	KindReplace
	KindUpdate
	KindDelete
	KindLoad
	KindCall
	KindDo
	KindDDL
	KindDCL
	KindBegin
	KindCommit
	KindRollback
	KindSavepoint
	KindXA
	KindSet
	KindUse
	KindShow
	KindExplain
	KindLock
	KindPrepare
	KindExecute
	KindHandler
	KindKill
	KindAdmin
	KindDiagnostics
	KindMulti
	KindEmpty

	Kinds = iota // how many there are
)

var kindNames = [Kinds]string{"unknown", "select", "insert", "replace", "update", "delete", "load", "call", "do", "ddl", "dcl",
	"begin", "commit", "rollback", "savepoint", "xa", "set", "use", "show", "explain", "lock", "prepare", "execute", "handler",
	"kill", "admin", "diagnostics", "multi", "empty"}

// String is the kind's stable word.
func (k Kind) String() string { return kindNames[k] }

// Reason is why a statement goes where it goes: a stable code.
type Reason uint8

// The reasons.
const (
	ReasonRead Reason = iota
	ReasonWrite
	ReasonDDL
	ReasonLockingRead
	ReasonInto
	ReasonAssignment
	ReasonFunction
	ReasonSequence
	ReasonUserLock
	ReasonReplicationWait
	ReasonSessionValue
	ReasonFoundRows
	ReasonDiagnostics
	ReasonSystemSchema
	ReasonServerState
	ReasonSessionState
	ReasonUserVariable
	ReasonGlobalState
	ReasonTransaction
	ReasonReadOnlyTransaction
	ReasonAutocommitOff
	ReasonNextTransaction
	ReasonTemporaryTable
	ReasonLockTables
	ReasonHandler
	ReasonPrepared
	ReasonPinned
	ReasonKill
	ReasonUnparsed
	ReasonTooLong
	ReasonEmpty
	ReasonMulti
	ReasonHint
	ReasonRule
	ReasonDemoted
	ReasonAdmin
	ReasonXA

	Reasons = iota // how many there are
)

var reasonNames = [Reasons]string{"read", "write", "ddl", "locking-read", "select-into", "assignment", "unknown-function", "sequence",
	"user-lock", "replication-wait", "session-value", "found-rows", "diagnostics", "system-schema", "server-state", "session-state",
	"user-variable", "global-state", "transaction", "read-only-transaction", "autocommit-off", "next-transaction", "temporary-table",
	"lock-tables", "handler", "prepared", "pinned", "kill", "unparsed", "too-long", "empty", "multi-statement", "hint", "rule",
	"replica-refused", "admin", "xa"}

// String is the reason's stable code.
func (r Reason) String() string { return reasonNames[r] }
