package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// AgentFile is the whole file of signalbox agent, which runs on each DRBD node.
type AgentFile struct {
	Node     string        `yaml:"node" doc:"This node's name, as the server's name in the proxies' configuration. Empty: the host name."`
	Address  string        `yaml:"address" default:"127.0.0.1:7790" doc:"HOST:PORT on which proxies, and signalbox notify, reach the agent."`
	CertFile string        `yaml:"cert_file" doc:"PEM certificate chain of the agent. Without one it serves plain HTTP, which is allowed on loopback only."`
	KeyFile  string        `yaml:"key_file" doc:"PEM private key of cert_file."`
	ClientCA string        `yaml:"client_ca_file" doc:"PEM certificates; whoever connects must show one that they signed."`
	Token    Secret        `yaml:"token" doc:"Bearer token that whoever connects must show."`
	Insecure bool          `yaml:"insecure" default:"false" doc:"Allow plain HTTP beyond loopback. Anybody on the network can then read this node's state, and confirm fencing that never was."`
	State    string        `yaml:"state_dir" doc:"Directory in which confirmed fencing is kept while this host is up; empty: only in memory, lost when the agent restarts."`
	Interval time.Duration `yaml:"heartbeat" default:"250ms" doc:"Most time between two reports."`
	Poll     time.Duration `yaml:"poll" default:"100ms" doc:"How often DRBD is read beside the kernel's pushes."`
	Leave    time.Duration `yaml:"leave_timeout" default:"60s" doc:"After notify demote, how long writes are kept away if this node stays Primary."`
	DRBD     AgentDRBD     `yaml:"drbd" doc:"How this node's DRBD is read."`
	Database AgentDatabase `yaml:"mysql" doc:"The mysqld on this node."`
	Real     AgentReal     `yaml:"real_server" doc:"This host as a real server of a director that forwards by dr or tunnel. Only with signalbox agent --real-server, which needs root."`
	Log      Log           `yaml:"log" doc:"Logging, to standard error."`
}

// AgentReal is an agent's host as a real server.
type AgentReal struct {
	VIPs []string `yaml:"vips" doc:"The virtual addresses. Each is put on lo, after arp_ignore and arp_announce have been set so that the network does not find it here; on exit all is put back as it was."`
}

// Addresses are the virtual addresses.
func (r AgentReal) Addresses() []netip.Addr {
	list := make([]netip.Addr, 0, len(r.VIPs))
	for _, v := range r.VIPs {
		if a, err := netip.ParseAddr(v); err == nil { // checked by LoadAgent
			list = append(list, a)
		}
	}
	return list
}

// AgentDRBD is how an agent reads DRBD.
type AgentDRBD struct {
	Source string `yaml:"source" default:"auto" enum:"auto,netlink,events2,proc,status" doc:"auto: netlink where the kernel has it, then drbdsetup events2, then /proc/drbd. status: drbdsetup status --json, DRBD 9 only."`
	File   string `yaml:"file" default:"/proc/drbd" doc:"/proc/drbd, or a file in its format."`
}

// AgentDatabase is the mysqld beside an agent.
type AgentDatabase struct {
	Address  string `yaml:"address" doc:"HOST:PORT or unix:/path of this node's mysqld; empty: it is not asked who it is."`
	User     string `yaml:"user" doc:"Account; it needs no privilege."`
	Password Secret `yaml:"password" doc:"Its password."`
	DataDir  string `yaml:"datadir" doc:"Data directory whose mount is reported while mysqld does not run; empty: none."`
}

// Source is the agent's DRBD settings in the form that drbdwatch takes.
func (a *AgentFile) Source() DRBD { return DRBD{Source: a.DRBD.Source, File: a.DRBD.File} }

// LoadAgent reads and checks an agent's file; see Load.
func LoadAgent(path string) (*AgentFile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return ParseAgent(path, text)
}

// ParseAgent checks text as LoadAgent does; name stands for the file in errors.
func ParseAgent(name string, text []byte) (*AgentFile, error) {
	a := new(AgentFile)
	if err := parse(name, text, a, func(d *decoder) { d.agentFile(a) }); err != nil {
		return nil, err
	}
	return a, nil
}

func (d *decoder) agentFile(a *AgentFile) {
	if a.Node == "" {
		a.Node, _ = os.Hostname()
	}
	d.address("address", a.Address)
	if a.Database.Address != "" {
		d.address("mysql.address", a.Database.Address)
		if a.Database.User == "" {
			d.at("mysql.user", "asking mysqld needs an account")
		}
	}
	if (a.CertFile == "") != (a.KeyFile == "") {
		d.at("cert_file", "cert_file and key_file go together; set both or neither")
	}
	host, _, _ := net.SplitHostPort(a.Address)
	ip, err := netip.ParseAddr(host)
	if a.CertFile == "" && !a.Insecure && (err != nil || !ip.IsLoopback()) {
		d.at("address", "plain HTTP is allowed on a loopback address only: set cert_file and key_file, or insecure if the network is trusted")
	}
	if a.CertFile != "" && a.ClientCA == "" && a.Token == "" {
		d.at("client_ca_file", "the agent must know whom to believe: set client_ca_file, or token")
	}
	if a.ClientCA != "" && a.CertFile == "" {
		d.at("client_ca_file", "client certificates need TLS: set cert_file and key_file")
	}
	seen := make(map[netip.Addr]bool)
	for i, v := range a.Real.VIPs {
		path := fmt.Sprintf("real_server.vips[%d]", i)
		ip, err := netip.ParseAddr(v)
		switch {
		case err != nil || ip.Zone() != "" || ip.Is4In6():
			d.at(path, "%q is no IPv4 or IPv6 address", v)
		case ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback():
			d.at(path, "%s cannot be a virtual address", v)
		case seen[ip]:
			d.at(path, "%s is listed twice", v)
		}
		seen[ip] = true
	}
	for path, t := range map[string]time.Duration{"heartbeat": a.Interval, "poll": a.Poll, "leave_timeout": a.Leave} {
		if t <= 0 {
			d.at(path, "it must be more than 0")
		}
	}
}
