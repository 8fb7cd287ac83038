package drbdwatch

// Verdict is how much trust a node, or nobody, has earned. Higher is better.
type Verdict uint8

// The verdicts.
const (
	Deny          Verdict = iota // no write may go there
	Hold                         // not now: wait for a change
	NeedsSole                    // only with evidence that no other node is Primary
	RouteDegraded                // writes may go there, without redundancy
	Route                        // writes may go there
)

var verdictNames = [...]string{"deny", "hold", "needs-sole", "route-degraded", "route"}

// String is the verdict's stable word.
func (v Verdict) String() string { return verdictNames[v] }

// MarshalText makes JSON carry the word.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Row is the judgement of one node by its own view alone.
type Row struct {
	Number   int // of the truth table in docs/authority.md
	Verdict  Verdict
	Reason   string // stable code
	Sentence string
	Advice   string
}

// Rows of the truth table that a device can be in. The number is the table's.
var (
	rowHealthy     = Row{1, Route, "healthy", "Primary, connected, both disks up to date", "nothing to do"}
	rowVerify      = Row{2, Route, "verifying", "Primary, an online verify is running", "nothing to do; expect extra disk load"}
	rowSyncSource  = Row{3, RouteDegraded, "sync-source", "Primary, the peer is being brought up to date", "wait for the resync; until then the peer is no failover target"}
	rowPeerDisk    = Row{4, RouteDegraded, "peer-disk", "Primary, the peer has no good disk", "look at the peer's disk and attach it: drbdadm attach RESOURCE on the peer"}
	rowAhead       = Row{5, RouteDegraded, "ahead", "Primary, running ahead of the peer", "a failover now loses data; look at the replication link's load"}
	rowDiskless    = Row{6, RouteDegraded, "diskless-primary", "Primary without a disk of its own, served by the peer", "switch over to the peer before the link is lost, then replace this disk"}
	rowSyncTarget  = Row{7, RouteDegraded, "sync-target", "Primary on a disk that is still being brought up to date, served by the peer", "switch over to the peer before the link is lost"}
	rowHandshake   = Row{8, Hold, "sync-handshake", "Primary, a resync is being agreed and DRBD takes no I/O", "wait a few seconds"}
	rowAttaching   = Row{8, Hold, "attaching", "Primary, its disk is being attached and DRBD takes no I/O", "wait a few seconds"}
	rowAlone       = Row{9, NeedsSole, "peer-unreachable", "Primary, and the peer does not answer: a survivor and one half of a split brain look the same", adviceLink + "; writes go on once the other node is known not to be Primary"}
	rowAloneMarked = Row{10, NeedsSole, "peer-outdated", "Primary, the peer does not answer and is recorded as outdated, which is as true as the fence handler", adviceLink + "; writes go on once the other node is known not to be Primary"}
	rowStandAlone  = Row{11, Deny, "standalone", "Primary, disconnected on purpose or after a split brain: its writes may be discarded", "find out with drbdadm status and the kernel log whether this was a split brain; resolve it, or pin this node (authority.pin)"}
	rowSuspended   = Row{12, Hold, "io-suspended", "Primary, but its I/O is frozen", "see why with drbdsetup status or the kernel log: fencing in progress, no data accessible, no quorum, or suspend-io by hand (drbdadm resume-io RESOURCE)"}
	rowNoGoodDisk  = Row{13, Deny, "no-good-disk", "Primary without the peer and without a good disk of its own: I/O fails or damages data", "stop the database here and promote the node that has good data"}
	rowOutdated    = Row{14, Deny, "outdated", "Primary on outdated data", "promote the node that has current data"}
	rowDual        = Row{15, Deny, "dual-primary", "both nodes are Primary: two database servers on one device destroy it", "demote one: drbdadm secondary RESOURCE; or pin one (authority.pin) if this is meant"}
	rowSecondary   = Row{17, Deny, "secondary", "Secondary: the device cannot be written here", "nothing to do if the other node is Primary"}
	rowNoQuorum    = Row{19, Deny, "no-quorum", "Primary without quorum", "bring back the nodes that are missing"}
	rowForced      = Row{20, Deny, "force-io-failures", "being demoted by force, I/O fails", "wait for the failover"}
	rowNoDevice    = Row{21, Deny, "unconfigured", "no such DRBD device here", "bring it up: drbdadm up RESOURCE"}
	rowOdd         = Row{22, Deny, "unexpected", "Primary in a combination of states that no row allows", "compare with drbdsetup status on both nodes"}
)

