package lvs

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func parsed(t *testing.T, text string) Key {
	t.Helper()
	k, err := ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func to(address string, f Forward) Destination {
	return Destination{Address: netip.MustParseAddrPort(address), Forward: f, Weight: 1}
}

// good is a director on which nothing is wrong.
func good() Facts {
	f := Facts{Kernel: [2]int{6, 1}, Module: ModuleLoaded, NetAdmin: true, Schedulers: map[string]string{"wlc": ModuleLoaded},
		Local: map[netip.Addr]string{netip.MustParseAddr("10.0.0.10"): "eth0"}, ConnectionTableSize: 1 << 15, TCPTimeout: 28800, Sysctl: make(map[string]string)}
	for _, path := range preflightSysctls {
		f.Sysctl[path] = "1"
	}
	f.Sysctl["net/ipv4/vs/conntrack"] = "0"
	f.Sysctl["net/ipv4/conf/all/send_redirects"] = "0"
	return f
}

func TestPreflight(t *testing.T) {
	service := func(change func(*Need)) Wish {
		n := Need{Name: "reads", Keys: []Key{parsed(t, "tcp/10.0.0.10:3306")}, Scheduler: "wlc", Servers: []Destination{to("10.0.0.1:3306", DirectRoute), to("10.0.0.2:3306", DirectRoute)}}
		if change != nil {
			change(&n)
		}
		return Wish{Services: []Need{n}, Wait: 28800}
	}
	is := func(path, value string) func(*Facts) { return func(f *Facts) { f.Sysctl[path] = value } }
	for _, c := range []struct {
		name  string
		facts func(*Facts)
		need  func(*Need)
		want  string // severity code, ...
	}{
		{"all is well", nil, nil, ""},
		{"the module is not loaded", func(f *Facts) { f.Module, f.IPVS = ModuleLoadable, "no" }, nil, "error ipvs-not-loaded"},
		{"there is no module", func(f *Facts) { f.Module, f.IPVS = ModuleMissing, "no" }, nil, "error ipvs-missing"},
		{"no capability", func(f *Facts) { f.NetAdmin, f.IPVS = false, "EPERM" }, nil, "error no-net-admin"},
		{"something else", func(f *Facts) { f.IPVS = "EIO" }, nil, "error ipvs-unreadable"},
		{"an unknown scheduler", func(f *Facts) { f.Schedulers["wlc"] = ModuleMissing }, nil, "error scheduler-missing"},
		{"a scheduler to load", func(f *Facts) { f.Schedulers["wlc"] = ModuleLoadable }, nil, "info scheduler-not-loaded"},
		{"a scheduler by destination", nil, func(n *Need) { n.Scheduler = "lblc" }, "warning scheduler-by-destination"},
		{"another port by dr", nil, func(n *Need) { n.Servers[1] = to("10.0.0.2:3307", DirectRoute) }, "error port-differs"},
		{"another port by tunnel", nil, func(n *Need) { n.Servers[1] = to("10.0.0.2:3307", Tunnel) }, "error port-differs"},
		{"another port by masq", nil, func(n *Need) { n.Servers[1] = to("10.0.0.2:3307", Masquerade) }, ""},
		{"any port with a mark", nil, func(n *Need) { n.Keys = []Key{parsed(t, "mark4/1")} }, ""},
		{"one server twice", nil, func(n *Need) { n.Servers = append(n.Servers, n.Servers[0]) }, "error duplicate-server"},
		{"one address twice", nil, func(n *Need) { n.Keys = append(n.Keys, n.Keys[0]) }, "error duplicate-service"},
		{"a standby director", func(f *Facts) { clear(f.Local) }, nil, "info address-not-here"},
		{"the address on lo", func(f *Facts) { f.Local[netip.MustParseAddr("10.0.0.10")] = "lo" }, nil, "warning address-on-lo"},
		{"a server is this host", func(f *Facts) { f.Local[netip.MustParseAddr("10.0.0.2")] = "eth0" }, nil, "warning server-is-director"},
		{"masq without forwarding", is("net/ipv4/ip_forward", "0"), func(n *Need) { n.Servers[0] = to("10.0.0.1:3306", Masquerade) }, "error ip-forward"},
		{"dr without forwarding", is("net/ipv4/ip_forward", "0"), nil, ""},
		{"masq with redirects", is("net/ipv4/conf/all/send_redirects", "1"), func(n *Need) { n.Servers[0] = to("10.0.0.1:3306", Masquerade) }, "warning send-redirects"},
		{"local on a backup", is("net/ipv4/vs/backup_only", "0"), func(n *Need) { n.Servers[0] = to("10.0.0.1:3306", Local) }, "warning backup-only"},
		{"black holes", is("net/ipv4/vs/expire_nodest_conn", "0"), nil, "error expire-nodest-conn"},
		{"templates without persistence", is("net/ipv4/vs/expire_quiescent_template", "0"), nil, ""},
		{"templates", is("net/ipv4/vs/expire_quiescent_template", "0"), func(n *Need) { n.Persistent = true }, "error expire-quiescent-template"},
		{"reuse", is("net/ipv4/vs/conn_reuse_mode", "0"), nil, "warning conn-reuse-mode"},
		{"reuse on an old kernel", func(f *Facts) { f.Kernel = [2]int{5, 4}; f.Sysctl["net/ipv4/vs/conn_reuse_mode"] = "0" }, nil, ""},
		{"reuse on an old kernel with conntrack", func(f *Facts) { f.Kernel = [2]int{5, 4}; f.Sysctl["net/ipv4/vs/conntrack"] = "1" }, nil, "warning conn-reuse-mode, info conntrack"},
		{"a small table", func(f *Facts) { f.ConnectionTableSize = 4096 }, nil, "info connection-table"},
		{"a short time-out", func(f *Facts) { f.TCPTimeout = 900 }, nil, "warning tcp-timeout"},
		{"no defence", is("net/ipv4/vs/drop_entry", "0"), nil, "info drop-entry"},
		{"the worst first", func(f *Facts) {
			clear(f.Local)
			f.Sysctl["net/ipv4/vs/conn_reuse_mode"] = "0"
			f.Module = ModuleMissing
		}, nil,
			"error ipvs-missing, warning conn-reuse-mode, info address-not-here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := good()
			if c.facts != nil {
				c.facts(&f)
			}
			var got []string
			for _, v := range Preflight(f, service(c.need)) {
				got = append(got, string(v.Severity)+" "+v.Code)
				if v.Text == "" || v.Remedy == "" {
					t.Errorf("%s says too little: %+v", v.Code, v)
				}
				if v.Sysctl != "" && (!slices.Contains(preflightSysctls, v.Sysctl) || !strings.Contains(v.Remedy, v.Value)) {
					t.Errorf("%s: its setting is not among those gathered, or not its remedy: %+v", v.Code, v)
				}
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		})
	}
}

// A setting that a finding proposes ends it.
func TestRemediesEndFindings(t *testing.T) {
	f := good()
	for _, path := range preflightSysctls {
		f.Sysctl[path] = "0"
	}
	f.Sysctl["net/ipv4/conf/all/send_redirects"] = "1"
	w := Wish{Sync: true, Services: []Need{{Name: "reads", Keys: []Key{parsed(t, "tcp/10.0.0.10:3306"), parsed(t, "tcp/[fd00::10]:3306")}, Scheduler: "wlc", Persistent: true,
		Servers: []Destination{to("10.0.0.1:3306", Masquerade), to("10.0.0.2:3306", Local)}}}}
	first := Preflight(f, w)
	for _, v := range first {
		if v.Sysctl != "" {
			f.Sysctl[v.Sysctl] = v.Value
		}
	}
	if n := strings.Count(Persist(first), "\n"); n != 8 {
		t.Errorf("%d settings are proposed, want 8:\n%s", n, Persist(first))
	}
	for _, v := range Preflight(f, w) {
		if v.Sysctl != "" {
			t.Errorf("after all was applied: %+v", v)
		}
	}
}

func TestVersion(t *testing.T) {
	for release, want := range map[string][2]int{"6.1.176": {6, 1}, "5.10.0-30-amd64": {5, 10}, "4.18.0-553.el8": {4, 18}, "": {}} {
		if got := version(release); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", release, got, want)
		}
	}
}
