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
	Version string   `json:"version"` // of the kernel module, such as 8.4.11
	Devices []Device `json:"devices"`
}

// Device is one DRBD minor as one peer sees it: DRBD 9 may have several peers,
// and a device with each. The words are DRBD 8's; a version 9 connection and
// replication state are combined into CS as 8.4 would.
type Device struct {
	Minor      int    `json:"minor"`
	Resource   string `json:"resource,omitempty"`   // where the source names it
	Peer       string `json:"peer,omitempty"`       // the connection's name, where the source names it
	Configured bool   `json:"configured,omitempty"` // false: cs:Unconfigured, nothing below is set
	CS         string `json:"cs,omitempty"`         // connection state, such as Connected or SyncSource
	Role       string `json:"role,omitempty"`       // Primary, Secondary
	PeerRole   string `json:"peer_role,omitempty"`  // also Unknown
	Disk       string `json:"disk,omitempty"`       // UpToDate, Inconsistent, …
	PeerDisk   string `json:"peer_disk,omitempty"`  // also DUnknown
	Protocol   string `json:"protocol,omitempty"`   // A, B, C; empty without a network configuration
	Flags      string `json:"flags,omitempty"`      // as /proc/drbd prints them: 4 characters (8.0), 5 (8.3.1) or 6 (8.3.9)

	Suspended       bool    `json:"suspended,omitempty"`         // I/O is frozen
	Cause           string  `json:"cause,omitempty"`             // of it, where the source tells: user, no-data, fencing, quorum
	Quorum          Quorum  `json:"quorum,omitempty"`            // DRBD 9
	ForceIOFailures bool    `json:"force_io_failures,omitempty"` // DRBD 9: demotion by force is under way
	OutOfSyncKiB    int64   `json:"oos_kib"`                     // -1 where it is not known
	SyncPercent     float64 `json:"sync_percent"`                // of a resync or verify in progress; -1 for none
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

// replicationStates are DRBD 9's, without Off and Established.
var replicationStates = words("StartingSyncS StartingSyncT WFBitMapS WFBitMapT WFSyncUUID SyncSource SyncTarget " +
	"VerifyS VerifyT PausedSyncS PausedSyncT Ahead Behind")

var roles = words("Unknown Primary Secondary")
