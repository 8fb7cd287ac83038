package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// LVSTarget is one real server of a service, from wherever the configuration
// names it.
type LVSTarget struct {
	Name    string
	Cluster bool // one of servers[], judged by the cluster's probes
	Address netip.Addr
	Port    uint16 // 0: the service's, with a mark the packet's own
	Weight  int
	Upper   int
	Lower   int
	Check   LVSCheck // of those that are not of the cluster
	path    string   // where an error about it is shown
}

// On says whether the LVS role is in use.
func (l *LVS) On() bool { return l.Mode != "off" }

// IPv6 is the family of the service.
func (s *LVSService) IPv6() bool {
	if s.Mark != 0 {
		return s.Family == "ipv6"
	}
	a, _ := netip.ParseAddr(s.Address)
	return a.Is6()
}

// PortRange is the first and last port of a service with an address.
func (s *LVSService) PortRange() (first, last uint16, err error) {
	from, to, ranged := strings.Cut(s.Ports, "-")
	if !ranged {
		to = from
	}
	a, err1 := strconv.ParseUint(strings.TrimSpace(from), 10, 16)
	b, err2 := strconv.ParseUint(strings.TrimSpace(to), 10, 16)
	switch {
	case err1 != nil || err2 != nil || a > b || ranged && a == 0:
		return 0, 0, fmt.Errorf("%q is no port or range such as 3306 or 3306-3310", s.Ports)
	case b-a >= 1024:
		return 0, 0, fmt.Errorf("%q are %d ports; 1024 is the most: use a firewall mark", s.Ports, b-a+1)
	}
	return uint16(a), uint16(b), nil
}

// LVSAddress reads IP or IP:PORT; port is 0 without one.
func LVSAddress(text string) (ip netip.Addr, port uint16, err error) {
	if ip, err = netip.ParseAddr(text); err != nil {
		var ap netip.AddrPort
		if ap, err = netip.ParseAddrPort(text); err != nil {
			return ip, 0, fmt.Errorf("%q is neither an IP address nor IP:PORT; IPVS takes no names, and IPv6 with a port goes in brackets", text)
		}
		ip, port = ap.Addr(), ap.Port()
	}
	if ip.Zone() != "" || ip.Is4In6() || ip.IsUnspecified() || ip.IsMulticast() {
		return ip, 0, fmt.Errorf("%q cannot be the address of a server", text)
	}
	return ip, port, nil
}

// LVSTargets are the real servers of service i, without those whose address
// cannot be read.
func (c *Config) LVSTargets(i int) []LVSTarget {
	targets, _ := c.lvsTargets(i)
	return targets
}

type lvsFault struct{ path, text string }

func (c *Config) lvsTargets(i int) (list []LVSTarget, faults []lvsFault) {
	s := &c.LVS.Services[i]
	listed, path := s.RealServers, fmt.Sprintf("lvs.services[%d].real_servers", i)
	switch s.Servers {
	case "proxies":
		listed, path = c.LVS.Proxies, "lvs.proxies"
	case "replicas", "primary":
		return c.lvsCluster(i)
	}
	for j, r := range listed {
		t := LVSTarget{Name: r.Name, Weight: r.Weight, Upper: r.Upper, Lower: r.Lower, Check: r.Check, path: fmt.Sprintf("%s[%d]", path, j)}
		if t.Check.Type == "" {
			t.Check = s.Check
		}
		if t.Check.User == "" {
			t.Check.User, t.Check.Password = c.Health.User, c.Health.Password
		}
		var err error
		if t.Address, t.Port, err = LVSAddress(r.Address); err != nil {
			faults = append(faults, lvsFault{t.path + ".address", err.Error()})
			continue
		}
		list = append(list, s.complete(t))
	}
	return list, faults
}

// lvsCluster are the cluster's servers of the role that service i wants.
func (c *Config) lvsCluster(i int) (list []LVSTarget, faults []lvsFault) {
	s := &c.LVS.Services[i]
	for j := range c.Servers {
		v := &c.Servers[j]
		if (v.Role == RoleReplica) != (s.Servers == "replicas") {
			continue
		}
		t := LVSTarget{Name: v.Name, Cluster: true, Weight: s.Weight, path: fmt.Sprintf("servers[%d]", j)}
		if v.Role == RoleReplica {
			t.Weight = min(s.Weight*v.Weight, 65535)
		}
		var err error
		if t.Address, t.Port, err = LVSAddress(v.Address); err != nil {
			faults = append(faults, lvsFault{t.path + ".address", fmt.Sprintf("%v; lvs.services[%d] (%s) sends packets to it", err, i, s.Name)})
			continue
		}
		if s.Port != 0 || s.Mark != 0 && s.Forward != "masq" {
			t.Port = 0
		}
		list = append(list, s.complete(t))
	}
	if len(list)+len(faults) == 0 {
		faults = append(faults, lvsFault{fmt.Sprintf("lvs.services[%d].servers", i), "there is no server of that role in servers"})
	}
	return list, faults
}

// complete fills in what a server has from its service.
func (s *LVSService) complete(t LVSTarget) LVSTarget {
	if t.Port == 0 {
		t.Port = uint16(s.Port)
	}
	if t.Upper == 0 && t.Lower == 0 {
		t.Upper, t.Lower = s.Upper, s.Lower
	}
	if t.Upper > 0 && t.Lower == 0 {
		t.Lower = t.Upper * 3 / 4
	}
	return t
}
