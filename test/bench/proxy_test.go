package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox/backend"
	"signalbox/config"
	"signalbox/drbdwatch"
	"signalbox/internal/poll"
	"signalbox/proxy"
)

// probeAnswers are what the proxy's probes of a server want to hear.
func probeAnswers(id string, readOnly bool) []cannedAnswer {
	flag := "0"
	if readOnly {
		flag = "1"
	}
	return []cannedAnswer{
		table("SELECT @@global.read_only", []string{"ro", "id", "version", "gtid"}, []string{flag, id, "10.11.0-MariaDB-fake", "0-1-1"}),
		table("SHOW REPLICA STATUS", []string{"Slave_IO_Running", "Slave_SQL_Running", "Seconds_Behind_Master", "Last_IO_Error", "Last_SQL_Error"},
			[]string{"Yes", "Yes", "0", "", ""}),
	}
}

// startFakes runs a primary, and a replica when wanted; both know answer.
func startFakes(tb testing.TB, replica bool, answer cannedAnswer) (servers string) {
	tb.Helper()
	primary := startFake(tb, append([]cannedAnswer{answer}, probeAnswers("1", false)...)...)
	servers = fmt.Sprintf("  - {name: db, role: primary, address: %q}\n", primary.addr())
	if replica {
		r := startFake(tb, append([]cannedAnswer{answer}, probeAnswers("2", true)...)...)
		servers += fmt.Sprintf("  - {name: r1, role: replica, address: %q}\n", r.addr())
	}
	return servers
}

// startProxy runs the proxy in this process until the test ends, and returns
// its address.
func startProxy(tb testing.TB, servers string) string {
	tb.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	cfg, err := config.Parse("bench.yaml", fmt.Appendf(nil, `listeners: [{address: %q}]
admin: {address: ""}
tls: {mode: "off"}
users: [{name: %s, password: %s, plugin: mysql_native_password}]
health: {user: probe, password: probe, interval: 10s, rise: 1}
authority: {source: static, permit_samples: 1}
servers:
%s`, l.Addr().String(), benchUser, benchPassword, servers))
	if err != nil {
		tb.Fatal(err)
	}
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	watch, err := drbdwatch.New(cfg, log)
	if err != nil {
		tb.Fatal(err)
	}
	cluster := backend.New(cfg, watch, log, reg)
	p, err := proxy.New(cfg, cluster, log, reg)
	if err != nil {
		tb.Fatal(err)
	}
	runUntilEnd(tb, watch.Run, cluster.Run, func(ctx context.Context) error { return p.Run(ctx, []net.Listener{l}) })
	awaitServers(tb, cluster)
	return l.Addr().String()
}

// runUntilEnd runs the parts of the proxy, and waits for them at the end.
func runUntilEnd(tb testing.TB, parts ...func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for _, run := range parts {
		group.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				tb.Errorf("a part of the proxy ended: %v", err)
			}
		})
	}
	tb.Cleanup(func() {
		cancel()
		group.Wait()
	})
}

// awaitServers waits until every server is up and one may take writes.
func awaitServers(tb testing.TB, cluster *backend.Cluster) {
	tb.Helper()
	err := poll.Until(tb.Context(), 20*time.Second, func(context.Context) error {
		up := cluster.Gate().Current().Server != nil
		snapshot := cluster.Snapshot()
		for i := range snapshot.Servers {
			up = up && snapshot.Servers[i].Up
		}
		if !up {
			return fmt.Errorf("the servers are not up: %+v, writer %+v", snapshot, cluster.Gate().Current())
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// ways are where the point select goes.
var ways = map[string]bool{"primary": false, "replica": true}

// BenchmarkRelay is a statement's whole way: client, proxy, server and back.
// Its allocations are the proxy's; compare its time with BenchmarkStraight.
func BenchmarkRelay(b *testing.B) {
	for name, replica := range ways {
		b.Run(name, func(b *testing.B) {
			c := dialRaw(b, startProxy(b, startFakes(b, replica, pointAnswer)), pointSelect, pointAnswer, false)
			b.ReportAllocs()
			for b.Loop() {
				c.ask(b)
			}
		})
	}
}

// In the steady state a statement seen before costs the proxy no allocation.
// What little is counted is the probes' and the runtime's own.
func TestRelayAllocatesNothing(t *testing.T) {
	for name, replica := range ways {
		for _, deprecateEOF := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, DEPRECATE_EOF %v", name, deprecateEOF), func(t *testing.T) {
				c := dialRaw(t, startProxy(t, startFakes(t, replica, pointAnswer)), pointSelect, pointAnswer, deprecateEOF)
				if n := allocationsAStatement(t, c, 5000); n > 0.05 {
					t.Errorf("%.3f allocations a statement", n)
				}
			})
		}
	}
}
