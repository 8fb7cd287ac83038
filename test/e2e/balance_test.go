package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"signalbox/internal/sandbox"
)

// balanced is a sandbox with proxies started in front of it one after another.
type balanced struct {
	*sandbox.Cluster
	*child
	db   *sql.DB
	file string // the proxy's configuration
}

func startBalanced(t *testing.T, o sandbox.Options) *sandbox.Cluster {
	t.Helper()
	notShort(t)
	cluster, err := sandbox.Start(t.Context(), o)
	if err != nil {
		absent(t, "sandbox", err)
	}
	t.Cleanup(cluster.Stop)
	db := openAt(t, fmt.Sprintf("127.0.0.1:%d", cluster.Port("db1")))
	for _, s := range []string{"CREATE TABLE b (id INT PRIMARY KEY, v INT)", "INSERT INTO b VALUES (1, 1), (2, 2)"} {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if err := cluster.CaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	return cluster
}

func openAt(t *testing.T, address string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", sandbox.DSN(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// proxyFor starts the program in front of the cluster until the test ends. health
// and more are added to the configuration.
func proxyFor(t *testing.T, c *sandbox.Cluster, health, more string) *balanced {
	t.Helper()
	binary, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	b := &balanced{Cluster: c, file: filepath.Join(t.TempDir(), "signalbox.yaml")}
	text := strings.Replace(c.Config(), "interval: 200ms}", "interval: 200ms"+health+"}", 1) + more
	if err := os.WriteFile(b.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.child = spawn(t, "signalbox", binary, "run", "-c", b.file)
	b.db = openAt(t, c.Endpoint())
	b.db.SetMaxIdleConns(100)
	b.child.await(t, func(ctx context.Context) error {
		s, err := b.status(ctx)
		if err == nil && s.Authority.Writer == "" {
			err = errors.New("nobody may take writes")
		}
		for _, v := range s.Servers {
			if v.Role == "replica" && (!v.Up || v.Lag == nil) {
				err = fmt.Errorf("replica %s is not ready", v.Name)
			}
		}
		return err
	})
	return b
}

type statusOf struct {
	Authority struct{ Writer, Reason string }
	Servers   []struct {
		Name, Role, Mode, Reason string
		Up                       bool
		Lag                      *float64 `json:"lag_seconds"`
		Statements               uint64
		Connections              int
	}
	OwnFault bool `json:"own_network_fault"`
	Events   []struct {
		Seq                uint64
		Kind, Server, Text string
	}
}

func (b *balanced) status(ctx context.Context) (s statusOf, err error) {
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+b.Admin()+"/status", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// until waits for a server to be as said.
func (b *balanced) until(t *testing.T, what string, is func(s *statusOf) bool) {
	t.Helper()
	b.child.await(t, func(ctx context.Context) error {
		s, err := b.status(ctx)
		if err == nil && !is(&s) {
			err = fmt.Errorf("not yet: %s: %+v", what, s.Servers)
		}
		return err
	})
}

func (b *balanced) untilUp(t *testing.T, server string, up bool) {
	t.Helper()
	b.until(t, fmt.Sprintf("%s up %v", server, up), func(s *statusOf) bool {
		for _, v := range s.Servers {
			if v.Name == server {
				return v.Up == up && (!up || v.Lag != nil)
			}
		}
		return false
	})
}

// traffic is clients that run one statement again and again until it is stopped.
type traffic struct {
	stop  context.CancelFunc
	group sync.WaitGroup

	mu   sync.Mutex
	took []time.Duration // since the last lap
	errs []error
}

// traffic starts it. think is the pause between two statements of a client.
func (b *balanced) traffic(t *testing.T, clients int, think time.Duration, statement func(n int) string) *traffic {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	tr := &traffic{stop: stop}
	for c := range clients {
		tr.group.Go(func() {
			conn, err := b.db.Conn(ctx)
			if err != nil {
				return
			}
			defer conn.Close()
			for n := c; ctx.Err() == nil; n += clients {
				tr.once(conn, statement(n))
				pause := time.NewTimer(think)
				select {
				case <-ctx.Done():
				case <-pause.C:
				}
				pause.Stop()
			}
		})
	}
	t.Cleanup(tr.end)
	return tr
}

func (tr *traffic) once(conn *sql.Conn, statement string) {
	at := time.Now()
	_, err := conn.ExecContext(context.Background(), statement)
	took := time.Since(at)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.took = append(tr.took, took)
	if err != nil {
		tr.errs = append(tr.errs, err)
	}
}

func (tr *traffic) end() {
	tr.stop()
	tr.group.Wait()
}

// lap returns what there was since the last lap.
func (tr *traffic) lap() (took []time.Duration, errs []error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	took, errs = tr.took, tr.errs
	tr.took, tr.errs = nil, nil
	slices.Sort(took)
	return took, errs
}

func at(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)*percent/100].Round(10 * time.Microsecond)
}

// window measures for a while and returns a line of the table, the p99 and how
// many statements failed.
func (b *balanced) window(t *testing.T, tr *traffic, d time.Duration) (line string, p99 time.Duration, failed int) {
	t.Helper()
	before, err := b.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, early := tr.lap()
	wait(t, d)
	took, errs := tr.lap()
	after, err := b.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	total, shares := 0.0, ""
	for i := range after.Servers {
		total += float64(after.Servers[i].Statements - before.Servers[i].Statements)
	}
	for i, v := range after.Servers {
		if n := float64(v.Statements - before.Servers[i].Statements); v.Role == "replica" || n > 0 {
			shares += fmt.Sprintf("  %s %3.0f %%", v.Name, 100*n/max(total, 1))
		}
	}
	errs = append(early, errs...)
	for i, err := range errs {
		if i < 3 {
			t.Errorf("a statement failed: %v", err)
		}
	}
	return fmt.Sprintf("%6d reads  p50 %-8v p99 %-9v%s  failed %d", len(took), at(took, 50), at(took, 99), shares, len(errs)), at(took, 99), len(errs)
}

func wait(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

func pointRead(n int) string { return fmt.Sprintf("SELECT v FROM b WHERE id = %d", n%2+1) }

// What each policy makes of a replica that is slowed by 20 ms, one that stalls
// and one that is restarted: with least-time no read waits for it once it is
// known, and with none does a read fail.
func TestBalancePolicies(t *testing.T) {
	cluster := startBalanced(t, sandbox.Options{Replicas: 3, Distant: true})
	const measured = 3 * time.Second
	for _, policy := range []string{"least-time", "least-connections", "weighted", "first"} {
		t.Run(policy, func(t *testing.T) {
			b := proxyFor(t, cluster, ", timeout: 1s", fmt.Sprintf("reads: {balance: %s, slow_start: 2s}\n", policy))
			tr := b.traffic(t, 12, 3*time.Millisecond, pointRead)
			wait(t, time.Second)
			show := func(name string) (time.Duration, int) {
				line, p99, failed := b.window(t, tr, measured)
				t.Logf("%-17s %-22s %s", policy, name, line)
				return p99, failed
			}
			healthy, failed := show("healthy")
			cluster.Delay("r1", 20*time.Millisecond)
			wait(t, time.Second)
			slowed, n := show("r1 slowed by 20 ms")
			failed += n
			cluster.Delay("r1", 0)
			if err := cluster.Pause("r1"); err != nil {
				t.Fatal(err)
			}
			since := time.Now()
			_, early := tr.lap()
			b.untilUp(t, "r1", false)
			noticed := time.Since(since)
			took, errs := tr.lap()
			failed += len(early) + len(errs)
			t.Logf("%-17s r1 was taken out %v after it stalled; of %d reads until then p99 %v", policy, noticed.Round(10*time.Millisecond), len(took), at(took, 99))
			stalled, n := show("r1 stalled")
			failed += n
			if err := cluster.Resume("r1"); err != nil {
				t.Fatal(err)
			}
			b.untilUp(t, "r1", true)
			cluster.Kill("r2")
			_, n = show("r2 killed")
			failed += n
			if err := cluster.Restart(t.Context(), "r2"); err != nil {
				t.Fatal(err)
			}
			b.untilUp(t, "r2", true)
			_, n = show("r2 just back")
			failed += n
			_, n = show("r2 back")
			failed += n
			if failed > 0 {
				t.Errorf("%d reads failed", failed)
			}
			if policy != "least-time" {
				return
			}
			t.Logf("least-time: p99 slowed / healthy %.2f, stalled / healthy %.2f", float64(slowed)/float64(healthy), float64(stalled)/float64(healthy))
			// 1.5 on a quiet machine; 20 ms would be far more than this on any.
			if bound := max(3*healthy, 12*time.Millisecond); slowed > bound || stalled > bound {
				t.Errorf("p99 %v slowed and %v stalled, healthy %v", slowed, stalled, healthy)
			}
		})
	}
}

// With every replica gone reads go on at the primary up to the cap, wait beyond
// it, and get a clear error when the wait is over. Writes go on.
func TestReadsWithoutReplicas(t *testing.T) {
	cluster := startBalanced(t, sandbox.Options{})
	b := proxyFor(t, cluster, ", timeout: 1s", "reads: {primary_cap: 4, primary_wait: 1s, slow_start: 0}\n")
	writes := b.traffic(t, 1, 2*time.Millisecond, func(n int) string { return fmt.Sprintf("UPDATE b SET v = %d WHERE id = 1", n) })
	reads := b.traffic(t, 16, 5*time.Millisecond, func(int) string { return "SELECT SLEEP(0.01)" })
	lap := func(name string, d time.Duration) (readErrs []error) {
		reads.lap()
		writes.lap()
		wait(t, d)
		rt, readErrs := reads.lap()
		wt, we := writes.lap()
		t.Logf("%-34s reads %5d p50 %-8v p99 %-9v failed %-3d  writes %5d p50 %-8v p99 %-9v failed %d", name, len(rt), at(rt, 50), at(rt, 99),
			len(readErrs), len(wt), at(wt, 50), at(wt, 99), len(we))
		if len(we) > 0 {
			t.Errorf("%s: a write failed: %v", name, we[0])
		}
		return readErrs
	}
	wait(t, time.Second)
	for _, err := range lap("both replicas", 2*time.Second) {
		t.Error(err)
	}
	cluster.Kill("r1")
	cluster.Kill("r2")
	b.untilUp(t, "r1", false)
	b.untilUp(t, "r2", false)
	for _, err := range lap("none, 16 readers of 10 ms, cap 4", 2*time.Second) {
		t.Errorf("a read failed that should only wait: %v", err)
	}
	reads.end()
	reads = b.traffic(t, 16, 0, func(int) string { return "SELECT SLEEP(1)" })
	most := watchSleepers(t, cluster)
	errs := lap("none, 16 readers of 1 s, cap 4", 4*time.Second)
	if n := most(); n > 4 || n == 0 {
		t.Errorf("%d reads ran at once on the primary, reads.primary_cap is 4", n)
	}
	if len(errs) == 0 {
		t.Error("no read was refused although four times as many come as can run")
	}
	for i, err := range errs {
		if code(err) != 1040 || !strings.Contains(err.Error(), "reads.primary_cap") {
			t.Errorf("an unclear error: %v", err)
		}
		if i == 0 {
			t.Log("the error:", err)
		}
	}
	reads.end()
	if err := cluster.Restart(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	b.until(t, "r1 serves", func(*statusOf) bool { return b.portOf(t, "SELECT @@port") == cluster.Port("r1") })
	reads = b.traffic(t, 16, 5*time.Millisecond, func(int) string { return "SELECT SLEEP(0.01)" })
	for _, err := range lap("one is back", 2*time.Second) {
		t.Error(err)
	}
}

// watchSleepers counts, until the function it returns is called, how many
// SLEEP reads run at once on the primary.
func watchSleepers(t *testing.T, c *sandbox.Cluster) (most func() int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	max, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
			n := 0
			if c.Query(ctx, c.Active(), "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'SELECT SLEEP(1)'", &n) == nil && n > max {
				max = n
			}
		}
	}()
	return func() int {
		stop()
		<-done
		return max
	}
}

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
	b.child.await(t, func(ctx context.Context) error {
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
	worst := 0.0
	for range 20 { // a second behind, a second not
		do("LOCK TABLES heartbeat READ")
		wait(t, time.Second)
		worst = max(worst, lag())
		do("UNLOCK TABLES")
		wait(t, time.Second)
	}
	changes := b.count(t, "lag", "r1")
	t.Logf("20 swings up to %.3f s around a max_lag of 0.5 s: %d changes of state", worst, changes)
	if worst < 0.5 || worst == float64(int(worst)) {
		t.Errorf("lag was at most %v s: the heartbeat does not tell it", worst)
	}
	if changes == 0 || changes >= 5 {
		t.Errorf("%d changes of state in 20 swings", changes)
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
	b.child.end()
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
