package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"signalbox/internal/sandbox"
)

// Lag is told in milliseconds by the heartbeat; a replica that swings around
// max_lag every second is taken out once and comes back once; a hint may ask for
// less than the rule.
func TestLagByHeartbeat(t *testing.T) {
	cluster := startBalanced(t, sandbox.Options{Heartbeat: true})
	b := proxyFor(t, cluster, "", "reads: {max_lag: 500ms, lag_settle: 3s}\n")
	locker, err := openAt(t, fmt.Sprintf("127.0.0.1:%d", cluster.Port("r1"))).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	do := func(statement string) {
		t.Helper()
		if _, err := locker.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	b.process.await(t, func(ctx context.Context) error {
		_, err := locker.ExecContext(ctx, "SELECT ts FROM heartbeat")
		return err
	})
	lag := func() (lag float64) {
		s, err := b.status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range s.Servers {
			if v.Name == "r1" && v.Lag != nil {
				lag = *v.Lag
			}
		}
		return lag
	}
	worst, exact := 0.0, false
	const swings = 10
	for range swings { // a second behind, a second not
		do("LOCK TABLES heartbeat READ")
		wait(t, time.Second)
		now := lag()
		worst, exact = max(worst, now), exact || now != float64(int(now))
		do("UNLOCK TABLES")
		wait(t, time.Second)
	}
	changes := b.count(t, "lag", "r1")
	t.Logf("%d swings up to %.3f s around a max_lag of 0.5 s: %d changes of state", swings, worst, changes)
	if worst < 0.5 || !exact {
		t.Errorf("lag was at most %v s: the heartbeat does not tell it", worst)
	}
	if changes == 0 || changes >= 5 {
		t.Errorf("%d changes of state in %d swings", changes, swings)
	}
	b.until(t, "r1 is used again", func(*statusOf) bool { return b.count(t, "lag", "r1")%2 == 0 })
	if n := b.count(t, "lag", "r1"); n >= 5 {
		t.Errorf("%d changes of state in all", n)
	}
	do("LOCK TABLES heartbeat READ")
	b.until(t, "r1 is out", func(*statusOf) bool { return b.count(t, "lag", "r1")%2 == 1 })
	if got := b.portOf(t, "/* signalbox: server=r1 */ SELECT @@port"); got == cluster.Port("r1") {
		t.Error("a read went to a replica that is too far behind")
	}
	if got := b.portOf(t, "/* signalbox: server=r1 max_lag=1h */ SELECT @@port"); got != cluster.Port("r1") {
		t.Error("a hint that allows the lag did not reach the replica")
	}
	if got := b.portOf(t, "/* signalbox: max_lag=0 */ SELECT @@port"); got != cluster.Port(cluster.Active()) {
		t.Error("max_lag=0 did not read from the primary")
	}
}

// A replica with a dead connection to the primary says that it is 0 s behind
// until its slave_net_timeout is over, here an hour. The proxy knows better.
func TestReplicaThatThinksItIsUpToDate(t *testing.T) {
	cluster := startBalanced(t, sandbox.Options{})
	for _, r := range []string{"r1", "r2"} {
		if err := cluster.Exec(t.Context(), r, "SET GLOBAL slave_net_timeout = 3600", "STOP REPLICA", "START REPLICA"); err != nil {
			t.Fatal(err)
		}
	}
	b := proxyFor(t, cluster, "", "reads: {max_lag: 2s, lag_settle: 1s}\n")
	b.untilUp(t, "r1", true)
	b.untilUp(t, "r2", true)
	primary := cluster.Port(cluster.Active())
	cluster.LoseLog(true)
	// Nothing is written: nothing is missed.
	wait(t, 3*time.Second)
	if got := b.portOf(t, "SELECT @@port"); got == primary {
		t.Error("replicas that miss nothing are not read")
	}
	if _, err := b.db.ExecContext(t.Context(), "UPDATE b SET v = 2 WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	b.until(t, "both are known to be behind", func(*statusOf) bool { return b.count(t, "lag", "r1")+b.count(t, "lag", "r2") == 2 })
	if got := b.portOf(t, "/* signalbox: consistency=eventual */ SELECT @@port"); got != primary {
		t.Error("a replica was read that misses what is 2 s old")
	}
	cluster.LoseLog(false)
	b.until(t, "both are read again", func(*statusOf) bool { return b.count(t, "lag", "r1")+b.count(t, "lag", "r2") == 4 })
}

func (b *balanced) portOf(t *testing.T, statement string) (port int) {
	t.Helper()
	if err := b.db.QueryRowContext(t.Context(), statement).Scan(&port); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return port
}

// count is how many events of a kind a server had.
func (b *balanced) count(t *testing.T, kind, server string) (n int) {
	t.Helper()
	s, err := b.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range s.Events {
		if e.Kind == kind && e.Server == server {
			n++
		}
	}
	return n
}

// A server is drained while it works: what runs ends there, the rest moves, and
// it stays drained after a restart of the proxy. Writes are never concerned.
func TestDrainAServer(t *testing.T) {
	cluster := startBalanced(t, sandbox.Options{})
	state := "state_dir: " + t.TempDir() + "\n"
	b := proxyFor(t, cluster, "", state)
	command := func(want int, words ...string) string {
		t.Helper()
		binary, _ := buildOnce()
		out, err := exec.Command(binary, append(append([]string{"server"}, words...), "-c", b.file)...).CombinedOutput()
		status := 0
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			status = exit.ExitCode()
		}
		if status != want {
			t.Fatalf("server %v: status %d, %v: %s", words, status, err, out)
		}
		return string(out)
	}
	reads := b.traffic(t, 8, time.Millisecond, pointRead)
	conn, err := b.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	do := func(statement string) {
		t.Helper()
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	do("START TRANSACTION READ ONLY")
	var port int
	if err := conn.QueryRowContext(t.Context(), "SELECT @@port").Scan(&port); err != nil {
		t.Fatal(err)
	}
	drained, other := "r1", "r2"
	if port == cluster.Port("r2") {
		drained, other = other, drained
	}
	command(0, "drain", drained)
	connections := func(s *statusOf) int {
		for _, v := range s.Servers {
			if v.Name == drained {
				return v.Connections
			}
		}
		return -1
	}
	b.until(t, "only the transaction is left", func(s *statusOf) bool { return connections(s) == 1 })
	for range 5 { // what has begun goes on
		if err := conn.QueryRowContext(t.Context(), "SELECT @@port").Scan(&port); err != nil || port != cluster.Port(drained) {
			t.Fatalf("the transaction did not end where it began: port %d, %v", port, err)
		}
	}
	do("COMMIT")
	if err := conn.QueryRowContext(t.Context(), "SELECT @@port").Scan(&port); err != nil || port != cluster.Port(other) {
		t.Errorf("after the transaction it reads from port %d, %v", port, err)
	}
	b.until(t, "nothing is left", func(s *statusOf) bool { return connections(s) == 0 })
	if took, errs := reads.lap(); len(errs) > 0 || len(took) == 0 {
		t.Errorf("%d of %d reads failed: %v", len(errs), len(took), errs)
	}
	command(0, "disable", other)
	for range 3 { // no replica: the primary
		if got := b.portOf(t, "SELECT @@port"); got != cluster.Port("db1") {
			t.Errorf("read from port %d with no replica enabled", got)
		}
	}
	command(0, "drain", "db1")
	if _, err := b.db.ExecContext(t.Context(), "UPDATE b SET v = 7 WHERE id = 1"); err != nil {
		t.Errorf("a write after db1 was drained of reads: %v", err)
	}
	command(0, "enable", other)
	if out := command(1, "drain", "nobody"); !strings.Contains(out, "there is no such server") {
		t.Errorf("an unknown server: %s", out)
	}
	if out := command(0, "list"); !strings.Contains(out, "draining") {
		t.Errorf("list: %s", out)
	}
	if _, errs := reads.lap(); len(errs) > 0 {
		t.Errorf("%d reads failed: %v", len(errs), errs[0])
	}
	reads.end()
	b.process.end()
	b = proxyFor(t, cluster, "", state)
	for range 10 {
		if got := b.portOf(t, "SELECT @@port"); got != cluster.Port(other) {
			t.Fatalf("after a restart a read went to port %d, although %s is drained", got, drained)
		}
	}
	command(0, "enable", drained)
	b.until(t, "it serves again", func(*statusOf) bool {
		return b.portOf(t, "/* signalbox: server="+drained+" */ SELECT @@port") == cluster.Port(drained)
	})
}

// When nothing answers it is taken for this host's own network: no server is
// taken out, and all go on when it is over.
func TestOwnNetworkFault(t *testing.T) {
	cluster := startBalanced(t, sandbox.Options{})
	b := proxyFor(t, cluster, ", timeout: 300ms", "")
	all := []string{"db1", "r1", "r2"}
	for _, s := range all {
		if err := cluster.Pause(s); err != nil {
			t.Fatal(err)
		}
	}
	b.until(t, "it says so", func(s *statusOf) bool { return s.OwnFault })
	wait(t, 2*time.Second) // long enough for three probes of each
	s, err := b.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range s.Servers {
		if v.Role == "replica" && !v.Up {
			t.Errorf("%s was taken out: %s", v.Name, v.Reason)
		}
	}
	for _, s := range all {
		if err := cluster.Resume(s); err != nil {
			t.Fatal(err)
		}
	}
	b.until(t, "it is over", func(s *statusOf) bool { return !s.OwnFault && s.Authority.Writer == "db1" })
	if got := b.portOf(t, "SELECT @@port"); got == cluster.Port("db1") {
		t.Error("the replicas are not used")
	}
	if n := b.count(t, "network", ""); n != 2 {
		t.Errorf("%d events about the network, want its begin and its end", n)
	}
}

// reads.primary: with always the primary has its share, with never it serves no
// read even when no replica can.
func TestPrimaryShare(t *testing.T) {
	cluster := startBalanced(t, sandbox.Options{})
	b := proxyFor(t, cluster, "", "reads: {primary: always, balance: weighted}\n")
	tr := b.traffic(t, 4, time.Millisecond, pointRead)
	wait(t, time.Second)
	line, _, _ := b.window(t, tr, 2*time.Second)
	tr.end()
	t.Log("always: ", line)
	counts := make(map[int]int)
	for range 60 {
		counts[b.portOf(t, "SELECT @@port")]++
	}
	for _, s := range []string{"db1", "r1", "r2"} {
		if n := counts[cluster.Port(s)]; n < 5 || n > 40 {
			t.Errorf("%s served %d of 60 reads, want about 20", s, n)
		}
	}
	b.process.end()
	b = proxyFor(t, cluster, "", "reads: {primary: never, primary_wait: 500ms}\n")
	cluster.Kill("r1")
	cluster.Kill("r2")
	b.untilUp(t, "r1", false)
	b.untilUp(t, "r2", false)
	var port int
	err := b.db.QueryRowContext(t.Context(), "SELECT @@port").Scan(&port)
	if code(err) != 1040 || !strings.Contains(err.Error(), "reads.primary is never") {
		t.Errorf("with never and no replica: port %d, %v", port, err)
	}
	if _, err := b.db.ExecContext(t.Context(), "UPDATE b SET v = 3 WHERE id = 2"); err != nil {
		t.Errorf("a write: %v", err)
	}
	if got := b.portOf(t, "/* signalbox: primary */ SELECT @@port"); got != cluster.Port("db1") {
		t.Errorf("a hint reads from port %d", got)
	}
}
