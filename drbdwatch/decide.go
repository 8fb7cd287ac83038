package drbdwatch

import (
	"fmt"
	"strings"
	"time"
)

// Policy is what to do where DRBD alone cannot tell a survivor from one half of
// a split brain (rows 9 to 11).
type Policy string

// The policies.
const (
	// Strict waits for evidence about every other node.
	Strict Policy = "strict"
	// Pinned trusts the pinned node while no other is seen to be Primary.
	Pinned Policy = "pinned"
	// Availability trusts the one node that is seen to be Primary. In a partition
	// that separates proxies as well as nodes, two proxies may then write to two
	// nodes, and one side's acknowledged writes are lost.
	Availability Policy = "availability"
)

// View is one node's own view of itself, as a value.
type View struct {
	Node   string
	State  *State        // nil when there is none
	Err    string        // why State is nil or cannot be believed
	Age    time.Duration // since it was taken, by a monotonic clock
	Fresh  time.Duration // an older view counts as none
	Minors []int         // the devices that count; empty for all
	Heard  time.Duration // since it came in; at most Age
	// Claimed is how long ago the node began to claim to be Primary, at most.
	Claimed time.Duration
	Boot    string // boot id, where the node's agent tells
	Fenced  bool   // confirmed to be off by a fencing agent
	// Leaving: its cluster manager is about to demote it.
	Leaving bool
	// Database is what the node's agent found on the node, nil where it was not
	// asked to look.
	Database *Database
	// Disputed: when this view was last trusted the node claimed to be Primary
	// together with another. Losing sight of it must not settle the dispute.
	Disputed bool
}

// Probe is what a database server says of itself (row 23).
type Probe struct {
	Reachable bool
	ReadOnly  bool
	Reason    string // why it is not reachable, in words
	Hostname  string // @@hostname, @@server_id, @@server_uuid
	ServerID  uint64
	UUID      string
}

// Inputs are all that Decide looks at.
type Inputs struct {
	Views  []View
	Probes map[string]Probe // by node
	Policy Policy
	Pin    string
	// Quorum: DRBD 9's quorum is configured, so that having it means something;
	// without the feature DRBD says yes as well.
	Quorum bool
	// AnyDataDir lets a database take writes whose data directory is not seen to
	// lie on a DRBD device.
	AnyDataDir bool
}

// Decision is the answer to who may take writes. At most one node may.
type Decision struct {
	Writer   string // empty for nobody
	Verdict  Verdict
	Reason   string
	Sentence string
	Advice   string
	// Candidate is the node that DRBD lets write; it is the Writer once its
	// database can take writes.
	Candidate string
	Leaving   string // the node that may finish what it has begun, and nothing more
	Paused    string // the one Primary, whose I/O is frozen: what it has begun waits there
	Rows      []Row  // of each view, in the order of Inputs.Views
}

// trusted tells whether a view is fresh and was understood.
func (v *View) trusted() bool {
	return v.State != nil && v.Err == "" && v.Age <= v.Fresh
}

// claimsNow tells whether a view that is trusted claims to be Primary.
func (v *View) claimsNow() bool {
	return !v.Fenced && v.trusted() && v.State.claims(v.Minors)
}

var rowNoView = Row{22, Hold, "no-fresh-view", "its state is not known", "see that the node is up and that its DRBD state can be read"}

// Decide is the truth table of docs/authority.md: no clock, no I/O. It never
// names a writer while another node is seen to be Primary, and under Strict
// never without a fresh view, or confirmed fencing, of every other node unless
// DRBD itself vouches for the peer.
func Decide(in Inputs) Decision {
	d := Decision{Rows: make([]Row, len(in.Views))}
	claimant, claimants, unknown := -1, 0, 0
	for i := range in.Views {
		v := &in.Views[i]
		switch {
		case v.Fenced:
			d.Rows[i] = Row{21, Deny, "fenced", "confirmed to be off", ""}
		case !v.trusted():
			d.Rows[i] = rowNoView
			unknown++
			if v.Disputed {
				claimants++
			}
		default:
			d.Rows[i] = LocalAll(v.State, v.Minors)
			if v.State.claims(v.Minors) {
				claimant = i
				claimants++
			}
		}
	}
	switch {
	case claimants > 1:
		return d.several(in)
	case claimant < 0:
		return d.none(in, unknown)
	}
	return d.one(in, claimant, unknown)
}

