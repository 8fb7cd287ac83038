package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Roles of a server.
const (
	RoleDRBD    = "drbd"
	RoleReplica = "replica"
	RolePrimary = "primary"
)

// Network splits an address of the configuration into what net.Dial and
// net.Listen take.
func Network(address string) (network, target string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix", path
	}
	return "tcp", address
}

// validate reports what is wrong between values that are each well formed.
func (d *decoder) validate(c *Config) {
	d.listeners(c)
	d.users(c)
	d.servers(c)
	d.authority(c)
	d.bounds(c)
	d.reads(c)
	d.lvs(c)
	if (c.Agents.CertFile == "") != (c.Agents.KeyFile == "") {
		d.at("agents", "cert_file and key_file go together; set both or neither")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		d.at("tls", "cert_file and key_file go together; set both or neither")
	}
	for i, r := range c.Router.Rules {
		path := fmt.Sprintf("router.rules[%d]", i)
		if r.Target == "" && r.MaxLag == 0 && r.Consistency == "" {
			d.at(path+".target", "a rule needs one: primary, replica or deny; or a max_lag or consistency")
		}
		if r.Name == "" {
			d.at(path+".name", "a rule needs a name; it is shown as the reason of the route")
		}
	}
}

func (d *decoder) listeners(c *Config) {
	if len(c.Listeners) == 0 {
		d.at("listeners", "at least one is needed, such as - address: 127.0.0.1:3306")
	}
	seen := make(map[string]bool)
	for i, l := range c.Listeners {
		path := fmt.Sprintf("listeners[%d].address", i)
		d.address(path, l.Address)
		if seen[l.Address] {
			d.at(path, "%s is listed twice; remove one", l.Address)
		}
		seen[l.Address] = true
	}
	if c.Admin.Address != "" {
		d.address("admin.address", c.Admin.Address)
	}
}

// address checks HOST:PORT or unix:/path.
func (d *decoder) address(path, address string) {
	network, target := Network(address)
	if network == "unix" {
		if !strings.HasPrefix(target, "/") || len(target) > 107 {
			d.at(path, "%q is not an absolute socket path of at most 107 bytes", target)
		}
		return
	}
	_, port, err := net.SplitHostPort(target)
	if err != nil {
		d.at(path, "%q is not HOST:PORT; IPv6 goes in brackets, a socket is unix:/path", address)
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		d.at(path, "port %q is not a number from 1 to 65535", port)
	}
}

func (d *decoder) users(c *Config) {
	seen := make(map[string]bool)
	for i, u := range c.Users {
		path := fmt.Sprintf("users[%d]", i)
		switch {
		case u.Name == "":
			d.at(path+".name", "a user needs a name")
		case seen[u.Name]:
			d.at(path+".name", "user %s is listed twice; remove one", u.Name)
		}
		seen[u.Name] = true
		if u.MaxConnections < 0 {
			d.at(path+".max_connections", "%d is negative; 0 means no limit", u.MaxConnections)
		}
		if u.BackendPassword != "" && u.BackendUser == "" {
			d.at(path+".backend_password", "it needs backend_user")
		}
	}
	if len(c.Users) == 0 {
		d.at("users", "at least one is needed, or nobody can connect")
	}
}

func (d *decoder) servers(c *Config) {
	names, addresses := make(map[string]bool), make(map[string]string)
	if len(c.Servers) > 64 {
		d.at("servers", "%d are listed; 64 is the most", len(c.Servers))
	}
	for i, s := range c.Servers {
		path := fmt.Sprintf("servers[%d]", i)
		switch {
		case s.Name == "":
			d.at(path+".name", "a server needs a name")
		case names[s.Name]:
			d.at(path+".name", "server %s is listed twice; remove one", s.Name)
		}
		names[s.Name] = true
		d.address(path+".address", s.Address)
		if other := addresses[s.Address]; other != "" {
			d.at(path+".address", "%s is %s's address too; each server needs its own, not a floating one", s.Address, other)
		}
		addresses[s.Address] = s.Name
		if s.Role == "" {
			d.at(path+".role", "a server needs a role: drbd, replica or primary")
		}
		if s.Weight < 1 || s.Weight > 1000 {
			d.at(path+".weight", "%d is outside 1 to 1000; to keep reads away remove the server", s.Weight)
		}
		if s.Role != RoleDRBD && d.places[path+".drbd"] != nil {
			d.at(path+".drbd", "only a server of role drbd has it; this one is a %s", s.Role)
		}
	}
}

