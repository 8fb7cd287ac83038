package lvslab

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"signalbox/lvs"
)

// Through NAT and direct routing clients reach the servers that are healthy, and
// a server that was stopped gets no connection after the probe that noticed.
func TestHealthyServersOnly(t *testing.T) {
	l := director(t)
	v4, _ := l.vip(t)
	l.asRealServers(t, v4)
	for _, c := range []struct {
		forward string
		servers [3]*space
		port    uint16
	}{{"masq", l.far, 4000}, {"dr", l.near, 3306}} {
		t.Run(c.forward, func(t *testing.T) {
			servers := map[string]*server{}
			for _, s := range c.servers[:2] { // nobody listens on the third
				servers[s.name] = l.serve(t, s, s.name, 3306)
			}
			prefix := strings.TrimRight(c.servers[0].name, "123")
			r := start(t, settings("", "", fmt.Sprintf("{name: reads, address: %s, ports: %d, scheduler: rr, forward: %s, slow_start: 0s, %s}", v4, c.port, c.forward,
				listed(quickCheck, 3306, c.servers[:]...))), nil)
			k := tcp(v4, c.port)
			l.become(t, r.owner, k, fmt.Sprintf("%[1]s1=100 %[1]s2=100", prefix))
			if got := shares(l.ask(t, l.clients[0], at(v4, c.port), 8, false)); got != fmt.Sprintf("%[1]s1=4 %[1]s2=4", prefix) {
				t.Errorf("got %s", got)
			}
			servers[prefix+"1"].stop()
			took := l.become(t, r.owner, k, fmt.Sprintf("%[1]s1=0 %[1]s2=100", prefix))
			t.Logf("%s1 was stopped; no new connections after %s (checks every 200ms)", prefix, took.Round(time.Millisecond))
			if took > 5*time.Second {
				t.Error("that is far more than a probe period")
			}
			if got := shares(l.ask(t, l.clients[0], at(v4, c.port), 8, false)); got != prefix+"2=8" {
				t.Errorf("after that: %s", got)
			}
			l.serve(t, c.servers[2], c.servers[2].name, 3306)
			l.become(t, r.owner, k, fmt.Sprintf("%[1]s1=0 %[1]s2=100 %[1]s3=100", prefix))
		})
	}
}

// A server that hangs keeps its connections for quiesce_timeout, without getting
// new ones; then they are cut: whoever sends gets a reset, and so does who only
// waits, with TCP keepalive.
func TestStuckConnectionsAreCut(t *testing.T) {
	l := director(t)
	v4, _ := l.vip(t)
	l.serve(t, l.far[0], "far1", 3306)
	for _, onFailure := range []string{"quiesce", "remove"} {
		t.Run(onFailure, func(t *testing.T) {
			port := uint16(4000 + len(onFailure))
			r := start(t, settings("", "", fmt.Sprintf("{name: reads, address: %s, ports: %d, scheduler: rr, slow_start: 0s, on_failure: %s, quiesce_timeout: 3s, %s}", v4, port, onFailure,
				listed(quickCheck, 3306, l.far[0]))), nil)
			k := tcp(v4, port)
			l.become(t, r.owner, k, "far1=100")
			sender, err := l.call(l.clients[0], at(v4, port))
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			waiter, err := l.call(l.clients[1], at(v4, port))
			if err != nil {
				t.Fatal(err)
			}
			defer waiter.Close()
			if err := waiter.Conn.(*net.TCPConn).SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 9}); err != nil {
				t.Fatal(err)
			}
			cut := time.Now() // the cable, so that neither side says goodbye
			run(t, "ip link set far1 down")
			defer run(t, "ip link set far1 up")
			if onFailure == "quiesce" {
				t.Logf("no new connections after %s", l.become(t, r.owner, k, "far1=0").Round(time.Millisecond))
			}
			l.become(t, r.owner, k, "")
			t.Logf("out of the table after %s", time.Since(cut).Round(time.Millisecond))
			for _, c := range []*call{sender, waiter} {
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				if c == sender {
					_, _ = fmt.Fprintln(c, "are you there")
				}
				if _, err := c.in.ReadString('\n'); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("a stuck connection ends with %v, not with a reset", err)
				}
				t.Logf("reset after %s", time.Since(cut).Round(time.Millisecond))
			}
			if left := run(t, "cat /proc/net/ip_vs_conn"); strings.Contains(left, fmt.Sprintf("%04X 0A090201 0CEA ESTABLISHED", port)) {
				t.Errorf("the kernel still holds a connection:\n%s", left)
			}
		})
	}
}

// What others made stays as it is, and an address of theirs is not taken.
func TestForeignServicesStay(t *testing.T) {
	l := director(t)
	v4, _ := l.vip(t)
	l.serve(t, l.far[0], "far1", 3306)
	run(t, fmt.Sprintf("ipvsadm -A -t %[1]s:8080 -s wrr -p 77; ipvsadm -a -t %[1]s:8080 -r %[2]s:80 -m -w 7; ipvsadm -A -f 99 -s sh; ipvsadm -A -u %[1]s:53 -s rr -o; ipvsadm -A -t %[1]s:4001 -s lc",
		v4, l.far[2].v4))
	foreign := func() string {
		text := ""
		for line := range strings.Lines(run(t, "ipvsadm -Sn")) {
			if !strings.Contains(line, fmt.Sprintf("%s:4000 ", v4)) {
				text += line
			}
		}
		return text
	}
	before := foreign()
	service := func(name string, port int) string {
		return fmt.Sprintf("{name: %s, address: %s, ports: %d, slow_start: 0s, %s}", name, v4, port, listed("{type: none}", 3306, l.far[0]))
	}
	r := start(t, settings("", "  leave_on_exit: false\n", service("ours", 4000), service("taken", 4001)), nil)
	l.become(t, r.owner, tcp(v4, 4000), "far1=100")
	eventually(t, func() error {
		if c := r.Status().Conflicts; len(c) != 1 || c[0].Service != tcp(v4, 4001) {
			return fmt.Errorf("conflicts: %+v", c)
		}
		return nil
	})
	t.Log(r.Status().Conflicts[0])
	run(t, fmt.Sprintf("ipvsadm -D -t %s:4000", v4)) // so that it has something to repair
	l.become(t, r.owner, tcp(v4, 4000), "far1=100")
	if now := foreign(); now != before {
		t.Errorf("while it runs:\n%s\nbefore:\n%s", now, before)
	}
	r.end() // takes its own away
	if now := run(t, "ipvsadm -Sn"); now != before {
		t.Errorf("after the end:\n%s\nbefore:\n%s", now, before)
	}
}