// several is rows 15 and 16: more than one node claims to be Primary.
func (d Decision) several(in Inputs) Decision {
	var names []string
	split := false
	for i := range in.Views {
		v := &in.Views[i]
		if v.claimsNow() || v.Disputed && !v.Fenced && !v.trusted() {
			names = append(names, v.Node)
			split = split || d.Rows[i].Reason != rowDual.Reason
		}
	}
	if !split {
		for i, v := range in.Views {
			if in.Pin != "" && v.Node == in.Pin && d.Rows[i].Reason == rowDual.Reason {
				d.answer(RouteDegraded, rowDual.Reason, v.Node+" is pinned; both nodes are Primary", rowDual.Advice)
				return d.gate(in, v.Node)
			}
		}
		d.answer(Deny, rowDual.Reason, rowDual.Sentence, rowDual.Advice)
		return d
	}
	d.answer(Deny, "split-brain", strings.Join(names, " and ")+" both claim to be Primary and are not connected: split brain",
		"stop the database on the node whose changes are to be discarded, demote it, and reconnect it with drbdadm connect --discard-my-data RESOURCE")
	return d
}

// none is rows 18 and 22: no node claims to be Primary.
func (d Decision) none(in Inputs, unknown int) Decision {
	if unknown == 0 {
		d.answer(Hold, "no-primary", "no node is Primary: a failover is in progress, or none was started",
			"if it lasts, see the cluster manager, or promote a node: drbdadm primary RESOURCE")
		return d
	}
	var why []string
	for _, v := range in.Views {
		if !v.Fenced && !v.trusted() {
			why = append(why, v.Node+": "+v.whyNot())
		}
	}
	d.answer(Hold, "no-fresh-view", "no node is known to be Primary ("+strings.Join(why, "; ")+")", rowNoView.Advice)
	return d
}

func (v *View) whyNot() string {
	switch {
	case v.Err != "":
		return v.Err
	case v.State == nil:
		return "not read yet"
	}
	return fmt.Sprintf("last read %s ago, %s is allowed", v.Age.Round(time.Second), v.Fresh)
}

// one judges the only node that claims to be Primary.
func (d Decision) one(in Inputs, i, unknown int) Decision {
	v, row := &in.Views[i], d.Rows[i]
	d.answer(row.Verdict, row.Reason, v.Node+": "+row.Sentence, row.Advice)
	sole := unknown == 0
	trusted := in.Policy == Availability || in.Policy == Pinned && v.Node == in.Pin
	switch {
	case row.Verdict >= RouteDegraded:
	case row.Number == rowDual.Number && v.Node == in.Pin && in.Pin != "":
		d.Verdict = RouteDegraded
	case row.Verdict == NeedsSole && (sole || trusted || in.Quorum && v.quorate()):
		d.Verdict = RouteDegraded
	case row.Verdict == NeedsSole:
		d.Verdict = Hold
	case row.Number == rowStandAlone.Number && sole && trusted:
		d.Verdict = RouteDegraded
	}
	if d.Verdict < RouteDegraded {
		if row.Verdict == Hold && (sole || trusted) && !v.Leaving {
			d.Paused = v.Node
		}
		return d
	}
	if v.Leaving {
		d.answer(Hold, "demoting", v.Node+": its cluster manager is about to demote it", "wait for the other node to be promoted")
		d.Leaving = v.Node
		return d
	}
	return d.gate(in, v.Node)
}

