package lvslab

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"signalbox/lvs"
)

// One service by firewall mark serves two ports of an address, of each family.
func TestFirewallMark(t *testing.T) {
	l := director(t)
	v4, v6 := l.vip(t)
	for _, s := range l.far {
		l.serve(t, s, s.name+"-a", 3306)
		l.serve(t, s, s.name+"-b", 3307)
	}
	// A firewall would mark; tc does the same without one.
	var rules strings.Builder
	rules.WriteString("qdisc add dev front ingress\n")
	for port := 3306; port <= 3307; port++ {
		fmt.Fprintf(&rules, "filter add dev front ingress protocol ip flower dst_ip %s ip_proto tcp dst_port %d action skbedit mark 7\n", v4, port)
		fmt.Fprintf(&rules, "filter add dev front ingress protocol ipv6 flower dst_ip %s ip_proto tcp dst_port %d action skbedit mark 8\n", v6, port)
	}
	run(t, "tc -batch - <<END\n"+rules.String()+"END\n")
	defer run(t, "tc qdisc del dev front ingress")
	want := lvs.Table{}
	for _, six := range []bool{false, true} {
		k := lvs.Key{IPv6: six, Mark: 7}
		bits := 32
		if six {
			k.Mark, bits = 8, 128
		}
		var list []lvs.Destination
		for _, s := range l.far {
			a := s.v4
			if six {
				a = s.v6
			}
			list = append(list, lvs.Destination{Address: at(a, 0), Weight: 1}) // the packet's own port
		}
		want[k] = service(lvs.Settings{Scheduler: "rr", Netmask: bits}, list...)
	}
	keep(t, owner(t), want)
	for _, v := range []netip.Addr{v4, v6} {
		for port, suffix := range map[uint16]string{3306: "a", 3307: "b"} {
			if got := shares(l.ask(t, l.clients[0], at(v, port), 6, false)); got != fmt.Sprintf("far1-%[1]s=2 far2-%[1]s=2 far3-%[1]s=2", suffix) {
				t.Errorf("%s port %d: %s", v, port, got)
			}
		}
		if _, err := l.call(l.clients[0], at(v, 3308)); err == nil {
			t.Error("a port without a mark was served")
		}
	}
}

// A client stays on its server, clients of one net together; a drained server
// loses them.
func TestPersistence(t *testing.T) {
	l := director(t)
	v4, v6 := l.vip(t)
	for _, s := range l.far {
		l.serve(t, s, s.name, 3306)
	}
	for _, c := range []struct {
		address netip.Addr
		port    uint16
		netmask int
		same    bool // both clients are one
	}{{v4, 4000, 32, false}, {v4, 4001, 24, true}, {v6, 4000, 128, false}, {v6, 4001, 64, true}} {
		t.Run(fmt.Sprintf("%s-%d", c.address, c.netmask), func(t *testing.T) {
			o := owner(t)
			k := tcp(c.address, c.port)
			s := service(lvs.Settings{Scheduler: "rr", Flags: lvs.Persistent, Timeout: 300, Netmask: c.netmask})
			for _, host := range l.far {
				a := host.v4
				if c.address.Is6() {
					a = host.v6
				}
				s.Destinations[at(a, 3306)] = lvs.Destination{Address: at(a, 3306), Weight: 1}
			}
			keep(t, o, lvs.Table{k: s})
			one := l.ask(t, l.clients[0], at(c.address, c.port), 4, false)
			two := l.ask(t, l.clients[1], at(c.address, c.port), 4, false)
			if len(one) != 1 || len(two) != 1 || (shares(one) == shares(two)) != c.same {
				t.Errorf("client1: %s, client2: %s; as one: %v", shares(one), shares(two), c.same)
			}
			for a, d := range s.Destinations {
				if one[l.nameOf(d)] > 0 {
					d.Weight = 0
					s.Destinations[a] = d
				}
			}
			keep(t, o, lvs.Table{k: s})
			if after := l.ask(t, l.clients[0], at(c.address, c.port), 4, false); len(after) != 1 || shares(after) == shares(one) {
				t.Errorf("after its server got weight 0: %s, before: %s", shares(after), shares(one))
			}
		})
	}
}

// UDP, each packet by itself.
func TestOnePacket(t *testing.T) {
	l := director(t)
	v4, _ := l.vip(t)
	k := lvs.Key{Protocol: lvs.UDP, Address: v4, Port: 4053}
	s := service(lvs.Settings{Scheduler: "rr", Flags: lvs.OnePacket, Netmask: 32})
	got := make(chan string, 64)
	for _, host := range l.far {
		var conn net.PacketConn
		var err error
		l.do(host, func() { conn, err = net.ListenPacket("udp", ":53") })
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			for b := make([]byte, 100); ; {
				if _, _, err := conn.ReadFrom(b); err != nil {
					return
				}
				got <- host.name
			}
		}()
		s.Destinations[at(host.v4, 53)] = lvs.Destination{Address: at(host.v4, 53), Weight: 1}
	}
	keep(t, owner(t), lvs.Table{k: s})
	c, err := l.dial(l.clients[0], "udp", at(v4, 4053))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	counts := make(map[string]int)
	for range 6 {
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Fatal(err)
		}
		select {
		case name := <-got:
			counts[name]++
		case <-time.After(10 * time.Second):
			t.Fatal("a packet got lost")
		}
	}
	if shares(counts) != "far1=2 far2=2 far3=2" {
		t.Errorf("packets of one socket went to %s", shares(counts))
	}
}
