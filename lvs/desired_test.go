package lvs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"signalbox/backend"
	"signalbox/config"
	"signalbox/drbdwatch"
)

const desiredConfig = `listeners: [{address: "127.0.0.1:3306"}]
users: [{name: app, password: x}]
servers:
  - {name: db1, role: drbd, address: "10.0.0.11:3306", drbd: {file: /a}}
  - {name: db2, role: drbd, address: "10.0.0.12:3306", drbd: {file: /b}}
  - {name: r1, role: replica, address: "10.0.0.21:3306"}
  - {name: r2, role: replica, address: "10.0.0.22:3306", weight: 2}
health: {user: probe}
lvs:
  mode: kernel
  state_dir: ""
  services:
    - {name: reads, address: 10.9.0.1, ports: "3306", forward: dr, servers: replicas, sorry_server: {address: 10.0.0.99}}
    - {name: writes, address: 10.9.0.2, ports: "3306", forward: dr, servers: primary, sorry_server: {address: 10.0.0.98, forward: masq}}
`

func parseConfig(t testing.TB, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// show is a table in one line for each service.
func show(t Table) string {
	var lines []string
	for _, k := range t.keys() {
		var list []string
		for _, a := range t[k].addresses() {
			list = append(list, fmt.Sprintf("%s=%d", a.Addr(), t[k].Destinations[a].Weight))
		}
		lines = append(lines, k.Address.String()+": "+strings.Join(list, " "))
	}
	return strings.Join(lines, "; ")
}

func TestDesired(t *testing.T) {
	list := Virtuals(parseConfig(t, desiredConfig))
	up := Verdict{Healthy: true, Why: "answers"}
	down := Verdict{Why: "gone"}
	reads, writes := list[0].keys[0], list[1].keys[0]
	dr := func(a string, weight uint32) Destination {
		return Destination{Address: addr(a + ":3306"), Forward: DirectRoute, Weight: weight}
	}
	both := map[string]Verdict{"r1": up, "r2": up}
	drain := []Drain{{Server: "r1", Since: epoch0}}
	tests := []struct {
		name string
		in   Inputs
		want string
	}{
		{"all well", Inputs{Cluster: both, Settled: true, Writer: "db1"}, "10.9.0.1: 10.0.0.21=100 10.0.0.22=200; 10.9.0.2: 10.0.0.11=100"},
		{"nothing known, nothing there", Inputs{}, "10.9.0.1: ; 10.9.0.2: "},
		{"nothing known: all stays as found", Inputs{Actual: Table{reads: svc(wlc, dr("10.0.0.21", 70), dr("10.0.0.77", 9)), writes: svc(wlc, dr("10.0.0.12", 100))}},
			"10.9.0.1: 10.0.0.21=70; 10.9.0.2: 10.0.0.12=100"},
		{"two in the writer's service are never kept", Inputs{Actual: Table{writes: svc(wlc, dr("10.0.0.11", 100), dr("10.0.0.12", 100))}}, "10.9.0.1: ; 10.9.0.2: "},
		{"one replica unknown: no sorry server yet", Inputs{Cluster: map[string]Verdict{"r1": down}, Settled: true}, "10.9.0.1: ; 10.9.0.2: 10.0.0.98=100"},
		{"all replicas down", Inputs{Cluster: map[string]Verdict{"r1": down, "r2": down}, Settled: true, Writer: "db2"}, "10.9.0.1: 10.0.0.99=100; 10.9.0.2: 10.0.0.12=100"},
		{"failed with connections", Inputs{Cluster: map[string]Verdict{"r1": down, "r2": up}, Settled: true, Writer: "db1", Actual: Table{reads: svc(wlc, dr("10.0.0.21", 100))}},
			"10.9.0.1: 10.0.0.21=0 10.0.0.22=200; 10.9.0.2: 10.0.0.11=100"},
		{"nobody may write", Inputs{Cluster: both, Settled: true}, "10.9.0.1: 10.0.0.21=100 10.0.0.22=200; 10.9.0.2: 10.0.0.98=100"},
		{"the writer is leaving", Inputs{Cluster: both, Settled: true, Leaving: "db1", Actual: Table{writes: svc(wlc, dr("10.0.0.11", 100))}},
			"10.9.0.1: 10.0.0.21=100 10.0.0.22=200; 10.9.0.2: 10.0.0.11=0"},
		{"leaving is over when there is a writer", Inputs{Cluster: both, Settled: true, Writer: "db2", Leaving: "db1", Actual: Table{writes: svc(wlc, dr("10.0.0.11", 0))}},
			"10.9.0.1: 10.0.0.21=100 10.0.0.22=200; 10.9.0.2: 10.0.0.12=100"},
		{"drained", Inputs{Cluster: both, Settled: true, Drains: drain, Now: epoch0, Actual: Table{reads: svc(wlc, dr("10.0.0.21", 100))}},
			"10.9.0.1: 10.0.0.21=0 10.0.0.22=200; 10.9.0.2: 10.0.0.98=100"},
		{"the writer is drained", Inputs{Cluster: both, Settled: true, Writer: "db1", Drains: []Drain{{Server: "db1", Service: "writes", Since: epoch0}}, Now: epoch0,
			Actual: Table{writes: svc(wlc, dr("10.0.0.11", 100))}}, "10.9.0.1: 10.0.0.21=100 10.0.0.22=200; 10.9.0.2: 10.0.0.11=0"},
		{"drained in another service", Inputs{Cluster: both, Settled: true, Writer: "db1", Drains: []Drain{{Server: "r1", Service: "writes", Since: epoch0}}},
			"10.9.0.1: 10.0.0.21=100 10.0.0.22=200; 10.9.0.2: 10.0.0.11=100"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := Desired(list, tt.in, State{}); show(got) != tt.want {
				t.Errorf("got  %s\nwant %s", show(got), tt.want)
			}
		})
	}
}

