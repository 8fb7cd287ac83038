// Package config is the one YAML file that runs Signalbox: its types, defaults,
// strict decoding and validation.
//
// It opens no connection and starts nothing; every other package takes its
// settings from here. The struct tags are the documentation: `doc` is the
// reference text and `default` the default, both rendered into
// docs/configuration.md and kept equal to it by a test.
package config

import "time"

// Config is the whole file.
type Config struct {
	Listeners []Listener `yaml:"listeners" doc:"Addresses on which clients connect. At least one."`
	Admin     Admin      `yaml:"admin" doc:"The HTTP address for operators: metrics, health, status."`
	TLS       TLS        `yaml:"tls" doc:"TLS between clients and the proxy."`
	Auth      Auth       `yaml:"auth" doc:"How clients prove who they are."`
	Users     []User     `yaml:"users" doc:"The accounts that may connect. Each must exist on every server too."`
	Servers   []Server   `yaml:"servers" doc:"The database servers behind the proxy."`
	Authority Authority  `yaml:"authority" doc:"How it is decided which server may take writes."`
	Agents    Agents     `yaml:"agents" doc:"How the agents on the DRBD nodes are reached."`
	Hold      Hold       `yaml:"hold" doc:"What happens to statements that need the primary while there is none."`
	Reads     Reads      `yaml:"reads" doc:"Where reads may go."`
	Router    Router     `yaml:"router" doc:"How statements are classified and routed."`
	Health    Health     `yaml:"health" doc:"The probe that each server gets."`
	Limits    Limits     `yaml:"limits" doc:"Bounds that protect the proxy and the servers."`
	LVS       LVS        `yaml:"lvs" doc:"Virtual services in the kernel, for traffic that does not pass through the proxy. See docs/lvs.md."`
	Log       Log        `yaml:"log" doc:"Logging, to standard error."`
	Zone      string     `yaml:"zone" doc:"The zone this proxy is in, such as a data centre; its reads prefer servers of the same zone."`
	StateDir  string     `yaml:"state_dir" doc:"Directory for what must survive a restart: which servers are drained or disabled, and the number of the last start, which keeps epochs rising when the clock goes back. Made if missing. Empty: both are forgotten."`
}

// Listener is one address that clients connect to.
type Listener struct {
	Address string `yaml:"address" doc:"HOST:PORT, [IPv6]:PORT, or unix:/path/to/socket."`
}

// Admin is the operators' HTTP server.
type Admin struct {
	Address string `yaml:"address" default:"127.0.0.1:9127" doc:"HOST:PORT of the HTTP server; empty for none."`
	Token   Secret `yaml:"token" doc:"Bearer token that a request to change something must carry. Empty: such requests are taken from this host only."`
}

// TLS between clients and the proxy.
type TLS struct {
	Mode     string `yaml:"mode" default:"optional" enum:"off,optional,required" doc:"Whether clients may or must use TLS. Unix sockets are exempt from required."`
	CertFile string `yaml:"cert_file" doc:"PEM certificate chain. Without one, mode optional makes a certificate of its own at start."`
	KeyFile  string `yaml:"key_file" doc:"PEM private key of cert_file."`
}

// Auth is how clients authenticate.
type Auth struct {
	Plugin        string `yaml:"plugin" default:"caching_sha2_password" enum:"caching_sha2_password,mysql_native_password" doc:"Authentication plugin of users that name none."`
	ServerVersion string `yaml:"server_version" doc:"Version string that clients are greeted with. Empty: the primary's own, as last probed."`
}

// User is one account.
type User struct {
	Name            string        `yaml:"name" doc:"Account name."`
	Password        Secret        `yaml:"password" doc:"Password; a literal, ${ENV}, or file:/path."`
	Plugin          string        `yaml:"plugin" enum:",caching_sha2_password,mysql_native_password" doc:"Authentication plugin; empty for auth.plugin."`
	BackendUser     string        `yaml:"backend_user" doc:"Account used on the servers, when it differs from name."`
	BackendPassword Secret        `yaml:"backend_password" doc:"Its password; empty: password."`
	MaxConnections  int           `yaml:"max_connections" default:"0" doc:"Most connections of this user at once; 0 for no limit of its own."`
	MaxLag          time.Duration `yaml:"max_lag" default:"0" doc:"How far behind a replica may be that serves this user; 0: reads.max_lag."`
	Consistency     string        `yaml:"consistency" enum:",eventual,session,global" doc:"What this user's reads see; empty: reads.consistency."`
}

