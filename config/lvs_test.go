package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

const lvsBase = `listeners: [{address: "127.0.0.1:3306"}]
users: [{name: app, password: x}]
servers:
  - {name: db1, role: primary, address: "10.0.0.11:3306"}
  - {name: r1, role: replica, address: "10.0.0.21:3306", weight: 2}
  - {name: r2, role: replica, address: "10.0.0.22:3307"}
authority: {source: static}
health: {user: probe, password: secret}
lvs:
  mode: kernel
  proxies: [{name: p1, address: 10.0.0.31, check: {type: mysql}}]
  services:
`

func lvsService(format string, args ...any) string {
	return lvsBase + "    - {name: web, address: 10.9.0.1, ports: \"80\", " + fmt.Sprintf(format, args...) + "}\n"
}

const listed = `real_servers: [{name: a, address: 10.0.0.1, check: {type: tcp}}, {name: b, address: 10.0.0.2, check: {type: none}}]`

func TestLVSFaultsAreNamed(t *testing.T) {
	real := func(entry string) string { return lvsService("real_servers: [%s]", entry) }
	tests := []struct{ name, text, want string }{
		{"good", lvsService(listed), ""},
		{"off without services", strings.Replace(minimal, "listeners", "lvs: {mode: \"off\"}\nlisteners", 1), ""},
		{"on without services", minimal + "lvs: {mode: kernel}\n", "lvs.services: at least one is needed"},
		{"unknown key", lvsService("schedular: wlc"), `did you mean "scheduler"?`},
		{"unknown scheduler", lvsService("scheduler: best, %s", listed), `lvs.services[0].scheduler: "best" is none of rr, wrr,`},
		{"no address", lvsBase + "    - {name: a, " + listed + "}\n", "lvs.services[0].address: a service needs an address, or a mark"},
		{"name for address", lvsBase + "    - {name: a, address: db.example, ports: \"1\", " + listed + "}\n", "IPVS takes no names"},
		{"port in address", lvsBase + "    - {name: a, address: \"10.9.0.1:80\", ports: \"80\", " + listed + "}\n", "its port goes into ports"},
		{"no ports", lvsBase + "    - {name: a, address: 10.9.0.1, " + listed + "}\n", "lvs.services[0].ports: a service with an address needs a port"},
		{"bad range", lvsBase + "    - {name: a, address: 10.9.0.1, ports: 90-80, " + listed + "}\n", `"90-80" is no port or range`},
		{"huge range", lvsBase + "    - {name: a, address: 10.9.0.1, ports: 1-9000, " + listed + "}\n", "9000 ports; 1024 is the most"},
		{"every port", lvsBase + "    - {name: a, address: 10.9.0.1, ports: \"0\", " + listed + "}\n", "works with persistence only"},
		{"mark and address", lvsService("mark: 7, %s", listed), "either a mark or address"},
		{"mark", lvsBase + "    - {name: a, mark: 7, servers: replicas}\n", ""},
		{"mark dr with port", lvsBase + "    - {name: a, mark: 7, forward: dr, server_port: 80, servers: replicas}\n", "dr cannot change ports, so a server of service a must not have one"},
		{"mark twice", lvsBase + "    - {name: a, mark: 7, servers: replicas}\n    - {name: b, mark: 7, servers: replicas}\n", "lvs.services[1]: the ipv4 mark 7 is the service a already"},
		{"ranges overlap", lvsBase + "    - {name: a, address: 10.9.0.1, ports: 80-90, " + listed + "}\n    - {name: b, address: 10.9.0.1, ports: 90-95, " + listed + "}\n", "tcp 10.9.0.1:90 is the service a already"},
		{"udp beside tcp", lvsBase + "    - {name: a, address: 10.9.0.1, ports: \"80\", " + listed + "}\n    - {name: b, address: 10.9.0.1, ports: \"80\", protocol: udp, " + listed + "}\n", ""},
		{"service twice", lvsService(listed) + "    - {name: web, address: 10.9.0.1, ports: \"81\", " + listed + "}\n", "service web is listed twice"},
		{"flag", lvsService("scheduler_flags: [fallback], %s", listed), "lvs.services[0].scheduler_flags[0]: fallback is a flag of the schedulers sh and mh; this is wlc"},
		{"one-packet", lvsService("scheduler_flags: [one-packet], %s", listed), "one-packet is for UDP only"},
		{"unknown flag", lvsService("scheduler_flags: [sticky], %s", listed), `"sticky" is none of`},
		{"persistence", lvsService("persistence: 1500ms, %s", listed), "whole seconds"},
		{"netmask", lvsService("persistence: 5s, persistence_netmask: 64, %s", listed), "64 is outside 1 to 32"},
		{"netmask alone", lvsService("persistence_netmask: 24, %s", listed), "it needs persistence"},
		{"tunnel of masq", lvsService("tunnel: {type: gre}, %s", listed), "lvs.services[0].tunnel: it needs forward: tunnel"},
		{"gue", lvsService("forward: tunnel, tunnel: {type: gue}, %s", listed), "gue needs the UDP port"},
		{"ipip port", lvsService("forward: tunnel, tunnel: {port: 5}, %s", listed), "ipip has none"},
		{"checksum", lvsService("forward: tunnel, tunnel: {type: gre, checksum: remote}, %s", listed), "gre has no remote"},
		{"no servers", lvsService("scheduler: rr"), "real_servers: at least one is needed"},
		{"servers of a role", lvsService("servers: replicas, %s", listed), "they need servers: listed; this is replicas"},
		{"server twice", real("{name: a, address: 10.0.0.1, check: {type: tcp}}, {name: a, address: 10.0.0.2, check: {type: tcp}}"), "real_servers[1].name: server a is listed twice"},
		{"address twice", real("{name: a, address: 10.0.0.1, check: {type: tcp}}, {name: b, address: 10.0.0.1, check: {type: tcp}}"), "10.0.0.1 is a's address too"},
		{"one name, two addresses", lvsService(listed) + "    - {name: x, address: 10.9.0.1, ports: \"81\", real_servers: [{name: a, address: 10.0.0.9, check: {type: tcp}}]}\n", "one name is one server"},
		{"dr port", real("{name: a, address: \"10.0.0.1:8080\", check: {type: tcp}}]\n      , forward: dr, scheduler_flags: ["), "dr cannot change ports: server port 8080 must be the port of service web (80)"},
		{"dr port of a replica", lvsBase + "    - {name: reads, address: 10.9.0.1, ports: \"3306\", forward: dr, servers: replicas}\n", "servers[2].address: dr cannot change ports: server port 3307"},
		{"masq port of a replica", lvsBase + "    - {name: reads, address: 10.9.0.1, ports: \"3306\", servers: replicas}\n", ""},
		{"range dr", lvsBase + "    - {name: reads, address: 10.9.0.1, ports: 80-81, forward: dr, real_servers: [{name: a, address: \"10.0.0.1:80\", check: {type: tcp}}]}\n", "server port 80 must be the port of service reads (80-81)"},
		{"no check", real("{name: a, address: 10.0.0.1}"), "how is it known to be healthy?"},
		{"check from the service", lvsService("check: {type: tcp}, real_servers: [{name: a, address: 10.0.0.1}]"), ""},
		{"command", real("{name: a, address: 10.0.0.1, check: {type: command}}"), "a check of type command needs one"},
		{"relative command", real("{name: a, address: 10.0.0.1, check: {type: command, command: [ls]}}"), "not an absolute path"},
		{"path", real("{name: a, address: 10.0.0.1, check: {type: http, path: x}}"), "does not begin with /"},
		{"check of every port", lvsBase + "    - {name: a, mark: 3, real_servers: [{name: a, address: 10.0.0.1, check: {type: tcp}}]}\n", "the check needs a port"},
		{"weight 0", real("{name: a, address: 10.0.0.1, weight: 0, check: {type: tcp}}"), "to keep connections away use signalbox lvs drain"},
		{"thresholds", real("{name: a, address: 10.0.0.1, upper_threshold: 5, lower_threshold: 6, check: {type: tcp}}"), "6 is more than upper_threshold 5"},
		{"quorum", lvsService("quorum: 3, %s", listed), "with 2 servers a quorum of 3 is never regained"},
		{"hysteresis", lvsService("quorum: 2, quorum_hysteresis: 2, %s", listed), "2 is outside 0 to 1"},
		{"quorum of the primary", lvsService("quorum: 2, servers: primary"), "there is never more than one primary"},
		{"sorry twice", lvsService("sorry_server: {address: 10.0.0.1}, %s", listed), "10.0.0.1 is a server of this service, a;"},
		{"sorry port", lvsService("sorry_server: {address: \"10.0.0.9:81\", forward: dr}, %s", listed), "sorry_server.address: dr cannot change ports"},
		{"mixed families", lvsService("real_servers: [{name: a, address: \"2001:db8::1\", check: {type: tcp}}]"), "of different address families; only a tunnel"},
		{"mixed families in a tunnel", lvsService("forward: tunnel, real_servers: [{name: a, address: \"2001:db8::1\", check: {type: tcp}}]"), ""},
		{"ipv6", lvsBase + "    - {name: a, address: \"2001:db8::9\", ports: \"80\", real_servers: [{name: a, address: \"[2001:db8::1]:80\", check: {type: tcp}}]}\n", ""},
		{"proxies", lvsService("servers: proxies"), ""},
		{"socket server", strings.Replace(lvsService("servers: replicas"), "10.0.0.21:3306", "unix:/run/r1.sock", 1), "servers[1].address: \"unix:/run/r1.sock\" is neither an IP address nor IP:PORT"},
		{"nobody of that role", strings.ReplaceAll(lvsService("servers: replicas"), "role: replica", "role: primary"), "there is no server of that role"},
		{"flap", strings.Replace(lvsService(listed), "mode: kernel", "mode: kernel\n  flap: {failures: 9}", 1), "9 is outside 0 to 8"},
		{"state_dir", strings.Replace(lvsService(listed), "mode: kernel", "mode: kernel\n  state_dir: here", 1), "not an absolute path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("x.yaml", []byte(tt.text))
			switch {
			case tt.name == "nobody of that role": // several primaries are a fault of their own
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want == "":
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestLVSTargets(t *testing.T) {
	c, err := Parse("x.yaml", []byte(lvsBase+`    - {name: reads, address: 10.9.0.1, ports: "3306", servers: replicas, upper_threshold: 100}
    - {name: writes, address: 10.9.0.1, ports: "3307", servers: primary, server_port: 3306}
    - {name: front, address: 10.9.0.1, ports: 80-81, servers: proxies, forward: dr}
    - {name: all, mark: 3, servers: replicas, forward: dr}
`))
	if err != nil {
		t.Fatal(err)
	}
	show := func(i int) string {
		var list []string
		for _, v := range c.LVSTargets(i) {
			list = append(list, fmt.Sprintf("%s %s w%d u%d l%d %s", v.Name, netip.AddrPortFrom(v.Address, v.Port), v.Weight, v.Upper, v.Lower, v.Check.User))
		}
		return strings.Join(list, ", ")
	}
	for i, want := range []string{
		"r1 10.0.0.21:3306 w200 u100 l75 , r2 10.0.0.22:3307 w100 u100 l75 ",
		"db1 10.0.0.11:3306 w100 u0 l0 ",
		"p1 10.0.0.31:0 w100 u0 l0 probe",
		"r1 10.0.0.21:0 w200 u0 l0 , r2 10.0.0.22:0 w100 u0 l0 ",
	} {
		if got := show(i); got != want {
			t.Errorf("service %d:\n got %s\nwant %s", i, got, want)
		}
	}
}