// A quorum lost quiets the servers that are left and brings the sorry server,
// which leaves when the quorum is back.
func TestQuorumAndSorryServer(t *testing.T) {
	text := strings.Replace(desiredConfig, "servers: replicas,", "servers: replicas, quorum: 2, slow_start: 0s, quiesce_timeout: 10s,", 1)
	list := Virtuals(parseConfig(t, text))[:1]
	var state State
	actual := Table{}
	var got []string
	for second, down := range []bool{false, true, true, false, false} {
		in := Inputs{Now: epoch0.Add(time.Duration(second) * 5 * time.Second), Cluster: map[string]Verdict{"r1": {Healthy: true}, "r2": {Healthy: !down}}, Actual: actual}
		actual, state = Desired(list, in, state)
		for k, s := range actual { // r1 and the sorry server always have a connection
			s.Loads = map[netip.AddrPort]Load{addr("10.0.0.21:3306"): {Active: 1}, addr("10.0.0.99:3306"): {Active: 1}}
			actual[k] = s
		}
		got = append(got, show(actual))
	}
	want := []string{"10.9.0.1: 10.0.0.21=100 10.0.0.22=200",
		"10.9.0.1: 10.0.0.21=0 10.0.0.22=0 10.0.0.99=100",
		"10.9.0.1: 10.0.0.21=0 10.0.0.99=100",
		"10.9.0.1: 10.0.0.21=100 10.0.0.22=200 10.0.0.99=0",
		"10.9.0.1: 10.0.0.21=100 10.0.0.22=200 10.0.0.99=0"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestVirtuals(t *testing.T) {
	base := desiredConfig[:strings.Index(desiredConfig, "    - {name: reads")]
	list := Virtuals(parseConfig(t, base+`    - {name: range, address: "2001:db8::9", ports: 80-82, scheduler: mh, scheduler_flags: [fallback, port], persistence: 5m, persistence_netmask: 64,
       forward: tunnel, tunnel: {type: gue, port: 6080, checksum: remote}, real_servers: [{name: a, address: 10.0.0.1, weight: 7, upper_threshold: 8, check: {type: none}}]}
    - {name: dns, address: 10.9.0.3, ports: "53", protocol: udp, scheduler: rr, scheduler_flags: [one-packet], real_servers: [{name: a, address: "10.0.0.1:5353", check: {type: none}}]}
    - {name: mark, mark: 9, family: ipv6, real_servers: [{name: b, address: "2001:db8::1", check: {type: none}}]}
`))
	if len(list[0].keys) != 3 || list[0].keys[2] != key("tcp/[2001:db8::9]:82") || list[1].keys[0] != key("udp/10.9.0.3:53") || list[2].keys[0] != key("mark6/9") {
		t.Errorf("keys: %v %v %v", list[0].keys, list[1].keys, list[2].keys)
	}
	if s := list[0].settings; s != (Settings{Scheduler: "mh", Flags: Persistent | Option1 | Option2, Timeout: 300, Netmask: 64}) {
		t.Errorf("settings: %+v", s)
	}
	if s := list[1].settings; s != (Settings{Scheduler: "rr", Flags: OnePacket, Netmask: 32}) {
		t.Errorf("settings: %+v", s)
	}
	if d := list[0].reals[0].at(list[0].keys[1]); d != (Destination{Address: addr("10.0.0.1:81"), Forward: Tunnel, Tunnel: Encapsulation{Type: GUE, Port: 6080, Flags: 2}, Weight: 7, Upper: 8, Lower: 6}) {
		t.Errorf("destination: %+v", d)
	}
	if d := list[1].reals[0].at(list[1].keys[0]); d.Address != addr("10.0.0.1:5353") {
		t.Errorf("destination: %+v", d)
	}
	if d := list[2].reals[0].at(list[2].keys[0]); d.Address != addr("[2001:db8::1]:0") {
		t.Errorf("destination: %+v", d)
	}
}

func TestFromCluster(t *testing.T) {
	db1, r1 := &backend.Server{Name: "db1", Role: config.RoleDRBD}, &backend.Server{Name: "r1", Role: config.RoleReplica, Index: 1}
	probed := time.Now()
	replica := func(st backend.Status) Verdict {
		st.Server, st.Reason, st.LastProbe = r1, "as it is", probed
		return FromCluster(&backend.Snapshot{Servers: []backend.Status{st}}, &backend.Writer{}, &drbdwatch.Authority{}, time.Second).Servers["r1"]
	}
	for name, tt := range map[string]struct {
		st   backend.Status
		want Verdict
	}{
		"well":        {backend.Status{Up: true, LagKnown: true, Lag: time.Second}, Verdict{true, "as it is"}},
		"down":        {backend.Status{LagKnown: true}, Verdict{false, "as it is"}},
		"unknown lag": {backend.Status{Up: true}, Verdict{false, "how far it is behind is not known"}},
		"disabled":    {backend.Status{Up: true, LagKnown: true, Mode: backend.Disabled}, Verdict{false, "an operator has taken it out of reads (signalbox server enable)"}},
		"behind":      {backend.Status{Up: true, LagKnown: true, Lag: 2 * time.Second}, Verdict{false, "it is more than 1s behind (lvs.max_lag)"}},
	} {
		if got := replica(tt.st); got != tt.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	s := &backend.Snapshot{Servers: []backend.Status{{Server: db1, Up: true, LastProbe: probed}, {Server: r1}}}
	c := FromCluster(s, &backend.Writer{Server: db1, Epoch: 7}, &drbdwatch.Authority{}, time.Second)
	if _, judged := c.Servers["r1"]; judged || c.Writer != "db1" || c.Epoch != 7 || !c.Settled || !c.Servers["db1"].Healthy {
		t.Errorf("%+v", c)
	}
	if c := FromCluster(s, &backend.Writer{}, &drbdwatch.Authority{Verdict: drbdwatch.Hold}, 0); c.Settled {
		t.Errorf("settled while nothing is known: %+v", c)
	}
	for writer, want := range map[string]string{"": "db1", "db2": ""} {
		if c := FromCluster(s, &backend.Writer{}, &drbdwatch.Authority{Verdict: drbdwatch.Hold, Leaving: "db1", Writer: writer}, 0); c.Leaving != want || c.Settled != (want != "") {
			t.Errorf("authority %q: %+v", writer, c)
		}
	}
	if c := FromCluster(s, &backend.Writer{}, &drbdwatch.Authority{Verdict: drbdwatch.Hold, Paused: "db1"}, 0); c.Leaving != "db1" || !c.Settled {
		t.Errorf("a writer whose I/O is frozen keeps its connections: %+v", c)
	}
	if c := FromCluster(s, &backend.Writer{}, &drbdwatch.Authority{Verdict: drbdwatch.Deny}, 0); !c.Settled {
		t.Errorf("not settled though nobody may write: %+v", c)
	}
}