// Server is one database server.
type Server struct {
	Name    string `yaml:"name" doc:"Unique name, used in logs, metrics and hints."`
	Role    string `yaml:"role" enum:"drbd,replica,primary" doc:"drbd: a node of the DRBD pair. replica: a read replica. primary: the server of authority static, or a candidate of authority read_only."`
	Address string `yaml:"address" doc:"HOST:PORT or unix:/path of its mysqld."`
	Weight  int    `yaml:"weight" default:"1" doc:"Share of reads, 1 to 1000."`
	Zone    string `yaml:"zone" doc:"The zone it is in, see zone."`
	DRBD    DRBD   `yaml:"drbd" doc:"Where this node's DRBD state is read. Only for role drbd."`
}

// DRBD is the source of one node's DRBD view.
type DRBD struct {
	Source string `yaml:"source" default:"auto" enum:"auto,netlink,events2,proc,status" doc:"How DRBD is read on this host. auto: netlink where the kernel has it, then drbdsetup events2, then /proc/drbd; another file than /proc/drbd is simply read. status: drbdsetup status --json, DRBD 9 only."`
	File   string `yaml:"file" default:"/proc/drbd" doc:"/proc/drbd, or a file in its format."`
	Minors []int  `yaml:"minors" doc:"Device minors that the database needs; empty: every configured device."`
	Agent  string `yaml:"agent" doc:"URL of the agent on that node, such as https://db1:7790. Then source and file are the agent's own matter."`
}

// Agents is how the proxy reaches the agents on the DRBD nodes, and who it is
// to them.
type Agents struct {
	CAFile    string        `yaml:"ca_file" doc:"PEM certificates that an agent's own must be signed by; empty: the system's."`
	CertFile  string        `yaml:"cert_file" doc:"PEM certificate that this proxy shows, for mutual TLS."`
	KeyFile   string        `yaml:"key_file" doc:"PEM private key of cert_file."`
	Token     Secret        `yaml:"token" doc:"Bearer token that the agents want."`
	Heartbeat time.Duration `yaml:"heartbeat" default:"250ms" doc:"How often an agent is asked for a sign of life, and sends one."`
	Insecure  bool          `yaml:"insecure" default:"false" doc:"Allow http:// to agents that are not on this host. Anybody on the network can then decide where writes go."`
}

// Authority is how the writer is found.
type Authority struct {
	Source        string        `yaml:"source" default:"drbd" enum:"drbd,read_only,static" doc:"drbd: the node that safely holds DRBD Primary. read_only: the one server of role primary with read_only=0. static: the one server of role primary."`
	Policy        string        `yaml:"policy" default:"strict" enum:"strict,pinned,availability" doc:"What to do where DRBD alone cannot tell a survivor from a split brain: strict waits for evidence about the peer, pinned trusts authority.pin, availability trusts the node that answers."`
	Pin           string        `yaml:"pin" doc:"The server that policy pinned trusts."`
	Poll          time.Duration `yaml:"poll" default:"100ms" doc:"How often a DRBD file is read."`
	PermitSamples int           `yaml:"permit_samples" default:"3" doc:"Consistent samples in a row before a node is given authority. Loss of authority needs one."`
	LocalFresh    time.Duration `yaml:"local_fresh" default:"1s" doc:"Age at which a view read on this host is no longer believed."`
	RemoteFresh   time.Duration `yaml:"remote_fresh" default:"3s" doc:"The same for a view that an agent sent."`
	Drain         time.Duration `yaml:"drain" default:"5s" doc:"After signalbox notify demote, how long open transactions may go on before they are cut. New writes wait from the start."`
	Quorum        bool          `yaml:"quorum" default:"false" doc:"DRBD 9: the resource has quorum majority or all, so that a node with quorum needs no evidence about the others."`
	DataDirOnDRBD bool          `yaml:"datadir_on_drbd" default:"true" doc:"Where an agent looks at its database: the data directory must lie on a DRBD device."`
}

