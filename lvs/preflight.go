package lvs

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"signalbox/config"
)

// Severity says what a finding means.
type Severity string

// The severities.
const (
	Wrong   Severity = "error"   // the LVS role, or a service, cannot work so
	Risky   Severity = "warning" // it works until the day described
	Notable Severity = "info"    // to know
)

// Finding is one result of the preflight.
type Finding struct {
	Severity Severity `json:"severity"`
	Code     string   `json:"code"` // stable, for programs
	Subject  string   `json:"subject,omitempty"`
	Text     string   `json:"text"`   // what is, and what it costs
	Remedy   string   `json:"remedy"` // what to do
	// Sysctl and Value are a setting that would end the finding, which Apply can
	// write.
	Sysctl string `json:"sysctl,omitempty"`
	Value  string `json:"value,omitempty"`
}

// Where a module, or a scheduler in one, is; "" when that cannot be known.
const (
	ModuleLoaded   = "loaded" // or built in
	ModuleLoadable = "loadable"
	ModuleMissing  = "missing"
)

// Facts are what the preflight knows of this host; Gather collects them.
type Facts struct {
	Kernel     [2]int            // major, minor; 0 when not known
	Module     string            // ip_vs itself
	IPVS       string            // why the kernel's table cannot be read, "" when it can
	Schedulers map[string]string // where each scheduler asked for is
	NetAdmin   bool
	Sysctl     map[string]string // by path under /proc/sys; what does not exist is missing
	Local      map[netip.Addr]string
	// ConnectionTableSize is of the kernel's hash table, in buckets; 0 not known.
	ConnectionTableSize uint32
	TCPTimeout          uint32 // seconds; 0 not known
}

// Need is one virtual service as the preflight sees it.
type Need struct {
	Name       string
	Keys       []Key
	Scheduler  string
	Persistent bool
	Servers    []Destination // all that it may have; a port 0 is not known, or the service's
}

// Wish is what the preflight is asked about.
type Wish struct {
	Services []Need
	Sync     bool   // a synchronisation daemon runs, or mh spreads over two directors
	Socket   bool   // another process, signalbox lvs serve, changes the kernel
	Wait     uint32 // the servers' wait_timeout, seconds; 0 not known
}

// Preflight says what on this host, or in the configuration, keeps the LVS role
// from working, the worst first.
func Preflight(f Facts, w Wish) []Finding {
	var p preflight
	p.kernel(f, w)
	for _, n := range w.Services {
		p.scheduler(f, n)
		p.servers(f, n)
		p.addresses(f, n)
	}
	p.duplicates(w)
	p.sysctls(f, w)
	p.sizes(f, w)
	slices.SortStableFunc(p.list, func(a, b Finding) int { return cmp.Compare(a.Severity.rank(), b.Severity.rank()) })
	return p.list
}

func (s Severity) rank() int { return slices.Index([]Severity{Wrong, Risky, Notable}, s) }

type preflight struct{ list []Finding }

func (p *preflight) add(s Severity, code, subject, remedy, format string, args ...any) {
	p.list = append(p.list, Finding{Severity: s, Code: code, Subject: subject, Text: fmt.Sprintf(format, args...), Remedy: remedy})
}

func (p *preflight) kernel(f Facts, w Wish) {
	if f.Module == ModuleLoadable || f.Module == "" {
		p.add(Wrong, "ipvs-not-loaded", "", "modprobe ip_vs, and at every boot: echo ip_vs > /etc/modules-load.d/signalbox.conf", "the kernel's IPVS is not loaded")
	}
	if f.Module == ModuleMissing {
		p.add(Wrong, "ipvs-missing", "", "install the package with this kernel's modules, or run a kernel with CONFIG_IP_VS", "this kernel has no IPVS, and no module for it")
	}
	if !f.NetAdmin && !w.Socket {
		p.add(Wrong, "no-net-admin", "", "AmbientCapabilities=CAP_NET_ADMIN in the unit, or run signalbox lvs serve with it and set lvs.mode to socket",
			"this process has not CAP_NET_ADMIN, without which the kernel does not even show its table")
	} else if f.IPVS != "" && f.Module == ModuleLoaded && !w.Socket {
		p.add(Wrong, "ipvs-unreadable", "", "see the error", "the kernel's table cannot be read: %s", f.IPVS)
	}
}

func (p *preflight) scheduler(f Facts, n Need) {
	switch f.Schedulers[n.Scheduler] {
	case ModuleMissing:
		p.add(Wrong, "scheduler-missing", n.Name, "choose another scheduler; wlc is in every kernel that has IPVS", "this kernel has no scheduler %s", n.Scheduler)
	case ModuleLoadable:
		p.add(Notable, "scheduler-not-loaded", n.Name, "modprobe ip_vs_"+n.Scheduler, "scheduler %s is not loaded; the kernel loads it when the service is made, unless loading modules is forbidden by then", n.Scheduler)
	}
	if slices.Contains([]string{"dh", "lblc", "lblcr"}, n.Scheduler) {
		p.add(Risky, "scheduler-by-destination", n.Name, "use wlc, or mh for a pair of directors", "scheduler %s chooses by destination address: with one virtual address all connections go to one server", n.Scheduler)
	}
}

