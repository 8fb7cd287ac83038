package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lvsSync checks the synchronisation; an interface's name has at most 15 bytes
// (IFNAMSIZ).
func (d *decoder) lvsSync(s *LVSSync) {
	if len(s.Interface) > 15 {
		d.at("lvs.sync.interface", "%q is no interface: a name has at most 15 bytes", s.Interface)
	}
	if s.ID < 1 || s.ID > 255 {
		d.at("lvs.sync.id", "%d is outside 1 to 255", s.ID)
	}
	if a, err := netip.ParseAddr(s.Group); err != nil || !a.IsMulticast() {
		d.at("lvs.sync.group", "%q is no multicast address", s.Group)
	}
	if s.Port < 1 || s.Port > 65535 {
		d.at("lvs.sync.port", "%d is outside 1 to 65535", s.Port)
	}
}

func (d *decoder) lvs(c *Config) {
	l := &c.LVS
	d.lvsGeneral(l)
	d.lvsSync(&l.Sync)
	for i, p := range l.Proxies {
		d.lvsServer(fmt.Sprintf("lvs.proxies[%d]", i), &p)
	}
	names, keys, homes := make(map[string]bool), make(map[string]string), make(map[string]netip.Addr)
	for i := range l.Services {
		s, path := &l.Services[i], fmt.Sprintf("lvs.services[%d]", i)
		switch {
		case s.Name == "":
			d.at(path+".name", "a service needs a name")
		case names[s.Name]:
			d.at(path+".name", "service %s is listed twice; remove one", s.Name)
		}
		names[s.Name] = true
		before := len(d.errs)
		d.lvsAddress(path, s)
		d.lvsScheduling(path, s)
		d.lvsForwarding(path, s)
		d.lvsNumbers(path, s)
		if len(d.errs) == before {
			d.lvsUnique(path, s, keys)
			d.lvsReal(c, i, homes)
		}
	}
}

func (d *decoder) lvsGeneral(l *LVS) {
	if l.On() && len(l.Services) == 0 {
		d.at("lvs.services", "at least one is needed; without LVS leave lvs.mode off")
	}
	if l.Mode == "socket" && (!filepath.IsAbs(l.Socket) || len(l.Socket) > 107) {
		d.at("lvs.socket", "%q is not an absolute path of at most 107 bytes", l.Socket)
	}
	if l.StateDir != "" && !filepath.IsAbs(l.StateDir) {
		d.at("lvs.state_dir", "%q is not an absolute path", l.StateDir)
	}
	for path, t := range map[string]time.Duration{"lvs.interval": l.Interval, "lvs.standby_interval": l.StandbyProbes, "lvs.flap.window": l.Flap.Window} {
		if t <= 0 {
			d.at(path, "it must be more than 0")
		}
	}
	if l.Flap.Failures < 0 || l.Flap.Failures > 8 {
		d.at("lvs.flap.failures", "%d is outside 0 to 8", l.Flap.Failures)
	}
}

func (d *decoder) lvsAddress(path string, s *LVSService) {
	if s.Mark != 0 {
		if s.Address != "" || s.Ports != "" {
			d.at(path+".mark", "a service has either a mark or address and ports")
		}
		if s.Mark < 0 || int64(s.Mark) > 1<<32-1 {
			d.at(path+".mark", "%d is outside 1 to 4294967295", s.Mark)
		}
		return
	}
	if s.Address == "" {
		d.at(path+".address", "a service needs an address, or a mark")
		return
	}
	if ip, port, err := LVSAddress(s.Address); err != nil {
		d.at(path+".address", "%v", err)
	} else if port != 0 || ip.String() != s.Address {
		d.at(path+".address", "write it as %s; its port goes into ports", ip)
	}
	first, _, err := s.PortRange()
	switch {
	case s.Ports == "":
		d.at(path+".ports", "a service with an address needs a port, such as \"3306\"")
	case err != nil:
		d.at(path+".ports", "%v", err)
	case first == 0 && s.Persistence == 0:
		d.at(path+".ports", "0, every port, works with persistence only")
	}
}

