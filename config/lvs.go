package config

import "time"

// LVS is the LVS role: virtual services in the kernel.
type LVS struct {
	Mode          string        `yaml:"mode" default:"off" enum:"off,kernel,socket" doc:"off: no LVS, no privilege needed. kernel: this process holds CAP_NET_ADMIN and keeps the kernel's table. socket: signalbox lvs serve holds it, and this process asks it."`
	Socket        string        `yaml:"socket" default:"/run/signalbox/lvs.sock" doc:"Unix socket of signalbox lvs serve."`
	SocketUser    string        `yaml:"socket_user" doc:"User name or number that may use the socket, beside root and the user that signalbox lvs serve runs as."`
	StateDir      string        `yaml:"state_dir" default:"/var/lib/signalbox" doc:"Directory in which own services and drained servers are kept across restarts. It must exist. Empty: only in memory, and after a restart own services look like others'."`
	Interval      time.Duration `yaml:"interval" default:"2s" doc:"How often the kernel's table is compared as a whole, beside each change of health or authority."`
	MaxLag        time.Duration `yaml:"max_lag" default:"10s" doc:"A replica further behind, or whose lag is unknown, counts as failed; 0 for no bound."`
	Adopt         bool          `yaml:"adopt" default:"false" doc:"Take over services that exist with a configured address though another program made them, for one start after a migration or a lost state_dir. Otherwise that is a conflict, and they stay as they are."`
	LeaveOnExit   bool          `yaml:"leave_on_exit" default:"true" doc:"Leave the table as it is when the process ends, so that connections go on. false: remove own services."`
	StandbyProbes time.Duration `yaml:"standby_interval" default:"10s" doc:"Time between own probes of listed servers while none of the services' addresses is on this host. Cluster servers are probed as health says."`
	Sync          LVSSync       `yaml:"sync" doc:"The kernel's synchronisation of connections between a pair of directors, so that they go on when the address moves."`
	Flap          LVSFlap       `yaml:"flap" doc:"A server that fails again and again stays out for longer."`
	Proxies       []LVSServer   `yaml:"proxies" doc:"The Signalbox proxies, for services whose servers are proxies."`
	Services      []LVSService  `yaml:"services" doc:"The virtual services."`
}

// LVSSync is the kernel's synchronisation of connections. Both directors tell and
// listen, so that nothing has to be switched when the address moves.
type LVSSync struct {
	Interface string `yaml:"interface" doc:"Interface on which the directors tell each other of their connections, by multicast and unencrypted; empty: the kernel's daemons are left alone."`
	ID        int    `yaml:"id" default:"1" doc:"Number of the pair, 1 to 255, the same on both directors."`
	Group     string `yaml:"group" default:"224.0.0.81" doc:"Multicast address."`
	Port      int    `yaml:"port" default:"8848" doc:"UDP port."`
}

// LVSFlap damps servers that go up and down.
type LVSFlap struct {
	Failures int           `yaml:"failures" default:"3" doc:"Failures within the window from which a server counts as flapping, 1 to 8; 0 for never."`
	Window   time.Duration `yaml:"window" default:"5m" doc:"The window."`
	Hold     time.Duration `yaml:"hold" default:"1m" doc:"A flapping server comes back only after it has been healthy for this long."`
}