func (p *preflight) servers(f Facts, n Need) {
	masq, local := false, false
	for _, d := range n.Servers {
		masq = masq || d.Forward == Masquerade
		local = local || d.Forward == Local
		for _, k := range n.Keys {
			if k.Mark == 0 && (d.Forward == DirectRoute || d.Forward == Tunnel) && d.Address.Port() != 0 && d.Address.Port() != k.Port {
				p.add(Wrong, "port-differs", n.Name, fmt.Sprintf("let the server listen on %d, or forward by masq", k.Port),
					"%s is forwarded to by %s, which cannot change the port, and its port is not that of %s: the kernel accepts it and no client gets through", d.Address, d.Forward, k)
				break
			}
		}
		if where := f.Local[d.Address.Addr()]; where != "" && d.Forward != Local && d.Forward != Masquerade {
			p.add(Risky, "server-is-director", n.Name, "forward: local for this server", "real server %s is this host (%s), and is forwarded to by %s", d.Address.Addr(), where, d.Forward)
		}
	}
	if masq && f.Sysctl["net/ipv4/ip_forward"] == "0" && slices.ContainsFunc(n.Keys, func(k Key) bool { return !k.IPv6 }) {
		p.sysctl(Wrong, "ip-forward", n.Name, "net/ipv4/ip_forward", "1", "masq needs forwarding, which is off: answers of the real servers do not come back through this host. It makes this host a router: let a firewall say for whom")
	}
	if masq && f.Sysctl["net/ipv6/conf/all/forwarding"] == "0" && slices.ContainsFunc(n.Keys, func(k Key) bool { return k.IPv6 }) {
		p.sysctl(Wrong, "ip-forward", n.Name, "net/ipv6/conf/all/forwarding", "1", "masq needs forwarding, which is off for IPv6. It makes this host a router, which takes no more router advertisements")
	}
	if masq && f.Sysctl["net/ipv4/conf/all/send_redirects"] == "1" {
		p.sysctl(Risky, "send-redirects", n.Name, "net/ipv4/conf/all/send_redirects", "0", "with clients and real servers on one network this host tells the servers a shorter way, past itself, and connections break. It costs nothing to turn off, but each interface has its own too")
	}
	if local && f.Sysctl["net/ipv4/vs/backup_only"] == "0" {
		p.sysctl(Risky, "backup-only", n.Name, "net/ipv4/vs/backup_only", "1", "this host is director and real server: while it is the backup of a pair, packets from the master must go to its own server and not be balanced again, or they go in circles. It costs that a backup balances nothing")
	}
}

func (p *preflight) addresses(f Facts, n Need) {
	for _, k := range n.Keys {
		if k.Mark != 0 {
			continue
		}
		switch where := f.Local[k.Address]; where {
		case "":
			p.add(Notable, "address-not-here", n.Name, "none on a standby director; else: ip addr add "+prefix(k.Address)+" dev INTERFACE", "virtual address %s is not on this host: it balances nothing until it is", k.Address)
		case loopback:
			p.add(Risky, "address-on-lo", n.Name, "move it to the interface that faces the clients, or stop signalbox agent --real-server here", "virtual address %s is on lo, as on a real server: the network does not find it here", k.Address)
		}
	}
}

