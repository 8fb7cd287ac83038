package drbdwatch

import (
	"encoding/json"
	"fmt"
)

// statusResource is one resource of drbdsetup status --json (DRBD 9;
// resource_status_json in drbd-utils user/v9/drbdsetup.c).
type statusResource struct {
	Name            string `json:"name"`
	Role            string `json:"role"`
	Suspended       bool   `json:"suspended"`
	SuspendedUser   bool   `json:"suspended-user"`
	SuspendedNoData bool   `json:"suspended-no-data"`
	SuspendedFence  bool   `json:"suspended-fencing"`
	SuspendedQuorum bool   `json:"suspended-quorum"`
	ForceIOFailures bool   `json:"force-io-failures"`
	Devices         []struct {
		Volume int    `json:"volume"`
		Minor  int    `json:"minor"`
		Disk   string `json:"disk-state"`
		Quorum *bool  `json:"quorum"`
	} `json:"devices"`
	Connections []struct {
		Name        string `json:"name"`
		Connection  string `json:"connection-state"`
		Role        string `json:"peer-role"`
		PeerDevices []struct {
			Volume      int    `json:"volume"`
			Replication string `json:"replication-state"`
			Disk        string `json:"peer-disk-state"`
		} `json:"peer_devices"`
	} `json:"connections"`
}

// ParseStatus reads the output of drbdsetup status --json.
func ParseStatus(text []byte, version string) (*State, error) {
	var list []statusResource
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("drbdsetup status --json: %w", err)
	}
	m := make(model)
	for i := range list {
		in := &list[i]
		if in.Name == "" || m[in.Name] != nil {
			return nil, fmt.Errorf("drbdsetup status --json: resource %q has no name of its own", clip(in.Name))
		}
		r := m.resource(in.Name)
		r.role, r.forced, r.suspended = in.Role, in.ForceIOFailures, in.causes()
		for _, d := range in.Devices {
			v := r.volume(d.Volume)
			v.minor, v.disk = d.Minor, d.Disk
			switch {
			case d.Quorum != nil && *d.Quorum:
				v.quorum = QuorumYes
			case d.Quorum != nil:
				v.quorum = QuorumNo
			}
		}
		for _, c := range in.Connections {
			p := r.peer(c.Name)
			p.connection, p.role = c.Connection, c.Role
			for _, d := range c.PeerDevices {
				v := p.volume(d.Volume)
				v.replication, v.disk = d.Replication, d.Disk
			}
		}
	}
	return m.state(version)
}

func (r *statusResource) causes() string {
	list := ""
	for _, c := range []struct {
		on   bool
		name string
	}{{r.SuspendedUser, "user"}, {r.SuspendedNoData, "no-data"}, {r.SuspendedFence, "fencing"}, {r.SuspendedQuorum, "quorum"}} {
		if c.on && list != "" {
			list += ","
		}
		if c.on {
			list += c.name
		}
	}
	if list == "" && r.Suspended {
		return "unknown"
	}
	return list
}