const adviceLink = "the peer does not answer: check the link and that both firewalls let the resource's port (7789 by default) through"

// Local judges one device by the node's own view alone: the rows of the truth
// table that need no other node. The order is: configured, role, suspension,
// local disk, quorum, peer.
func Local(d *Device) Row {
	switch {
	case !d.Configured:
		return rowNoDevice
	case d.Role != "Primary":
		return rowSecondary
	case d.Suspended:
		return rowSuspended
	case d.ForceIOFailures:
		return rowForced
	case d.Disk == "Outdated" || d.CS == "Behind":
		return rowOutdated
	case d.Quorum == QuorumNo:
		return rowNoQuorum
	case d.PeerRole == "Primary":
		return rowDual
	case !d.connected():
		return localAlone(d)
	}
	return localConnected(d)
}

func localAlone(d *Device) Row {
	switch {
	case d.Disk != "UpToDate":
		return rowNoGoodDisk
	case d.CS == "StandAlone":
		return rowStandAlone
	case d.PeerDisk == "Outdated" || d.PeerDisk == "Inconsistent":
		return rowAloneMarked
	}
	return rowAlone
}

func localConnected(d *Device) Row {
	switch d.CS {
	case "WFBitMapT", "WFSyncUUID", "StartingSyncT":
		return rowHandshake
	}
	served := d.PeerDisk == "UpToDate"
	switch d.Disk {
	case "UpToDate":
		return localGood(d)
	case "Attaching", "Negotiating":
		return rowAttaching
	case "Diskless", "Failed", "Detaching":
		if served {
			return rowDiskless
		}
	case "Inconsistent":
		if served && (d.CS == "SyncTarget" || d.CS == "PausedSyncT") {
			return rowSyncTarget
		}
	}
	return rowNoGoodDisk
}

// localGood judges a connected Primary whose own disk is up to date.
func localGood(d *Device) Row {
	switch d.CS {
	case "Ahead":
		return rowAhead
	case "SyncSource", "PausedSyncS", "StartingSyncS", "WFBitMapS":
		return rowSyncSource
	case "Connected", "VerifyS", "VerifyT":
		if d.PeerDisk != "UpToDate" {
			return rowPeerDisk
		}
		if d.CS == "Connected" {
			return rowHealthy
		}
		return rowVerify
	}
	return rowOdd
}

// LocalAll judges a node by the devices that its database needs: minors, or
// every configured device where it is empty. The worst volume decides (row 24).
func LocalAll(s *State, minors []int) Row {
	worst, judged := Row{}, false
	take := func(r Row) {
		if !judged || r.Verdict < worst.Verdict {
			worst, judged = r, true
		}
	}
	if len(minors) == 0 {
		for i := range s.Devices {
			if s.Devices[i].Configured {
				take(Local(&s.Devices[i]))
			}
		}
	}
	for _, m := range minors {
		take(Local(s.device(m)))
	}
	if !judged {
		return rowNoDevice
	}
	return worst
}

func (s *State) device(minor int) *Device {
	for i := range s.Devices {
		if s.Devices[i].Minor == minor {
			return &s.Devices[i]
		}
	}
	return &Device{Minor: minor}
}

// claims tells whether the node says of itself that it is Primary on any of the
// devices that count.
func (s *State) claims(minors []int) bool {
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.Role != "Primary" {
			continue
		}
		counts := len(minors) == 0
		for _, m := range minors {
			counts = counts || m == d.Minor
		}
		if counts {
			return true
		}
	}
	return false
}