func prefix(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

func (p *preflight) duplicates(w Wish) {
	seen := make(map[Key]string)
	for _, n := range w.Services {
		for _, k := range n.Keys {
			if first, twice := seen[k]; twice {
				p.add(Wrong, "duplicate-service", n.Name, "give one of them another address or port", "%s is %s's already", k, first)
				continue
			}
			seen[k] = n.Name
		}
		servers := make(map[netip.AddrPort]bool)
		for _, d := range n.Servers {
			if servers[d.Address] {
				p.add(Wrong, "duplicate-server", n.Name, "name it once, with the weight that it shall have", "real server %s is named twice", d.Address)
			}
			servers[d.Address] = true
		}
	}
}

func (p *preflight) sysctl(s Severity, code, subject, path, value, text string) {
	p.list = append(p.list, Finding{Severity: s, Code: code, Subject: subject, Text: text, Remedy: "sysctl -w " + dotted(path) + "=" + value, Sysctl: path, Value: value})
}

func dotted(path string) string { return strings.ReplaceAll(path, "/", ".") }

// reusable is the first kernel that schedules a reused port anew without a
// second's wait (commit f0a5e4d7a594, Linux 5.9).
var reusable = [2]int{5, 9}

// sysctls are those of Documentation/networking/ipvs-sysctl.rst.
func (p *preflight) sysctls(f Facts, w Wish) {
	is := func(name, value string) bool { return f.Sysctl["net/ipv4/vs/"+name] == value }
	set := func(s Severity, code, name, value, text string) {
		p.sysctl(s, code, "", "net/ipv4/vs/"+name, value, text)
	}
	if is("expire_nodest_conn", "0") {
		set(Wrong, "expire-nodest-conn", "expire_nodest_conn", "1", "connections to a real server that was removed are not cut: their packets vanish silently for up to 15 minutes. On, the client gets a reset at its next packet; it costs nothing else")
	}
	if is("expire_quiescent_template", "0") && slices.ContainsFunc(w.Services, func(n Need) bool { return n.Persistent }) {
		set(Wrong, "expire-quiescent-template", "expire_quiescent_template", "1", "persistent clients go on being sent to a real server with weight 0. On, their next connection goes to another server, so persistence ends where a server is drained")
	}
	old := f.Kernel != [2]int{} && slices.Compare(f.Kernel[:], reusable[:]) < 0
	switch {
	case old && is("conn_reuse_mode", "1") && is("conntrack", "1"):
		set(Risky, "conn-reuse-mode", "conn_reuse_mode", "0", "on this kernel, with conntrack, a client that uses a port again waits a second. Off, such a connection goes to the server of the old one, even if that has weight 0")
	case !old && is("conn_reuse_mode", "0"):
		set(Risky, "conn-reuse-mode", "conn_reuse_mode", "1", "a client that uses a port again goes to the server of the old connection, even if that is down or has weight 0. On this kernel turning it on costs nothing")
	}
	if is("conntrack", "1") {
		p.add(Notable, "conntrack", "", "sysctl -w net.ipv4.vs.conntrack=0, unless firewall rules must see the balanced flows of masq services", "every balanced packet goes through the firewall's connection tracking, which costs throughput and memory for each connection")
	}
	if w.Sync && is("sloppy_tcp", "0") {
		set(Risky, "sloppy-tcp", "sloppy_tcp", "1", "after the address moves, connections that this director has not seen from their start are reset. On, it takes them over, which also lets stray packets open entries in the table")
	}
	for _, name := range []string{"drop_entry", "drop_packet"} {
		if is(name, "0") {
			p.add(Notable, strings.ReplaceAll(name, "_", "-"), "", "sysctl -w net.ipv4.vs."+name+"=1 where clients are not trusted", "under memory pressure nothing defends the table against a flood; 1 does, at the price of dropping good connections too")
		}
	}
}

// buckets is where a list of connections in one bucket stays short with the
// clients of a busy cluster.
const buckets = 1 << 15

func (p *preflight) sizes(f Facts, w Wish) {
	if f.ConnectionTableSize != 0 && f.ConnectionTableSize < buckets {
		p.add(Notable, "connection-table", "", "echo 'options ip_vs conn_tab_bits=15' > /etc/modprobe.d/ip_vs.conf, and load the module anew",
			"the connection table has %d buckets; with more than some %d connections each packet searches longer", f.ConnectionTableSize, 4*f.ConnectionTableSize)
	}
	if w.Wait != 0 && f.TCPTimeout != 0 && f.TCPTimeout < w.Wait {
		p.add(Risky, "tcp-timeout", "", "ipvsadm --set "+strconv.Itoa(int(w.Wait))+" 0 0, or TCP keepalive below it on the clients",
			"IPVS forgets a connection that is idle for %d s, and the servers keep one for %d s (wait_timeout): a pooled connection is reset at its next query", f.TCPTimeout, w.Wait)
	}
}

// Apply writes the settings of the findings that have one, and returns those that
// it wrote. They last until the next boot; Persist says how they stay.
func Apply(list []Finding) (done []Finding, err error) {
	for _, f := range list {
		if f.Sysctl == "" || f.Severity == Notable {
			continue
		}
		if err := WriteSysctl(f.Sysctl, f.Value); err != nil {
			return done, fmt.Errorf("%s: %w", f.Code, err)
		}
		done = append(done, f)
	}
	return done, nil
}

// Persist is the file /etc/sysctl.d/90-signalbox.conf that keeps the settings of
// the findings over a boot, "" when there is none.
func Persist(list []Finding) string {
	var lines []string
	for _, f := range list {
		if line := dotted(f.Sysctl) + " = " + f.Value + "\n"; f.Sysctl != "" && f.Severity != Notable && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// waitTimeout is the servers' default wait_timeout, seconds.
const waitTimeout = 28800

// WishOf is what a configuration asks of this host.
func WishOf(cfg *config.Config) Wish {
	w := Wish{Socket: cfg.LVS.Mode == "socket", Sync: cfg.LVS.Sync.Interface != ""}
	for _, v := range Virtuals(cfg) {
		n := Need{Name: v.Name, Keys: v.keys, Scheduler: v.settings.Scheduler, Persistent: v.settings.Flags&Persistent != 0}
		for i := range v.reals {
			n.Servers = append(n.Servers, v.reals[i].dest)
		}
		if v.sorry != nil {
			n.Servers = append(n.Servers, v.sorry.dest)
		}
		w.Sync = w.Sync || n.Scheduler == "mh"
		if slices.ContainsFunc(v.keys, func(k Key) bool { return k.Mark != 0 || k.Protocol == TCP }) {
			w.Wait = waitTimeout
		}
		w.Services = append(w.Services, n)
	}
	return w
}
