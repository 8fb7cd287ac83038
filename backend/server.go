// Package backend is the database servers: their inventory, health and
// replication positions, and connections to them. It publishes immutable
// snapshots, and its Gate is the only way to a connection that may write.
//
// It knows nothing of client sessions or SQL, and does not decide who may take
// writes: drbdwatch does; nor which server a read goes to: router does.
package backend

import (
	"sync"
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
	Remote  bool // in another zone than this proxy
	Load    Load
	Fresh   Fresh

	kick  chan struct{} // has the probe run at once
	mu    sync.Mutex    // guards conns
	conns map[*Conn]struct{}
}

func servers(cfg *config.Config) []*Server {
	list := make([]*Server, len(cfg.Servers))
	for i, s := range cfg.Servers {
		network, address := config.Network(s.Address)
		list[i] = &Server{Index: i, Name: s.Name, Role: s.Role, Network: network, Address: address, Weight: s.Weight,
			Remote: cfg.Zone != "" && s.Zone != "" && s.Zone != cfg.Zone, kick: make(chan struct{}, 1), conns: make(map[*Conn]struct{})}
	}
	return list
}

// Status is what is known of a server after a probe.
type Status struct {
	Server     *Server
	Mode       Mode          // what an operator has set
	Up         bool          // by rise and fall counts
	Reason     string        // why it is up or down, in words
	Since      time.Duration // since when Up and Mode are as they are, by Now; 0 for since the start
	ReadOnly   bool
	Replicates bool   // it has a running replication from somewhere
	Warning    string // what is wrong with it although it may serve
	Lag        time.Duration
	LagKnown   bool
	LagHeld    time.Duration // Lag as it counts against a max_lag: it falls late, see lagHold
	Position   Position      // executed
	Free       int           // connections it could still take, -1 for unknown
	Version    string
	MariaDB    bool
	ServerID   uint32
	Hostname   string
	UUID       string        // MySQL's server_uuid
	Latency    time.Duration // of the last probe
	LastProbe  time.Time

	beat     int64         // newest heartbeat there, in microseconds; 0 for none
	asked    time.Duration // when the probe asked for Position, by Now
	answered time.Duration // how long it took to answer that
}

// Snapshot is all servers' status at one time. It is immutable.
type Snapshot struct {
	Seq      uint64 // rises with each
	Servers  []Status
	OwnFault bool // no server answers: taken for a fault of this host's network
}

// Need is what a read asks of a replica.
type Need struct {
	Position Position      // it must have executed this
	Exclude  uint64        // bit i: not server i
	Open     uint64        // bit i: the session has a connection to server i
	Server   string        // this one if it qualifies, by a hint
	MaxLag   time.Duration // it may be this far behind; 0 for no bound
	Since    time.Duration // the last write in Position began then, by Now; 0 for unknown
	Wait     time.Duration // it need not be known to have Position, if it may have it within this time
	Now      time.Duration // by Now; for Wait
}

// Refusal is why a server may not serve a read, from never to not yet.
type Refusal uint8

// The refusals.
const (
	Serves     Refusal = iota
	NotReplica         // it is none
	Excluded           // by Need.Exclude
	Drained            // by an operator
	Down
	LagUnknown
	Lagging
	Behind // it does not have Need.Position, and is fit otherwise
)

// Offer tells whether the server, as a replica, may serve a read with need, and
// if not why. It allocates nothing.
func (st *Status) Offer(need *Need) Refusal {
	switch {
	case st.Server.Role != config.RoleReplica:
		return NotReplica
	case need.Exclude>>uint(st.Server.Index)&1 != 0:
		return Excluded
	case st.Mode != Enabled:
		return Drained
	case !st.Up:
		return Down
	case !st.LagKnown:
		return LagUnknown
	case need.MaxLag > 0 && st.LagHeld > need.MaxLag:
		return Lagging
	case !st.has(need) && !st.promising(need):
		return Behind
	}
	return Serves
}

// Warmth is how much of its share a server that is back gets, in 256ths and at
// least one; 0 for all of it.
func (st *Status) Warmth(now, slowStart time.Duration) int {
	if st.Since == 0 || now-st.Since >= slowStart {
		return 0
	}
	return max(1, int(255*(now-st.Since)/slowStart))
}