// Hold is what happens to statements while nobody may take writes.
type Hold struct {
	Mode       string        `yaml:"mode" default:"hold" enum:"hold,fail,dry-run" doc:"hold: they wait. fail: they get the error at once. dry-run: the same, and it is counted and logged what would have waited."`
	Timeout    time.Duration `yaml:"timeout" default:"30s" doc:"Longest wait of a statement."`
	MaxWaiting int           `yaml:"max_waiting" default:"10000" doc:"Most statements waiting at once; one more gets the error at once."`
	MaxBytes   Size          `yaml:"max_bytes" default:"256MiB" doc:"Most memory of statements waiting at once; one more gets the error at once."`
	Release    int           `yaml:"release" default:"64" doc:"How many of the statements that waited run at once when there is a primary again."`
}

// Router is how statements are classified.
type Router struct {
	SystemSchemas     string   `yaml:"system_schemas" default:"primary" enum:"primary,replica" doc:"Where reads of information_schema, performance_schema, mysql and sys go."`
	ReadOnlyFunctions []string `yaml:"read_only_functions" doc:"Stored functions known to write nothing; a SELECT that calls them may go to a replica."`
	CacheSize         Size     `yaml:"cache_size" default:"16MiB" doc:"Memory for classified statements."`
	Rules             []Rule   `yaml:"rules" doc:"Overrides, first match wins. A rule never sends a write to a replica."`
}

// Rule overrides the routing of the statements that match all conditions set.
type Rule struct {
	Name        string        `yaml:"name" doc:"Shown as the reason."`
	User        string        `yaml:"user" doc:"Account name."`
	Schema      string        `yaml:"schema" doc:"Default schema of the session."`
	Kind        string        `yaml:"kind" doc:"Statement kind, as explain prints it."`
	Digest      string        `yaml:"digest" doc:"Digest, as explain prints it."`
	Match       string        `yaml:"match" doc:"Regular expression on the normalised text."`
	Target      string        `yaml:"target" enum:",primary,replica,deny" doc:"Where to; deny answers with an error. Empty: as without the rule, with its max_lag and consistency."`
	Message     string        `yaml:"message" doc:"Error text of target deny."`
	MaxLag      time.Duration `yaml:"max_lag" default:"0" doc:"How far behind a replica may be that serves these reads; 0: the user's, or reads.max_lag."`
	Consistency string        `yaml:"consistency" enum:",eventual,session,global" doc:"What these reads see; empty: as without the rule."`
}

// Health is the probe of each server.
type Health struct {
	User      string        `yaml:"user" doc:"Account of the probe; needs REPLICATION CLIENT (MariaDB: also SLAVE MONITOR)."`
	Password  Secret        `yaml:"password" doc:"Its password."`
	Interval  time.Duration `yaml:"interval" default:"1s" doc:"Time between probes of one server."`
	Timeout   time.Duration `yaml:"timeout" default:"2s" doc:"Longest a probe may take."`
	Rise      int           `yaml:"rise" default:"2" doc:"Good probes in a row before a server that was down is used."`
	Fall      int           `yaml:"fall" default:"3" doc:"Bad probes in a row before a server is no longer used."`
	Stall     time.Duration `yaml:"stall" default:"500ms" doc:"A server that owes answers and gives none for this long is probed at once, and one such probe unanswered is enough to no longer use it."`
	Heartbeat Heartbeat     `yaml:"heartbeat" doc:"A table that tells a replica's lag in milliseconds."`
}

// Limits protect the proxy and the servers.
type Limits struct {
	MaxConnections   int           `yaml:"max_connections" default:"10000" doc:"Most client connections at once."`
	HandshakeTimeout time.Duration `yaml:"handshake_timeout" default:"10s" doc:"Time for a client to authenticate."`
	HandshakeBytes   Size          `yaml:"handshake_bytes" default:"64KiB" doc:"Most bytes a client may send before it is authenticated."`
	MaxPacket        Size          `yaml:"max_packet" default:"1GiB" doc:"Largest statement accepted from a client; the servers' own max_allowed_packet applies too."`
	ConnectTimeout   time.Duration `yaml:"connect_timeout" default:"3s" doc:"Time to connect and authenticate to a server."`
	IdleTimeout      time.Duration `yaml:"idle_timeout" default:"8h" doc:"An idle client is disconnected after this; 0 for never."`
}

// Log is what is logged.
type Log struct {
	Level  string `yaml:"level" default:"info" enum:"debug,info,warn,error" doc:"Least severe level that is logged."`
	Format string `yaml:"format" default:"text" enum:"text,json" doc:"Form of a log line."`
}
