package lvslab

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"signalbox/config"
	"signalbox/lvs"
)

// What the library lacks: counters of own services, a flush of own services, and
// the persistence engine.
func TestOwnServicesOnly(t *testing.T) {
	l := director(t)
	v4, v6 := l.vip(t)
	l.serve(t, l.far[0], "far1", 3306)
	to := lvs.Destination{Address: at(l.far[0].v4, 3306), Weight: 1}
	ours, mark, udp := tcp(v4, 4000), lvs.Key{IPv6: true, Mark: 9}, lvs.Key{IPv6: true, Protocol: lvs.UDP, Address: v6, Port: 5060}
	set := lvs.Settings{Scheduler: "wlc", Netmask: 32}
	six := lvs.Settings{Scheduler: "rr", Netmask: 128}
	o := owner(t)
	run(t, fmt.Sprintf("ipvsadm -A -t %[1]s:4001 -s wlc; ipvsadm -a -t %[1]s:4001 -r %[2]s:3306 -m", v4, l.far[0].v4))
	foreign := tcp(v4, 4001)
	pass(t, o, lvs.Table{ours: service(set, to), mark: service(six), udp: service(six)})
	for _, port := range []uint16{4000, 4001} {
		l.ask(t, l.clients[0], at(v4, port), 3, false)
	}
	counted := func(want map[lvs.Key]uint64) {
		t.Helper()
		eventually(t, func() error {
			found := table(t, o)
			for k, n := range want {
				if got := found[k].Counters.Connections; got != n {
					return fmt.Errorf("%s counts %d connections, not %d", k, got, n)
				}
			}
			return nil
		})
	}
	counted(map[lvs.Key]uint64{ours: 3, foreign: 3})
	if err := lvs.Zero(t.Context(), ours, mark); err != nil {
		t.Fatal(err)
	}
	counted(map[lvs.Key]uint64{ours: 0, foreign: 3})
	if err := lvs.Zero(t.Context(), tcp(v4, 9)); err == nil || !strings.Contains(err.Error(), "tcp/"+v4.String()+":9") {
		t.Errorf("zero a service that is not: %v", err)
	}

	if err := lvs.SetEngine(t.Context(), udp, six, "sip"); err != nil {
		t.Fatal(err)
	}
	if e, err := lvs.Engine(t.Context(), udp); err != nil || e != "sip" {
		t.Errorf("the engine is %q: %v", e, err)
	}
	if s := table(t, o)[udp].Settings; s != six {
		t.Errorf("with the engine the service is %v, not %v", s, six)
	}
	if err := lvs.SetEngine(t.Context(), udp, six, "none"); err == nil || !strings.Contains(err.Error(), "modprobe") {
		t.Errorf("an unknown engine: %v", err)
	}
	if err := lvs.SetEngine(t.Context(), udp, six, ""); err != nil {
		t.Error(err)
	}

	if err := lvs.Flush(t.Context(), ours, mark, udp, tcp(v4, 9)); err != nil {
		t.Fatal(err)
	}
	if found := table(t, o); len(found) != 1 || len(found[foreign].Destinations) != 1 {
		t.Errorf("the flush of own services leaves %v", found)
	}
	if err := lvs.StartSync(t.Context(), lvs.SyncDaemon{State: lvs.SyncMaster, Interface: "nosuch"}); err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("a daemon on an interface that is not: %v", err)
	}
}

// The preflight finds what is wrong on a real kernel, and applying ends it.
func TestPreflightOnARealKernel(t *testing.T) {
	l := director(t)
	v4, _ := l.vip(t)
	text := settings("", "", fmt.Sprintf("{name: reads, address: %s, ports: 4000, persistence: 60s, %s}", v4, listed("{type: none}", 3306, l.far[:]...)))
	cfg, err := config.Parse("lab.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"expire_nodest_conn", "expire_quiescent_template", "conn_reuse_mode"} {
		if err := lvs.WriteSysctl("net/ipv4/vs/"+name, "0"); err != nil {
			t.Fatal(err)
		}
	}
	wish := lvs.WishOf(cfg)
	codes := func(list []lvs.Finding) (words []string) {
		for _, f := range list {
			if f.Sysctl != "" {
				words = append(words, f.Code)
			}
		}
		return words
	}
	first := lvs.Preflight(lvs.Gather(wish), wish)
	if got := codes(first); !slices.Equal(got, []string{"expire-nodest-conn", "expire-quiescent-template", "conn-reuse-mode"}) {
		t.Errorf("found %v", got)
	}
	file := write(t, "signalbox.yaml", text)
	if out, err := shell("/mnt/lab/signalbox lvs check -c " + file); err == nil || !strings.Contains(out, "not ready") {
		t.Errorf("signalbox lvs check: %v: %s", err, out)
	}
	out := run(t, "/mnt/lab/signalbox lvs check --apply -c "+file)
	t.Log(out)
	if got := codes(lvs.Preflight(lvs.Gather(wish), wish)); len(got) > 0 {
		t.Errorf("after --apply: %v", got)
	}
	if f := lvs.Gather(wish); f.IPVS != "" || f.ConnectionTableSize == 0 || f.TCPTimeout == 0 || f.Local[v4] != "front" || f.Schedulers["wlc"] != lvs.ModuleLoaded {
		t.Errorf("gathered %+v", f)
	}
}

