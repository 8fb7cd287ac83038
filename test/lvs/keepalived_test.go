package lvslab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"signalbox/internal/child"
	"signalbox/lvs"
)

// The same table kept by keepalived and by Signalbox: how long clients are sent
// to a server that has failed, how long after damage by hand, and what the
// servers bear of checks.
func TestBesideKeepalived(t *testing.T) {
	l := director(t)
	const services = 20
	keepalived := keptTable{l: l, name: "keepalived", services: services, patience: 8 * time.Second}
	signalbox := keptTable{l: l, name: "Signalbox", services: services, patience: 8 * time.Second}
	t.Run("keepalived", func(t *testing.T) {
		v4, _ := l.vip(t)
		keepalived.key = tcp(v4, 0)
		keepalived.run(t, func() { startKeepalived(t, l, keepalived.key, services) })
	})
	t.Run("signalbox", func(t *testing.T) {
		v4, _ := l.vip(t)
		signalbox.key = tcp(v4, 0)
		text := settings("", "", fmt.Sprintf("{name: reads, address: %s, ports: 5000-%d, scheduler: rr, slow_start: 0s, %s}", v4, 5000+services-1,
			listed("{type: tcp, interval: 1s, timeout: 1s, fall: 2, rise: 1}", 3306, l.far[:]...)))
		signalbox.run(t, func() { start(t, strings.Replace(text, "interval: 500ms", "interval: 1s", 1), nil) })
	})
	t.Logf("%d services x 3 servers, TCP check every second, 2 tries, table compared every second:\n%-58s %12s %12s\n%s%s%s%s%s", services, "", "keepalived", "Signalbox",
		row("until the failed server gets nothing in any service", keepalived.failed, signalbox.failed),
		row("until it is back in all when it answers again", keepalived.back, signalbox.back),
		row("until a server deleted with ipvsadm is back", keepalived.deleted, signalbox.deleted),
		row("until a weight changed with ipvsadm is right", keepalived.weighted, signalbox.weighted),
		fmt.Sprintf("%-58s %12.1f %12.1f\n", "connections for checks that one server gets in a second", keepalived.probes, signalbox.probes))
	if keepalived.deleted >= 0 {
		t.Error("keepalived has repaired the table: then this comparison must be written anew")
	}
	if signalbox.deleted < 0 || signalbox.weighted < 0 {
		t.Error("Signalbox has not repaired the table")
	}
}

// row is a line of the table of results.
func row(what string, a, b time.Duration) string {
	word := func(d time.Duration) string {
		if d < 0 {
			return "not in 8s"
		}
		return d.Round(time.Millisecond).String()
	}
	return fmt.Sprintf("%-58s %12s %12s\n", what, word(a), word(b))
}

// keptTable is a table that a program keeps, and what was measured on it.
type keptTable struct {
	l                               *lab
	name                            string
	key                             lvs.Key // its ports begin at 5000
	services                        int
	patience                        time.Duration
	failed, back, deleted, weighted time.Duration
	probes                          float64
}

// until measures when ok is true of the weights of all services; -1 for not
// within the patience.
func (k *keptTable) until(t *testing.T, o *lvs.Owner, ok func(map[string]int) bool) time.Duration {
	t.Helper()
	began := time.Now()
	err := within(k.patience, func() error {
		found, err := o.Dump(t.Context(), nil)
		n := 0
		for key, s := range found {
			w := make(map[string]int)
			for _, d := range s.Destinations {
				w[k.l.nameOf(d)] = int(d.Weight)
			}
			if key.Address == k.key.Address && ok(w) {
				n++
			}
		}
		if err == nil && n != k.services {
			err = fmt.Errorf("%d of %d", n, k.services)
		}
		return err
	})
	if err != nil {
		return -1
	}
	return time.Since(began)
}

func (k *keptTable) run(t *testing.T, begin func()) {
	l, o := k.l, owner(t)
	servers := make([]*server, 3)
	for i, s := range l.far {
		servers[i] = l.serve(t, s, s.name, 3306)
	}
	begin()
	all := func(w map[string]int) bool { return w["far1"] == 100 && w["far2"] == 100 && w["far3"] == 100 }
	long := *k
	long.patience = 30 * time.Second
	if long.until(t, o, all) < 0 {
		t.Fatalf("%s does not bring the table up:\n%s", k.name, run(t, "ipvsadm -Ln"))
	}
	before, began := servers[0].accepted.Load(), time.Now()
	time.Sleep(3 * time.Second) // a measurement of a rate, not a wait
	k.probes = float64(servers[0].accepted.Load()-before) / time.Since(began).Seconds()

	servers[2].stop()
	k.failed = k.until(t, o, func(w map[string]int) bool { return w["far3"] == 0 })
	l.serve(t, l.far[2], "far3", 3306)
	k.back = k.until(t, o, all)
	run(t, fmt.Sprintf("ipvsadm -d -t %s:5003 -r %s:3306", k.key.Address, l.far[0].v4))
	k.deleted = k.until(t, o, all)
	run(t, fmt.Sprintf("ipvsadm -e -t %s:5004 -r %s:3306 -m -w 1", k.key.Address, l.far[1].v4))
	k.weighted = k.until(t, o, func(w map[string]int) bool { return w["far2"] == 100 })
}

// startKeepalived runs Debian's keepalived, checkers only, until the test ends.
func startKeepalived(t *testing.T, l *lab, k lvs.Key, services int) {
	t.Helper()
	var b strings.Builder
	b.WriteString("global_defs {\n router_id lab\n}\n")
	for i := range services {
		fmt.Fprintf(&b, "virtual_server %s %d {\n delay_loop 1\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n", k.Address, 5000+i)
		for _, s := range l.far {
			fmt.Fprintf(&b, " real_server %s 3306 {\n  weight 100\n  TCP_CHECK {\n   connect_timeout 1\n   retry 1\n   delay_before_retry 1\n  }\n }\n", s.v4)
		}
		b.WriteString("}\n")
	}
	runKeepalived(t, nil, "--check", b.String())
}

// runKeepalived runs a part of keepalived, --check or --vrrp, in a namespace
// until the test ends or end is called.
func runKeepalived(t *testing.T, s *space, part, text string) (end func()) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "keepalived.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"keepalived", "--dont-fork", "--log-console", part, "--use-file", file, "--pid", filepath.Join(dir, "pid"),
		"--checkers_pid", filepath.Join(dir, "checkers"), "--vrrp_pid", filepath.Join(dir, "vrrp")}
	if s != nil {
		args = append([]string{"ip", "netns", "exec", s.name}, args...)
	}
	p, err := child.Start("keepalived", filepath.Join(dir, "log"), exec.Command(args[0], args[1:]...))
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		p.Stop(time.Minute)
		if t.Failed() {
			text, _ := os.ReadFile(p.Log)
			t.Logf("keepalived said:\n%s", text)
		}
	})
	t.Cleanup(end)
	return end
}