func (d *decoder) lvsScheduling(path string, s *LVSService) {
	for i, f := range s.SchedulerFlags {
		at := fmt.Sprintf("%s.scheduler_flags[%d]", path, i)
		switch {
		case !slices.Contains([]string{"fallback", "port", "one-packet"}, f):
			d.at(at, "%q is none of fallback, port, one-packet", f)
		case f == "one-packet" && (s.Protocol != "udp" || s.Mark != 0):
			d.at(at, "one-packet is for UDP only")
		case f != "one-packet" && s.Scheduler != "sh" && s.Scheduler != "mh":
			d.at(at, "%s is a flag of the schedulers sh and mh; this is %s", f, s.Scheduler)
		}
	}
	most := 32
	if s.IPv6() {
		most = 128
	}
	switch {
	case s.Persistence%time.Second != 0:
		d.at(path+".persistence", "the kernel counts whole seconds")
	case s.Persistence > 31*24*time.Hour:
		d.at(path+".persistence", "31d is the most that the kernel takes")
	case s.PersistenceNet < 0 || s.PersistenceNet > most:
		d.at(path+".persistence_netmask", "%d is outside 1 to %d", s.PersistenceNet, most)
	case s.PersistenceNet != 0 && s.Persistence == 0:
		d.at(path+".persistence_netmask", "it needs persistence")
	}
}

func (d *decoder) lvsForwarding(path string, s *LVSService) {
	t := s.Tunnel
	switch {
	case s.Forward != "tunnel" && s.Sorry.Forward != "tunnel":
		if d.places[path+".tunnel"] != nil {
			d.at(path+".tunnel", "it needs forward: tunnel; this is %s", s.Forward)
		}
	case t.Type == "gue" && (t.Port < 1 || t.Port > 65535):
		d.at(path+".tunnel.port", "gue needs the UDP port that the servers listen on, 1 to 65535")
	case t.Type != "gue" && t.Port != 0:
		d.at(path+".tunnel.port", "%s has none", t.Type)
	case t.Type == "ipip" && t.Checksum != "none", t.Type == "gre" && t.Checksum == "remote":
		d.at(path+".tunnel.checksum", "%s has no %s", t.Type, t.Checksum)
	}
	switch {
	case s.Servers == "listed" && len(s.RealServers) == 0:
		d.at(path+".real_servers", "at least one is needed, or servers: replicas, primary or proxies")
	case s.Servers != "listed" && len(s.RealServers) > 0:
		d.at(path+".real_servers", "they need servers: listed; this is %s", s.Servers)
	}
}

func (d *decoder) lvsNumbers(path string, s *LVSService) {
	if s.Port < 0 || s.Port > 65535 {
		d.at(path+".server_port", "%d is outside 0 to 65535", s.Port)
	}
	if s.Weight < 1 || s.Weight > 65535 {
		d.at(path+".weight", "%d is outside 1 to 65535", s.Weight)
	}
	d.lvsThresholds(path, s.Upper, s.Lower)
	switch {
	case s.Quorum < 1:
		d.at(path+".quorum", "%d is less than 1", s.Quorum)
	case s.Hysteresis < 0 || s.Hysteresis >= s.Quorum:
		d.at(path+".quorum_hysteresis", "%d is outside 0 to %d: it must be less than the quorum, or the quorum is never lost", s.Hysteresis, s.Quorum-1)
	case s.Servers == "primary" && s.Quorum != 1:
		d.at(path+".quorum", "there is never more than one primary")
	}
	if s.Check.Type != "" {
		d.lvsCheck(path+".check", &s.Check)
	}
	for j := range s.RealServers {
		d.lvsServer(fmt.Sprintf("%s.real_servers[%d]", path, j), &s.RealServers[j])
	}
}

func (d *decoder) lvsThresholds(path string, upper, lower int) {
	switch {
	case upper < 0 || lower < 0:
		d.at(path+".upper_threshold", "thresholds are not negative")
	case lower > upper:
		d.at(path+".lower_threshold", "%d is more than upper_threshold %d", lower, upper)
	}
}

func (d *decoder) lvsServer(path string, r *LVSServer) {
	if r.Name == "" {
		d.at(path+".name", "a real server needs a name")
	}
	if r.Weight < 1 || r.Weight > 65535 {
		d.at(path+".weight", "%d is outside 1 to 65535; to keep connections away use signalbox lvs drain", r.Weight)
	}
	d.lvsThresholds(path, r.Upper, r.Lower)
	if r.Check.Type != "" {
		d.lvsCheck(path+".check", &r.Check)
	}
}

func (d *decoder) lvsCheck(path string, k *LVSCheck) {
	switch {
	case k.Type == "command" && len(k.Command) == 0:
		d.at(path+".command", "a check of type command needs one, such as [/usr/local/bin/alive]")
	case k.Type == "command" && !filepath.IsAbs(k.Command[0]):
		d.at(path+".command", "%q is not an absolute path", k.Command[0])
	case k.Type == "http" && !strings.HasPrefix(k.Path, "/"):
		d.at(path+".path", "%q does not begin with /", k.Path)
	case k.Port < 0 || k.Port > 65535:
		d.at(path+".port", "%d is outside 0 to 65535", k.Port)
	}
	if k.Interval <= 0 || k.Timeout <= 0 {
		d.at(path, "interval and timeout must be more than 0")
	}
	if k.Rise < 1 || k.Fall < 1 {
		d.at(path, "rise and fall must be at least 1")
	}
}

