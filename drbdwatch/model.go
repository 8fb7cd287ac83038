package drbdwatch

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// model is what DRBD's own interfaces (netlink, events2, status) report: objects
// that come, change and go. Its words are DRBD 9's, which DRBD 8.4 uses there
// too.
type model map[string]*resource

type resource struct {
	role      string
	suspended string // empty, or the causes
	forced    bool
	volumes   map[int]*volume
	peers     map[string]*peer
}

type volume struct {
	minor  int
	disk   string
	quorum Quorum
}

type peer struct {
	connection, role string
	volumes          map[int]*peerVolume
}

type peerVolume struct{ replication, disk string }

func (m model) resource(name string) *resource {
	r := m[name]
	if r == nil {
		r = &resource{role: "Unknown", volumes: make(map[int]*volume), peers: make(map[string]*peer)}
		m[name] = r
	}
	return r
}

func (r *resource) volume(n int) *volume {
	v := r.volumes[n]
	if v == nil {
		v = &volume{minor: -1}
		r.volumes[n] = v
	}
	return v
}

func (r *resource) peer(name string) *peer {
	p := r.peers[name]
	if p == nil {
		p = &peer{role: "Unknown", volumes: make(map[int]*peerVolume)}
		r.peers[name] = p
	}
	return p
}

func (p *peer) volume(n int) *peerVolume {
	v := p.volumes[n]
	if v == nil {
		v = &peerVolume{replication: "Off", disk: "DUnknown"}
		p.volumes[n] = v
	}
	return v
}

// errImplausible: something said does not fit the rest.
var errImplausible = errors.New("that cannot be right")

// state is the model as devices, one for each volume and peer. A word that no
// version has is an error: what is not understood must not be believed.
func (m model) state(version string) (*State, error) {
	s := &State{Version: version}
	for name, r := range m {
		for n, v := range r.volumes {
			d := Device{Minor: v.minor, Resource: name, Configured: true, Role: r.role, Disk: v.disk, Quorum: v.quorum,
				Suspended: r.suspended != "", Cause: r.suspended, ForceIOFailures: r.forced, OutOfSyncKiB: -1, SyncPercent: -1}
			if v.minor < 0 || !roles[r.role] || !diskStates[v.disk] {
				return nil, fmt.Errorf("resource %s volume %d: minor %d, role %q, disk %q: %w", name, n, v.minor, clip(r.role), clip(v.disk), errImplausible)
			}
			if len(r.peers) == 0 {
				d.CS, d.PeerRole, d.PeerDisk = "StandAlone", "Unknown", "DUnknown"
				s.Devices = append(s.Devices, d)
			}
			for peerName, p := range r.peers {
				pv := p.volumes[n]
				if pv == nil {
					pv = &peerVolume{replication: "Off", disk: "DUnknown"}
				}
				d.Peer, d.PeerRole, d.PeerDisk = peerName, p.role, pv.disk
				if d.CS = combined(p.connection, pv.replication); d.CS == "" || !roles[p.role] || !diskStates[pv.disk] {
					return nil, fmt.Errorf("resource %s peer %s: connection %q, replication %q, role %q, disk %q: %w",
						name, clip(peerName), clip(p.connection), clip(pv.replication), clip(p.role), clip(pv.disk), errImplausible)
				}
				s.Devices = append(s.Devices, d)
			}
		}
	}
	slices.SortFunc(s.Devices, func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.Minor, b.Minor), cmp.Compare(a.Peer, b.Peer))
	})
	return s, nil
}

// combined is the one connection state of DRBD 8 for DRBD 9's two (map in
// drbd_legacy_84.c), empty when a word is unknown. Connected with replication
// Off is a handshake in progress.
func combined(connection, replication string) string {
	switch connection {
	case "Connecting":
		return "WFConnection"
	case "Connected":
		switch {
		case replication == "Off":
			return "WFReportParams"
		case replication == "Established":
			return "Connected"
		case replicationStates[replication]:
			return replication
		}
		return ""
	case "StandAlone", "Disconnecting", "Unconnected", "Timeout", "BrokenPipe", "NetworkFailure", "ProtocolError", "TearDown":
		return connection
	}
	return ""
}
