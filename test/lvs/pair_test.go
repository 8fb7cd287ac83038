package lvslab

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"signalbox/lvs"
)

// Two directors with the same table: when the address moves from one to the
// other, a client's connection goes on, with the kernel's synchronisation, or
// without it where both choose the same server.
func TestPairOfDirectors(t *testing.T) {
	l := director(t)
	for _, s := range l.near {
		l.serve(t, s, s.name, 3306)
	}
	for _, c := range []struct {
		name   string
		set    lvs.Settings
		sync   bool
		sloppy string
		vrrp   bool // keepalived moves the address, as examples/keepalived.conf says
	}{
		{"synchronised", lvs.Settings{Scheduler: "wlc", Netmask: 32}, true, "0", false},
		{"hashed", lvs.Settings{Scheduler: "mh", Flags: lvs.Option1 | lvs.Option2, Netmask: 32}, false, "1", false},
		{"keepalived", lvs.Settings{Scheduler: "wlc", Netmask: 32}, true, "0", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v4, _ := l.vip(t)
			l.asRealServers(t, v4)
			want := lvs.Table{tcp(v4, 3306): service(c.set)}
			for _, s := range l.near {
				want[tcp(v4, 3306)].Destinations[at(s.v4, 3306)] = lvs.Destination{Address: at(s.v4, 3306), Weight: 1, Forward: lvs.DirectRoute}
			}
			for _, d := range []*space{nil, l.standby} {
				o := owner(t)
				l.do(d, func() {
					pass(t, o, want)
					if err := lvs.WriteSysctl("net/ipv4/vs/sloppy_tcp", c.sloppy); err != nil {
						t.Error(err)
					}
				})
			}
			if c.sync {
				for d, daemon := range map[*space]lvs.SyncDaemon{nil: {State: lvs.SyncMaster, Interface: "front", ID: 7}, l.standby: {State: lvs.SyncBackup, Interface: "eth0", ID: 7}} {
					l.do(d, func() { keepSync(t, daemon) })
					t.Cleanup(func() { l.do(d, func() { keepSync(t) }) })
				}
			}
			move := func() {
				run(t, fmt.Sprintf("ip addr del %[1]s/32 dev front; ip -n standby addr add %[1]s/32 dev eth0; ip -n client1 neigh flush all", v4))
			}
			if c.vrrp {
				move = l.vrrp(t, v4)
			}
			var calls []*call
			for range 8 {
				conn, err := l.call(l.clients[0], at(v4, 3306))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				for i := range 6 { // the kernel tells of a connection after some packets
					if err := conn.echo(fmt.Sprint("before ", i)); err != nil {
						t.Fatal(err)
					}
				}
				calls = append(calls, conn)
			}
			if c.sync {
				l.synchronised(t, len(calls), fmt.Sprintf("%02X%02X%02X%02X 0CEA", v4.As4()[0], v4.As4()[1], v4.As4()[2], v4.As4()[3]))
			}
			move()
			for i, conn := range calls {
				if err := conn.echo("after"); err != nil {
					t.Errorf("connection %d to %s ends with the move of the address: %v", i, conn.server, err)
				}
			}
			if conn, err := l.call(l.clients[1], at(v4, 3306)); err != nil {
				t.Errorf("a new connection through the other director: %v", err)
			} else {
				_ = conn.Close()
			}
		})
	}
}

// keepSync makes this namespace's daemons those given, and looks that a second
// call has nothing to do.
func keepSync(t *testing.T, want ...lvs.SyncDaemon) {
	t.Helper()
	if _, err := lvs.KeepSync(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	again, err := lvs.KeepSync(t.Context(), want)
	if err != nil || len(again) > 0 {
		t.Errorf("a second call does %v: %v", again, err)
	}
}

// synchronised waits until the standby knows of n connections.
func (l *lab) synchronised(t *testing.T, n int, virtual string) {
	t.Helper()
	eventually(t, func() (err error) {
		l.do(l.standby, func() {
			var text []byte
			text, err = os.ReadFile("/proc/thread-self/net/ip_vs_conn")
			if got := strings.Count(string(text), virtual); err == nil && got < n {
				err = fmt.Errorf("the standby knows of %d connections, not %d:\n%s", got, n, text)
			}
		})
		return err
	})
}

// vrrp gives the address to a pair of keepalived as the example configures them,
// and returns what ends the first.
func (l *lab) vrrp(t *testing.T, v4 netip.Addr) (move func()) {
	t.Helper()
	text, err := os.ReadFile("../../examples/keepalived.conf")
	if err != nil {
		t.Fatal(err)
	}
	run(t, fmt.Sprintf("ip addr del %s/32 dev front", v4))
	here := strings.NewReplacer("10.0.0.10/32", v4.String()+"/32", "interface eth0", "interface front", "dev eth0", "dev front")
	there := strings.NewReplacer("10.0.0.10/32", v4.String()+"/32", "priority 150", "priority 100")
	has := func(where string) func() error {
		return func() error {
			if out, err := shell("ip " + where + " addr show"); err != nil || !strings.Contains(out, v4.String()+"/32") {
				return fmt.Errorf("the address is not there: %v: %s", err, out)
			}
			return nil
		}
	}
	end := runKeepalived(t, nil, "--vrrp", here.Replace(string(text)))
	eventually(t, has(""))
	runKeepalived(t, l.standby, "--vrrp", there.Replace(string(text)))
	return func() {
		end()
		eventually(t, has("-n standby"))
	}
}
