// Package drbdwatch finds out who may take writes: it reads DRBD on each node
// and turns all nodes' views, with what the database servers say of themselves,
// into one Authority.
//
// The decision (Local, Decide) is a pure function of values; Watch is the thin
// shell that samples sources and publishes snapshots. It knows nothing of
// client sessions and opens no connection to a database.
package drbdwatch

// State is what one node's DRBD says, in one model for all versions.
type State struct {
	Version string // of the kernel module, such as 8.4.11
	Devices []Device
}

// Device is one DRBD minor. The words are DRBD 8's; a version 9 connection and
// replication state are combined into CS as 8.4 would.
type Device struct {
	Minor      int
	Configured bool   // false: cs:Unconfigured, nothing below is set
	CS         string // connection state, such as Connected or SyncSource
	Role       string // Primary, Secondary
	PeerRole   string // also Unknown
	Disk       string // UpToDate, Inconsistent, …
	PeerDisk   string // also DUnknown
	Protocol   string // A, B, C; empty without a network configuration
	Flags      string // as printed: 4 characters (8.0), 5 (8.3.1) or 6 (8.3.9)

	Suspended       bool    // I/O is frozen
	Quorum          Quorum  // DRBD 9
	ForceIOFailures bool    // DRBD 9: demotion by force is under way
	OutOfSyncKiB    int64   // -1 where the version does not print it
	SyncPercent     float64 // of a resync or verify in progress; -1 for none
}

// Quorum is what DRBD 9 says of it.
type Quorum uint8

// The quorum states. QuorumUnknown: not printed, or the feature is off.
const (
	QuorumUnknown Quorum = iota
	QuorumYes
	QuorumNo
)

// connected tells whether the peer's state is live: below WFReportParams there
// is no socket (enum drbd_conns in drbd.h), and while it is exchanged nothing
// about the peer is certain.
func (d *Device) connected() bool {
	switch d.CS {
	case "StandAlone", "Disconnecting", "Unconnected", "Timeout", "BrokenPipe", "NetworkFailure",
		"ProtocolError", "TearDown", "WFConnection", "WFReportParams":
		return false
	}
	return true
}

var connectionStates = words("StandAlone Disconnecting Unconnected Timeout BrokenPipe NetworkFailure " +
	"ProtocolError TearDown WFConnection WFReportParams Connected StartingSyncS StartingSyncT WFBitMapS " +
	"WFBitMapT WFSyncUUID SyncSource SyncTarget VerifyS VerifyT PausedSyncS PausedSyncT Ahead Behind")

var diskStates = words("Diskless Attaching Detaching Failed Negotiating Inconsistent Outdated DUnknown Consistent UpToDate")

var roles = words("Unknown Primary Secondary")