// lvsUnique refuses two services with one identity in the kernel.
func (d *decoder) lvsUnique(path string, s *LVSService, keys map[string]string) {
	take := func(key string) {
		if other := keys[key]; other != "" {
			d.at(path, "%s is the service %s already", key, other)
		}
		keys[key] = s.Name
	}
	if s.Mark != 0 {
		take(fmt.Sprintf("the %s mark %d", s.Family, s.Mark))
		return
	}
	first, last, _ := s.PortRange()
	for p := int(first); p <= int(last); p++ {
		take(s.Protocol + " " + net.JoinHostPort(s.Address, strconv.Itoa(p)))
	}
}

// lvsReal checks the real servers of service i. homes has the address of each
// name in all services.
func (d *decoder) lvsReal(c *Config, i int, homes map[string]netip.Addr) {
	s, path := &c.LVS.Services[i], fmt.Sprintf("lvs.services[%d]", i)
	targets, faults := c.lvsTargets(i)
	for _, f := range faults {
		d.at(f.path, "%s", f.text)
	}
	names, addresses := make(map[string]bool), make(map[netip.AddrPort]string)
	for _, t := range targets {
		if other, known := homes[t.Name]; names[t.Name] {
			d.at(t.path+".name", "server %s is listed twice in service %s; remove one", t.Name, s.Name)
		} else if known && other != t.Address {
			d.at(t.path+".name", "server %s has the address %s in another service; one name is one server", t.Name, other)
		}
		names[t.Name], homes[t.Name] = true, t.Address
		at := s.lands(t.Address, t.Port)
		if other := addresses[at]; other != "" {
			d.at(t.path+".address", "%s is %s's address too in service %s", t.Address, other, s.Name)
		}
		addresses[at] = t.Name
		d.lvsReach(path, s, t.path+".address", t.Address, t.Port, s.Forward)
		if !t.Cluster && t.Check.Type == "" {
			d.at(t.path+".check", "how is it known to be healthy? give it, or its service, a check of type tcp, mysql, http, command or none")
		}
		if !t.Cluster && t.Check.Type != "none" && t.Check.Type != "command" && t.Port == 0 && t.Check.Port == 0 && (s.Mark != 0 || s.Ports == "0") {
			d.at(t.path+".check", "the check needs a port: the service has none of its own")
		}
	}
	if s.Quorum+s.Hysteresis > len(targets) && len(faults) == 0 {
		d.at(path+".quorum", "with %d servers a quorum of %d is never regained (quorum + quorum_hysteresis)", len(targets), s.Quorum+s.Hysteresis)
	}
	if s.Sorry.Address == "" {
		return
	}
	ip, port, err := LVSAddress(s.Sorry.Address)
	if err != nil {
		d.at(path+".sorry_server.address", "%v", err)
		return
	}
	if other := addresses[s.lands(ip, port)]; other != "" {
		d.at(path+".sorry_server.address", "%s is a server of this service, %s; the sorry server must be another", ip, other)
	}
	forward := s.Sorry.Forward
	if forward == "" {
		forward = s.Forward
	}
	d.lvsReach(path, s, path+".sorry_server.address", ip, port, forward)
}

// lands is where packets to a server go; port 0 is the first of the service's.
func (s *LVSService) lands(ip netip.Addr, port uint16) netip.AddrPort {
	if port == 0 && s.Mark == 0 {
		port, _, _ = s.PortRange()
	}
	return netip.AddrPortFrom(ip, port)
}

// lvsReach refuses what the kernel cannot forward, though it would accept it.
func (d *decoder) lvsReach(path string, s *LVSService, at string, ip netip.Addr, port uint16, forward string) {
	if ip.Is6() != s.IPv6() && forward != "tunnel" {
		d.at(at, "%s and service %s are of different address families; only a tunnel joins them", ip, s.Name)
	}
	if port == 0 || forward == "masq" {
		return
	}
	first, last, _ := s.PortRange()
	switch {
	case s.Mark != 0:
		d.at(at, "%s cannot change ports, so a server of service %s must not have one: leave %s.server_port 0", forward, s.Name, path)
	case first != port || last != port:
		d.at(at, "%s cannot change ports: server port %d must be the port of service %s (%s); use masq, or %s.server_port", forward, port, s.Name, s.Ports, path)
	}
}
