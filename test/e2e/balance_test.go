package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
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
	*process
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
	b.process = spawn(t, "signalbox", binary, "run", "-c", b.file)
	b.db = openAt(t, c.Endpoint())
	b.db.SetMaxIdleConns(100)
	b.process.await(t, func(ctx context.Context) error {
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
	b.process.await(t, func(ctx context.Context) error {
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
	const measured = 2 * time.Second
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