func (d *decoder) authority(c *Config) {
	count := make(map[string]int)
	files, agents := make(map[string]string), make(map[string]string)
	for i, s := range c.Servers {
		count[s.Role]++
		if s.Role != RoleDRBD {
			continue
		}
		if s.DRBD.Agent != "" {
			d.agent(fmt.Sprintf("servers[%d].drbd.agent", i), s.DRBD.Agent, &c.Agents)
			if other := agents[s.DRBD.Agent]; other != "" {
				d.at(fmt.Sprintf("servers[%d].drbd.agent", i), "%s has the same agent; each node needs its own", other)
			}
			agents[s.DRBD.Agent] = s.Name
			continue
		}
		if other, taken := files[s.DRBD.File]; taken {
			d.at(fmt.Sprintf("servers[%d].drbd.file", i), "%s reads the same file; each node needs its own view", other)
		}
		files[s.DRBD.File] = s.Name
	}
	switch a := c.Authority; {
	case a.Source == "drbd" && count[RoleDRBD] == 0:
		d.at("authority.source", "drbd needs servers of role drbd; without DRBD use read_only or static")
	case a.Source != "drbd" && count[RoleDRBD] > 0:
		d.at("authority.source", "%s cannot be used with servers of role drbd; give them role primary", a.Source)
	case a.Source == "drbd" && count[RolePrimary] > 0:
		d.at("authority.source", "servers of role primary take no part when DRBD decides; give them role drbd or replica")
	case a.Source == "static" && count[RolePrimary] != 1:
		d.at("authority.source", "static needs exactly one server of role primary, there are %d", count[RolePrimary])
	case a.Source == "read_only" && count[RolePrimary] == 0:
		d.at("authority.source", "read_only needs servers of role primary")
	}
	pinned := false
	for _, s := range c.Servers {
		pinned = pinned || s.Name == c.Authority.Pin && s.Role == RoleDRBD
	}
	if c.Authority.Policy == "pinned" && !pinned || c.Authority.Pin != "" && !pinned {
		d.at("authority.pin", "it must name a server of role drbd; %q does not", c.Authority.Pin)
	}
}

// agent checks the URL of an agent: what it says decides where writes go, so it
// must not be sent in the clear beyond this host.
func (d *decoder) agent(path, text string, a *Agents) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Port() == "" || u.Scheme != "https" && u.Scheme != "http" || u.Path != "" {
		d.at(path, "%q is not https://HOST:PORT", text)
		return
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	if u.Scheme == "http" && !ip.IsLoopback() && u.Hostname() != "localhost" && !a.Insecure {
		d.at(path, "http is allowed to this host only; use https, or set agents.insecure if the network is trusted")
	}
	if a.Token == "" && a.CertFile == "" && u.Scheme == "https" {
		d.at(path, "the agent wants to know who asks: set agents.token, or agents.cert_file and key_file")
	}
}

// bounds checks numbers against their ranges.
func (d *decoder) bounds(c *Config) {
	positive := func(path string, n int64) {
		if n <= 0 {
			d.at(path, "it must be more than 0")
		}
	}
	positive("authority.poll", int64(c.Authority.Poll))
	positive("authority.permit_samples", int64(c.Authority.PermitSamples))
	positive("authority.local_fresh", int64(c.Authority.LocalFresh))
	positive("authority.remote_fresh", int64(c.Authority.RemoteFresh))
	positive("agents.heartbeat", int64(c.Agents.Heartbeat))
	positive("hold.timeout", int64(c.Hold.Timeout))
	positive("hold.max_waiting", int64(c.Hold.MaxWaiting))
	positive("hold.max_bytes", int64(c.Hold.MaxBytes))
	positive("hold.release", int64(c.Hold.Release))
	positive("authority.drain", int64(c.Authority.Drain))
	positive("health.interval", int64(c.Health.Interval))
	positive("health.timeout", int64(c.Health.Timeout))
	positive("health.rise", int64(c.Health.Rise))
	positive("health.fall", int64(c.Health.Fall))
	positive("health.stall", int64(c.Health.Stall))
	positive("limits.max_connections", int64(c.Limits.MaxConnections))
	positive("limits.handshake_timeout", int64(c.Limits.HandshakeTimeout))
	positive("limits.max_packet", int64(c.Limits.MaxPacket))
	positive("limits.connect_timeout", int64(c.Limits.ConnectTimeout))
	if c.Limits.HandshakeBytes < 1<<10 {
		d.at("limits.handshake_bytes", "%s is too little for a handshake; 64KiB is plenty", c.Limits.HandshakeBytes)
	}
	if c.Authority.LocalFresh <= c.Authority.Poll {
		d.at("authority.local_fresh", "it must be longer than authority.poll, or every view is stale")
	}
	if c.Authority.RemoteFresh < 3*c.Agents.Heartbeat {
		d.at("authority.remote_fresh", "it must be at least three times agents.heartbeat, or one late heartbeat stops writes")
	}
	if c.Health.User == "" {
		d.at("health.user", "the probe needs an account")
	}
}
