package lvs

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cloudflare/ipvs"
	"golang.org/x/sys/unix"
)

// preflightSysctls are the settings that the preflight looks at.
var preflightSysctls = []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/send_redirects",
	"net/ipv4/vs/expire_nodest_conn", "net/ipv4/vs/expire_quiescent_template", "net/ipv4/vs/conn_reuse_mode", "net/ipv4/vs/conntrack",
	"net/ipv4/vs/sloppy_tcp", "net/ipv4/vs/backup_only", "net/ipv4/vs/drop_entry", "net/ipv4/vs/drop_packet"}

// Gather collects what Preflight wants to know of this host, in the network
// namespace of the process. It changes nothing and loads no module.
func Gather(w Wish) Facts {
	f := Facts{Schedulers: make(map[string]string), Sysctl: make(map[string]string), Local: make(map[netip.Addr]string), NetAdmin: netAdmin()}
	var release string
	if u := (unix.Utsname{}); unix.Uname(&u) == nil {
		release = unix.ByteSliceToString(u.Release[:])
		f.Kernel = version(release)
	}
	modules := findModules(release)
	f.Module = modules.state("ip_vs")
	if f.Module != ModuleLoaded { // built in, it is not in the list
		if _, err := os.Stat(sysctlRoot + "net/ipv4/vs"); err == nil {
			f.Module = ModuleLoaded
		}
	}
	for _, n := range w.Services {
		f.Schedulers[n.Scheduler] = modules.state("ip_vs_" + n.Scheduler)
	}
	for _, path := range preflightSysctls {
		if value, err := ReadSysctl(path); err == nil {
			f.Sysctl[path] = value
		}
	}
	localAddresses(f.Local)
	askIPVS(&f)
	return f
}

func askIPVS(f *Facts) {
	client, err := ipvs.New()
	if err != nil {
		f.IPVS = explain(err).Error()
		return
	}
	k := &netlink{client: client}
	defer k.close()
	info, err := client.Info()
	if err != nil {
		f.IPVS = explain(err).Error()
		return
	}
	f.ConnectionTableSize = info.ConnectionTableSize
	if c, err := client.Config(); err == nil {
		f.TCPTimeout = c.TCPTimeout
	}
}

func localAddresses(into map[netip.Addr]string) {
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		addresses, _ := i.Addrs()
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				into[p.Addr()] = i.Name
			}
		}
	}
}

// netAdmin tells whether the process has CAP_NET_ADMIN in effect.
func netAdmin() bool {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if set, ok := strings.CutPrefix(line, "CapEff:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
			return err == nil && bits>>unix.CAP_NET_ADMIN&1 == 1
		}
	}
	return false
}

// version is the first two numbers of a kernel's release.
func version(release string) (v [2]int) {
	_, _ = fmt.Sscanf(release, "%d.%d", &v[0], &v[1])
	return v
}

// moduleLists tell which modules there are.
type moduleLists struct {
	loaded, builtin, loadable map[string]bool
	listed                    bool // there is a list of what can be loaded
}

func findModules(release string) moduleLists {
	m := moduleLists{loaded: make(map[string]bool), builtin: make(map[string]bool), loadable: make(map[string]bool)}
	text, _ := os.ReadFile("/proc/modules")
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		name, _, _ := strings.Cut(s.Text(), " ")
		m.loaded[name] = true
	}
	list := func(file string, into map[string]bool) {
		text, err := os.ReadFile(filepath.Join("/lib/modules", release, file))
		m.listed = m.listed || err == nil
		for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
			path, _, _ := strings.Cut(s.Text(), ":") // modules.dep: PATH: PATHS; modules.builtin: PATH
			name, _, _ := strings.Cut(filepath.Base(path), ".ko")
			into[strings.ReplaceAll(name, "-", "_")] = true
		}
	}
	list("modules.builtin", m.builtin)
	list("modules.dep", m.loadable)
	return m
}

func (m moduleLists) state(name string) string {
	switch {
	case m.loaded[name], m.builtin[name]:
		return ModuleLoaded
	case m.loadable[name]:
		return ModuleLoadable
	case m.listed:
		return ModuleMissing
	}
	return "" // in a container, for one
}
