package lvslab

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"signalbox/lvs"
)

// asRealServers makes the servers in front real servers of addresses, for this
// test.
func (l *lab) asRealServers(t *testing.T, addresses ...netip.Addr) {
	t.Helper()
	for _, s := range l.near {
		r := &lvs.RealServer{VIPs: addresses, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
		l.do(s, func() {
			if err := r.Up(); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
		})
		t.Cleanup(func() {
			l.do(s, func() {
				if err := r.Down(); err != nil {
					t.Errorf("%s: %v", s.name, err)
				}
			})
		})
	}
}

// everyOne tells whether all three servers answered.
func everyOne(counts map[string]int, prefix string) bool {
	return len(counts) == 3 && counts[prefix+"1"] > 0 && counts[prefix+"2"] > 0 && counts[prefix+"3"] > 0
}

func TestEveryForwardingMethod(t *testing.T) {
	l := director(t)
	v4, v6 := l.vip(t)
	for _, s := range append(l.far[:], l.near[:]...) {
		l.serve(t, s, s.name, 3306)
	}
	l.serve(t, nil, "director", 3310)
	l.asRealServers(t, v4, v6)
	endpoints := tunnelEndpoints(t, l)
	for i, c := range []struct {
		name    string
		servers [3]*space
		forward lvs.Forward
		tunnel  lvs.Encapsulation
	}{
		{"masq", l.far, lvs.Masquerade, lvs.Encapsulation{}},
		{"dr", l.near, lvs.DirectRoute, lvs.Encapsulation{}},
		{"ipip", l.near, lvs.Tunnel, lvs.Encapsulation{Type: lvs.IPIP}},
		{"gue", l.near, lvs.Tunnel, lvs.Encapsulation{Type: lvs.GUE, Port: guePort}},
		{"gue-checksum", l.near, lvs.Tunnel, lvs.Encapsulation{Type: lvs.GUE, Port: guePort, Flags: 1}},
		{"gre", l.near, lvs.Tunnel, lvs.Encapsulation{Type: lvs.GRE}},
	} {
		for _, v := range []netip.Addr{v4, v6} {
			kind := "IPv4"
			if v.Is6() {
				kind = "IPv6"
			}
			t.Run(c.name+"-"+kind, func(t *testing.T) {
				if reason := endpoints[c.tunnel.Type]; c.forward == lvs.Tunnel && reason != "" {
					t.Skipf("SKIPPED: %s", reason)
				}
				at := uint16(3306) // these methods cannot change the port
				if c.forward == lvs.Masquerade {
					at = uint16(4000 + i)
				}
				var list []lvs.Destination
				for _, s := range c.servers {
					a := s.v4
					if v.Is6() {
						a = s.v6
					}
					list = append(list, lvs.Destination{Address: netip.AddrPortFrom(a, 3306), Weight: 1, Forward: c.forward, Tunnel: c.tunnel})
				}
				bits := v.BitLen()
				o := owner(t)
				keep(t, o, lvs.Table{tcp(v, at): service(lvs.Settings{Scheduler: "rr", Netmask: bits}, list...)})
				before := received(t, l, c.name, v)
				got := l.ask(t, l.clients[0], netip.AddrPortFrom(v, at), 6, false)
				t.Log(shares(got))
				if !everyOne(got, strings.TrimRight(c.servers[0].name, "123")) {
					t.Errorf("not every real server answered: %s", shares(got))
				}
				if c.forward == lvs.Tunnel {
					if n := received(t, l, c.name, v) - before; n < 6 {
						t.Errorf("%d packets came through the tunnels", n)
					}
				}
				keep(t, o, nil)
			})
		}
	}
	t.Run("local", func(t *testing.T) {
		for _, v := range []netip.Addr{v4, v6} {
			keep(t, owner(t), lvs.Table{tcp(v, 3310): service(lvs.Settings{Scheduler: "wlc", Netmask: v.BitLen()},
				lvs.Destination{Address: netip.AddrPortFrom(v, 3310), Weight: 1, Forward: lvs.Local})})
			if got := shares(l.ask(t, l.clients[0], netip.AddrPortFrom(v, 3310), 2, false)); got != "director=2" {
				t.Error(got)
			}
		}
		o := owner(t)
		eventually(t, func() error { // the kernel sums its counters every two seconds
			found, err := o.Dump(t.Context(), nil)
			for k, s := range found {
				if s.Counters.Connections != 2 {
					err = fmt.Errorf("%s counted %d connections, not 2", k, s.Counters.Connections)
				}
			}
			return err
		})
	})
}

const guePort = 5555

// tunnelEndpoints makes each server in front an endpoint of every kind of tunnel
// that its kernel has, and says why not of those that it has not.
func tunnelEndpoints(t *testing.T, l *lab) map[lvs.TunnelType]string {
	t.Helper()
	reasons := make(map[lvs.TunnelType]string)
	for kind, script := range map[lvs.TunnelType]string{
		lvs.IPIP: "modprobe -d /mnt/lab/modules -a ipip ip6_tunnel",
		lvs.GUE:  "modprobe -d /mnt/lab/modules -a fou fou6 ipip ip6_tunnel",
		lvs.GRE:  "modprobe -d /mnt/lab/modules -a ip_gre ip6_gre",
	} {
		if out, err := shell(script); err != nil {
			reasons[kind] = "the kernel cannot do it: " + strings.TrimSpace(out)
		}
	}
	for _, s := range l.near {
		err := ipBatch(s.name, fmt.Sprintf(`link add ipip4 type ipip local %[1]s remote any
link set ipip4 up
link add ipip6 type ip6tnl mode ip6ip6 local %[2]s remote ::
link set ipip6 up
link add gre4 type gre local %[1]s remote any
link set gre4 up
link add gre6 type ip6gre local %[2]s remote ::
link set gre6 up
fou add port %[3]d gue
fou add port %[3]d gue -6
`, s.v4, s.v6, guePort))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := ipBatch(s.name, "link del ipip4\nlink del ipip6\nlink del gre4\nlink del gre6\n"); err != nil {
				t.Error(err)
			}
		})
		l.do(s, func() {
			for _, device := range []string{"all", "ipip4", "gre4"} {
				if err := lvs.WriteSysctl("net/ipv4/conf/"+device+"/rp_filter", "0"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	return reasons
}

// received counts the packets that came to the servers in front through a kind
// of tunnel.
func received(t *testing.T, l *lab, kind string, v netip.Addr) int {
	t.Helper()
	device := map[string]string{"ipip": "ipip", "gue": "ipip", "gue-checksum": "ipip", "gre": "gre"}[kind]
	if device == "" {
		return 0
	}
	if v.Is6() {
		device += "6"
	} else {
		device += "4"
	}
	total := 0
	for _, s := range l.near {
		l.do(s, func() {
			text, err := os.ReadFile("/proc/thread-self/net/dev")
			if err != nil {
				t.Error(err)
			}
			for line := range strings.Lines(string(text)) {
				if name, counts, _ := strings.Cut(strings.TrimSpace(line), ":"); name == device {
					n := 0
					_, _ = fmt.Sscan(strings.Fields(counts)[1], &n)
					total += n
				}
			}
		})
	}
	return total
}