// LVSService is one virtual service, or several alike: one for each port.
type LVSService struct {
	Name           string        `yaml:"name" doc:"Unique name, used in logs, metrics and commands."`
	Address        string        `yaml:"address" doc:"IPv4 or IPv6 address of the service, or empty with mark."`
	Ports          string        `yaml:"ports" doc:"A port or a range such as 3306-3310: each becomes a service of its own. 0, with persistence: every port."`
	Mark           int           `yaml:"mark" default:"0" doc:"Firewall mark, 1 or more, instead of address and ports."`
	Family         string        `yaml:"family" default:"ipv4" enum:"ipv4,ipv6" doc:"Address family of a service by mark."`
	Protocol       string        `yaml:"protocol" default:"tcp" enum:"tcp,udp" doc:"Protocol."`
	Scheduler      string        `yaml:"scheduler" default:"wlc" enum:"rr,wrr,lc,wlc,sed,nq,sh,mh,dh,fo,ovf,lblc,lblcr,twos" doc:"How the kernel chooses among the servers. wlc suits pooled database connections; mh with fallback suits a pair of directors that are both active."`
	SchedulerFlags []string      `yaml:"scheduler_flags" doc:"fallback: of sh and mh, another server when the hashed one is out. port: of sh and mh, hash the client's port too. one-packet: of UDP, schedule each packet by itself."`
	Persistence    time.Duration `yaml:"persistence" default:"0s" doc:"A client stays on its server for this long after its last connection, whole seconds; 0 for not."`
	PersistenceNet int           `yaml:"persistence_netmask" default:"0" doc:"Prefix length that makes clients one for persistence; 0 for a single address."`
	Forward        string        `yaml:"forward" default:"masq" enum:"dr,masq,tunnel,local" doc:"How packets reach the servers. dr: same link, the server has the address on lo (signalbox agent --real-server). masq: the server's way back leads through this host. tunnel: wrapped. local: this host."`
	Tunnel         LVSTunnel     `yaml:"tunnel" doc:"Of forward tunnel."`
	Servers        string        `yaml:"servers" default:"listed" enum:"replicas,primary,proxies,listed" doc:"replicas: the servers of role replica that are healthy. primary: the server in authority, never two. proxies: lvs.proxies. listed: real_servers."`
	RealServers    []LVSServer   `yaml:"real_servers" doc:"The servers of a service whose servers are listed."`
	Port           int           `yaml:"server_port" default:"0" doc:"Port of the servers, where a server gives none; 0: replicas and primary their own mysqld's, others the service's."`
	Weight         int           `yaml:"weight" default:"100" doc:"Weight in the kernel of a replica whose servers[].weight is 1, and of the primary, 1 to 65535."`
	Upper          int           `yaml:"upper_threshold" default:"0" doc:"Connections from which a server gets no more; 0 for no bound."`
	Lower          int           `yaml:"lower_threshold" default:"0" doc:"Connections below which it gets new ones again; 0: three quarters of upper_threshold."`
	Sorry          LVSSorry      `yaml:"sorry_server" doc:"Serves while fewer than quorum servers are healthy."`
	Quorum         int           `yaml:"quorum" default:"1" doc:"Healthy servers that the service needs."`
	Hysteresis     int           `yaml:"quorum_hysteresis" default:"0" doc:"The quorum is lost below quorum - hysteresis and regained at quorum + hysteresis."`
	OnFailure      string        `yaml:"on_failure" default:"quiesce" enum:"quiesce,remove" doc:"quiesce: a failed server gets weight 0 and is removed when idle or after quiesce_timeout. remove: it is removed at once. The primary's service always removes."`
	Quiesce        time.Duration `yaml:"quiesce_timeout" default:"30s" doc:"Longest that a failed server keeps its connections."`
	SlowStart      time.Duration `yaml:"slow_start" default:"30s" doc:"Time over which the weight of a server that comes back rises from a tenth to the whole; 0 for at once."`
	Drain          time.Duration `yaml:"drain" default:"5m" doc:"Longest that a drained server keeps its connections; signalbox lvs drain."`
	Check          LVSCheck      `yaml:"check" doc:"Check of the servers that have none of their own. Replicas and primary are judged by the cluster's probes instead."`
}

// LVSTunnel is how packets are wrapped.
type LVSTunnel struct {
	Type     string `yaml:"type" default:"ipip" enum:"ipip,gue,gre" doc:"Encapsulation."`
	Port     int    `yaml:"port" default:"0" doc:"UDP port of gue."`
	Checksum string `yaml:"checksum" default:"none" enum:"none,checksum,remote" doc:"Of gue and gre: checksum of the outer packet; remote, of gue: remote checksum offload."`
}

// LVSServer is one listed real server.
type LVSServer struct {
	Name    string   `yaml:"name" doc:"Name, used in logs, metrics and commands. The same server in several services has the same name."`
	Address string   `yaml:"address" doc:"IP address, or IP:PORT with the brackets of IPv6."`
	Weight  int      `yaml:"weight" default:"100" doc:"Weight, 1 to 65535. To keep connections away use signalbox lvs drain."`
	Upper   int      `yaml:"upper_threshold" default:"0" doc:"Connections from which it gets no more; 0: the service's."`
	Lower   int      `yaml:"lower_threshold" default:"0" doc:"Connections below which it gets new ones again; 0: the service's."`
	Check   LVSCheck `yaml:"check" doc:"How its health is checked; without type as the service says."`
}

// LVSSorry is the server of last resort.
type LVSSorry struct {
	Address string `yaml:"address" doc:"IP address, or IP:PORT; empty for none."`
	Forward string `yaml:"forward" enum:",dr,masq,tunnel,local" doc:"How packets reach it; empty: as the service says."`
}

// LVSCheck is one health check.
type LVSCheck struct {
	Type     string        `yaml:"type" enum:",tcp,mysql,http,command,none" doc:"tcp: a connection is accepted and closed politely; where something speaks MySQL use mysql. mysql: log in and run query. http: GET path gives status. command: exits with 0. none: always healthy."`
	Port     int           `yaml:"port" default:"0" doc:"Port that is checked; 0: the server's."`
	User     string        `yaml:"user" doc:"Of mysql: account; empty: health.user."`
	Password Secret        `yaml:"password" doc:"Its password."`
	Query    string        `yaml:"query" default:"SELECT 1" doc:"Of mysql: healthy if it gives a row whose first column is neither NULL, 0 nor empty."`
	Path     string        `yaml:"path" default:"/readyz" doc:"Of http: path and query."`
	Host     string        `yaml:"host" doc:"Of http: Host header; empty: the address."`
	Status   int           `yaml:"status" default:"200" doc:"Of http: status expected."`
	Command  []string      `yaml:"command" doc:"Of command: program and arguments, no shell. SIGNALBOX_ADDRESS, _PORT, _SERVER are set."`
	Interval time.Duration `yaml:"interval" default:"1s" doc:"Time between checks."`
	Timeout  time.Duration `yaml:"timeout" default:"2s" doc:"Longest a check may take."`
	Rise     int           `yaml:"rise" default:"2" doc:"Good checks in a row before a server that was down is used."`
	Fall     int           `yaml:"fall" default:"2" doc:"Bad checks in a row before a server is no longer used; a refused connection counts for all of them."`
}
