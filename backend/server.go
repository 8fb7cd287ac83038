// Package backend is the database servers: their inventory, health and
// replication positions, and connections to them. It publishes immutable
// snapshots, and its Gate is the only way to a connection that may write.
//
// It knows nothing of client sessions or SQL, and does not decide who may take
// writes: drbdwatch does.
package backend

import (
	"time"

	"signalbox/config"
)

// Server is one database server of the configuration.
type Server struct {
	Index   int // in the configuration and in Snapshot.Servers, 0 to 63
	Name    string
	Role    string // config.Role…
	Network string // tcp or unix
	Address string
	Weight  int
}

func servers(cfg *config.Config) []*Server {
	list := make([]*Server, len(cfg.Servers))
	for i, s := range cfg.Servers {
		network, address := config.Network(s.Address)
		list[i] = &Server{Index: i, Name: s.Name, Role: s.Role, Network: network, Address: address, Weight: s.Weight}
	}
	return list
}

// Status is what is known of a server after a probe.
type Status struct {
	Server     *Server
	Up         bool   // by rise and fall counts
	Reason     string // why it is up or down, in words
	ReadOnly   bool
	Replicates bool // it has a running replication from somewhere
	Lag        time.Duration
	LagKnown   bool
	Position   Position // executed
	Version    string
	MariaDB    bool
	ServerID   uint32
	Hostname   string
	UUID       string        // MySQL's server_uuid
	Latency    time.Duration // of the last probe
	LastProbe  time.Time
}

// Snapshot is all servers' status at one time. It is immutable.
type Snapshot struct {
	Seq     uint64 // rises with each
	Servers []Status
}

// Need is what a read asks of a replica.
type Need struct {
	Position Position // it must have executed this
	Exclude  uint64   // bit i: not server i
	Server   string   // this one if it qualifies, by a hint
}

// Pick chooses among the replicas of a snapshot that satisfy need, each as
// often as its weight says; nil when there is none. random is any number.
func Pick(s *Snapshot, need *Need, maxLag time.Duration, random uint64) *Server {
	total := 0
	for i := range s.Servers {
		if st := &s.Servers[i]; st.serves(need, maxLag) {
			if st.Server.Name == need.Server {
				return st.Server
			}
			total += st.Server.Weight
		}
	}
	if total == 0 {
		return nil
	}
	at := int(random % uint64(total))
	for i := range s.Servers {
		if st := &s.Servers[i]; st.serves(need, maxLag) {
			if at -= st.Server.Weight; at < 0 {
				return st.Server
			}
		}
	}
	return nil
}

func (st *Status) serves(need *Need, maxLag time.Duration) bool {
	return st.Up && st.Server.Role == config.RoleReplica && need.Exclude>>uint(st.Server.Index)&1 == 0 &&
		st.LagKnown && (maxLag <= 0 || st.Lag <= maxLag) && st.Position.Contains(&need.Position)
}