// signalbox agent --real-server makes a host a real server that the network does
// not find by the virtual address, and puts everything back, even after kill -9.
func TestAgentAsRealServer(t *testing.T) {
	l := director(t)
	v4, v6 := l.vip(t)
	s := l.near[0]
	l.serve(t, s, s.name, 3306)
	file := write(t, "agent.yaml", fmt.Sprintf("node: near1\nstate_dir: %s\nreal_server: {vips: [%q, %q]}\n", stateDir(t), v4, v6))
	state := func() string {
		var b strings.Builder
		l.do(s, func() {
			for _, p := range []string{"all/arp_ignore", "all/arp_announce", "lo/arp_ignore", "lo/arp_announce"} {
				value, err := lvs.ReadSysctl("net/ipv4/conf/" + p)
				fmt.Fprintf(&b, "%s=%s %v\n", p, value, err)
			}
		})
		return b.String() + run(t, "ip -n near1 -brief addr show dev lo")
	}
	// An earlier value that is not the kernel's default must come back too.
	l.do(s, func() {
		if err := lvs.WriteSysctl("net/ipv4/conf/all/arp_announce", "1"); err != nil {
			t.Fatal(err)
		}
	})
	before := state()
	up := func() (end func(syscall.Signal)) {
		agent := signalbox(t, "netns", "exec", "near1", "/mnt/lab/signalbox", "agent", "--real-server", "-c", file)
		eventually(t, func() error {
			if text := state(); !strings.Contains(text, v4.String()+"/32") || !strings.Contains(text, v6.String()+"/128") || !strings.Contains(text, "all/arp_ignore=1") || !strings.Contains(text, "all/arp_announce=2") {
				return fmt.Errorf("near1 is %s: %s", text, agent.LastWords())
			}
			return nil
		})
		return func(signal syscall.Signal) {
			_ = agent.Signal(signal)
			<-agent.Done()
		}
	}
	kill := up()
	kill(syscall.SIGKILL)
	if !strings.Contains(state(), v4.String()) {
		t.Error("kill -9 has taken the address away")
	}
	end := up() // another one, which finds the first one's work
	o := owner(t)
	keep(t, o, lvs.Table{tcp(v4, 3306): service(lvs.Settings{Scheduler: "rr", Netmask: 32}, lvs.Destination{Address: at(s.v4, 3306), Weight: 1, Forward: lvs.DirectRoute})})
	for range 3 {
		run(t, "ip -n client1 neigh flush all")
		if got := shares(l.ask(t, l.clients[0], at(v4, 3306), 1, false)); got != "near1=1" {
			t.Error(got)
		}
		if who, mine := run(t, fmt.Sprintf("ip -n client1 neigh show %s", v4)), strings.TrimSpace(run(t, "cat /sys/class/net/front/address")); !strings.Contains(who, mine) {
			t.Errorf("the network finds the virtual address at %s, not at the director, %s", who, mine)
		}
	}
	run(t, fmt.Sprintf("ip -n near1 addr del %s/32 dev lo; ip netns exec near1 sh -c 'echo 0 >/proc/sys/net/ipv4/conf/all/arp_ignore'", v4))
	eventually(t, func() error { // within five seconds it looks
		if text := state(); !strings.Contains(text, v4.String()+"/32") || !strings.Contains(text, "all/arp_ignore=1") {
			return fmt.Errorf("near1 is %s", text)
		}
		return nil
	})
	end(syscall.SIGTERM)
	if now := state(); now != before {
		t.Errorf("in the end:\n%s\nbefore:\n%s", now, before)
	}
}