// Whatever is done to the table by hand is mended within a period.
func TestManualDamageIsRepaired(t *testing.T) {
	l := director(t)
	v4, v6 := l.vip(t)
	text := func(name, address string) string {
		return fmt.Sprintf("{name: %s, address: %q, ports: 4000-4001, scheduler: mh, scheduler_flags: [fallback, port], persistence: 60s, slow_start: 0s, upper_threshold: 100, %s}", name, address,
			listed("{type: none}", 3306, l.far[:]...))
	}
	six := strings.NewReplacer(l.far[0].v4.String()+":", "["+l.far[0].v6.String()+"]:", l.far[1].v4.String()+":", "["+l.far[1].v6.String()+"]:", l.far[2].v4.String()+":", "["+l.far[2].v6.String()+"]:", "name: far", "name: six")
	r := start(t, settings("", "", text("four", v4.String()), six.Replace(text("six", v6.String()))), nil)
	l.become(t, r.owner, tcp(v6, 4001), "far1=100 far2=100 far3=100")
	l.become(t, r.owner, tcp(v4, 4000), "far1=100 far2=100 far3=100")
	whole := func() string { return describe(table(t, r.owner)) }
	before := whole()
	if n := strings.Count(before, "\n"); n != 16 {
		t.Fatalf("%d lines:\n%s", n, before)
	}
	first := l.far[0].v4
	for _, damage := range []string{
		fmt.Sprintf("-d -t %s:4000 -r %s:3306", v4, first),
		fmt.Sprintf("-e -t %s:4000 -r %s:3306 -m -w 0", v4, first),
		fmt.Sprintf("-e -t %s:4000 -r %s:3306 -m -w 65000 -x 5", v4, first),
		fmt.Sprintf("-a -t %s:4000 -r 10.9.2.77:3306 -m -w 100", v4),
		fmt.Sprintf("-E -t %s:4000 -s rr", v4),
		fmt.Sprintf("-E -t %s:4000 -s mh -b mh-port -p 60", v4),
		fmt.Sprintf("-E -t %s:4000 -s mh -b mh-fallback,mh-port -p 61", v4),
		fmt.Sprintf("-D -t %s:4001", v4),
		fmt.Sprintf("-D -t [%s]:4001", v6),
		"-C",
	} {
		damaged := time.Now()
		run(t, "ipvsadm "+damage)
		var mended time.Time
		eventually(t, func() error {
			for _, e := range r.Events() {
				if e.Kind == "drift" && e.Time.After(damaged) {
					mended = e.Time
				}
			}
			if now := whole(); mended.IsZero() || now != before {
				return fmt.Errorf("ipvsadm %s: not mended:\n%s", damage, now)
			}
			return nil
		})
		t.Logf("ipvsadm %-66s noticed after %s", damage, mended.Sub(damaged).Round(time.Millisecond))
	}
}

// describe writes a table, one line a service and one a destination.
func describe(table lvs.Table) string {
	var lines []string
	for k, s := range table {
		lines = append(lines, fmt.Sprintf("%s %s\n", k, s.Settings))
		for _, d := range s.Destinations {
			lines = append(lines, fmt.Sprintf("%s -> %s\n", k, d))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// The sorry server serves while too few are healthy.
func TestSorryServer(t *testing.T) {
	l := director(t)
	v4, _ := l.vip(t)
	one, two := l.serve(t, l.far[0], "far1", 3306), l.serve(t, l.far[1], "far2", 3306)
	l.serve(t, l.far[2], "sorry", 3306)
	r := start(t, settings("", "", fmt.Sprintf(`{name: reads, address: %s, ports: 4000, scheduler: rr, slow_start: 0s, on_failure: remove, quorum: 1, sorry_server: {address: "%s:3306"}, %s}`, v4, l.far[2].v4,
		listed(quickCheck, 3306, l.far[:2]...))), nil)
	l.become(t, r.owner, tcp(v4, 4000), "far1=100 far2=100")
	one.stop()
	two.stop()
	l.become(t, r.owner, tcp(v4, 4000), "far3=100")
	if got := shares(l.ask(t, l.clients[0], at(v4, 4000), 3, false)); got != "sorry=3" {
		t.Error(got)
	}
	l.serve(t, l.far[0], "far1", 3306)
	eventually(t, func() error {
		if w := l.weights(t, r.owner, tcp(v4, 4000)); w["far1"] != 100 || w["far3"] != 0 {
			return fmt.Errorf("%v", w)
		}
		return nil
	})
	if got := shares(l.ask(t, l.clients[0], at(v4, 4000), 3, false)); got != "far1=3" {
		t.Error(got)
	}
}