// quorate tells whether DRBD 9's quorum vouches for every device.
func (v *View) quorate() bool {
	for i := range v.State.Devices {
		if v.State.Devices[i].Configured && v.State.Devices[i].Quorum != QuorumYes {
			return false
		}
	}
	return true
}

// gate is row 23: the role comes before mount, recovery and start, so the
// database itself must answer and take writes.
func (d Decision) gate(in Inputs, node string) Decision {
	d.Candidate = node
	p, ok := in.Probes[node]
	switch {
	case !ok:
		d.answer(Hold, "writer-unprobed", node+" is Primary; its database has not been asked yet", "wait for the first probe")
	case !p.Reachable:
		d.answer(Hold, "writer-unreachable", node+" is Primary; its database does not answer: "+p.Reason,
			"see that mysqld has started on "+node+" and that health.user may connect")
	case p.ReadOnly:
		d.answer(Hold, "writer-read-only", node+" is Primary; its database has read_only=1", "SET GLOBAL read_only=0 on "+node+" if it should take writes")
	default:
		return d.identify(in, node, &p)
	}
	return d
}

// identify asks whether the database at the configured address is the one that
// the node's agent sees, on the device that was judged.
func (d Decision) identify(in Inputs, node string, p *Probe) Decision {
	var db *Database
	for i := range in.Views {
		if in.Views[i].Node == node {
			db = in.Views[i].Database
		}
	}
	switch {
	case db == nil:
		d.Writer = node
	case db.Err != "":
		d.answer(Hold, "writer-unidentified", node+" is Primary; its agent cannot ask the database on the node: "+db.Err,
			"see agent.mysql in the agent's configuration on "+node)
	case db.Hostname != p.Hostname || db.ServerID != p.ServerID || db.UUID != p.UUID:
		d.answer(Hold, "wrong-server", fmt.Sprintf("%s is Primary; the database at its address is another (host %s, server_id %d) than the one on the node (host %s, server_id %d)",
			node, p.Hostname, p.ServerID, db.Hostname, db.ServerID), "correct the server's address; it must not be a floating one")
	case !db.OnDRBD && !in.AnyDataDir:
		d.answer(Hold, "datadir-not-on-drbd", node+" is Primary; its database's data directory "+db.DataDir+" is not on a DRBD device",
			"see that the file system is mounted; or set authority.datadir_on_drbd: false")
	default:
		d.Writer = node
	}
	return d
}

func (d *Decision) answer(v Verdict, reason, sentence, advice string) {
	d.Verdict, d.Reason, d.Sentence, d.Advice = v, reason, sentence, advice
}

// DecideByReadOnly is the decision without DRBD: of the candidates the one that
// takes writes. Two that take writes mean nobody.
func DecideByReadOnly(candidates []string, probes map[string]Probe) Decision {
	var open, down []string
	for _, c := range candidates {
		switch p, ok := probes[c]; {
		case !ok:
			down = append(down, c+": not asked yet")
		case !p.Reachable:
			down = append(down, c+": "+p.Reason)
		case !p.ReadOnly:
			open = append(open, c)
		}
	}
	var d Decision
	switch {
	case len(open) == 1:
		d.Writer, d.Candidate = open[0], open[0]
		d.answer(Route, "read-only-off", open[0]+" is the one server with read_only=0", "nothing to do")
	case len(open) > 1:
		d.answer(Deny, "several-writers", strings.Join(open, " and ")+" all have read_only=0", "SET GLOBAL read_only=1 on all but one")
	case len(down) > 0:
		d.answer(Hold, "writer-unreachable", "no server takes writes ("+strings.Join(down, "; ")+")", "see that mysqld runs and that health.user may connect")
	default:
		d.answer(Hold, "all-read-only", "every server has read_only=1", "SET GLOBAL read_only=0 on the primary")
	}
	return d
}
