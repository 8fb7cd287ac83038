package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signalbox/internal/sandbox"
)

// startWithAgents is startFront with an agent beside each node, which the proxy
// hears and the cluster manager tells.
func startWithAgents(t *testing.T, options sandbox.Options, more string) (f *front, notify func(action, node string) error) {
	t.Helper()
	notShort(t)
	cluster, err := sandbox.Start(t.Context(), options)
	if err != nil {
		absent(t, "sandbox", err)
	}
	t.Cleanup(cluster.Stop)
	binary, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	dir, addresses, files := t.TempDir(), make(map[string]string), make(map[string]string)
	for _, node := range []string{"db1", "db2"} {
		addresses[node] = "127.0.0.1:" + freePort(t)
		files[node] = filepath.Join(dir, node+".yaml")
		if err := os.WriteFile(files[node], []byte(cluster.AgentConfig(node, addresses[node])), 0o600); err != nil {
			t.Fatal(err)
		}
		agent := spawn(t, "agent of "+node, binary, "agent", "-c", files[node])
		agent.await(t, func(ctx context.Context) error {
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addresses[node]+"/healthz", nil)
			resp, err := http.DefaultClient.Do(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			return err
		})
	}
	file := filepath.Join(dir, "signalbox.yaml")
	if err := os.WriteFile(file, []byte(cluster.ConfigAgents(addresses)+more), 0o600); err != nil {
		t.Fatal(err)
	}
	f = &front{Cluster: cluster, process: spawn(t, "signalbox", binary, "run", "-c", file)}
	if f.db, err = sql.Open("mysql", sandbox.DSN(cluster.Endpoint())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.db.Close() })
	f.awaitReason(t, "healthy")
	return f, func(action, node string) error {
		out, err := exec.CommandContext(t.Context(), binary, "notify", "-c", files[node], action, node).CombinedOutput()
		if err != nil {
			return fmt.Errorf("signalbox notify %s %s: %w: %s", action, node, err, out)
		}
		return nil
	}
}

// load is clients that write and read one statement at a time.
type load struct {
	acknowledged []atomic.Int64 // last id each client was acknowledged
	reads        atomic.Int64
	mu           sync.Mutex
	errs         []error
	writes       []span
}

// span is one write, from its start to its answer.
type span struct{ from, to time.Time }

const loadClients = 32

// run starts the clients; they end with ctx.
func (l *load) run(ctx context.Context, t *testing.T, db *sql.DB, group *sync.WaitGroup) {
	l.acknowledged = make([]atomic.Int64, loadClients)
	for c := range loadClients {
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			defer conn.Close()
			for id := int64(1); ctx.Err() == nil; id++ {
				s := span{from: time.Now()}
				_, err := conn.ExecContext(t.Context(), "INSERT INTO load_test VALUES (?,?)", c, id)
				s.to = time.Now()
				var seen int64
				if err == nil {
					l.acknowledged[c].Store(id)
					err = conn.QueryRowContext(t.Context(), "SELECT MAX(id) FROM load_test WHERE client=?", c).Scan(&seen)
				}
				if err == nil && seen != id {
					err = fmt.Errorf("client %d wrote %d and reads %d", c, id, seen)
				}
				l.reads.Add(1)
				l.mu.Lock()
				l.writes = append(l.writes, s)
				if err != nil {
					l.errs = append(l.errs, err)
				}
				l.mu.Unlock()
			}
		})
	}
}

// pause is the longest time in [from, now] in which no write began and ended:
// what a client that arrives at the worst moment waits.
func (l *load) pause(from time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var longest time.Duration
	for i := len(l.writes) - 1; i >= 0 && l.writes[i].to.After(from); i-- {
		longest = max(longest, l.writes[i].to.Sub(l.writes[i].from))
	}
	return longest
}

// progress waits until every client has written again.
func (l *load) progress(t *testing.T, f *front) {
	t.Helper()
	mark := make([]int64, loadClients)
	for c := range mark {
		mark[c] = l.acknowledged[c].Load()
	}
	f.until(t, func() bool {
		for c := range mark {
			if l.acknowledged[c].Load() < mark[c]+2 {
				return false
			}
		}
		return true
	})
}

// Planned switchovers that the cluster manager announces are a pause and no
// error, to 32 clients of autocommit writes and reads.
func TestTwentySwitchoversWithoutAnError(t *testing.T) {
	f, notify := startWithAgents(t, sandbox.Options{}, "")
	ctx := t.Context()
	if _, err := f.db.ExecContext(ctx, "CREATE TABLE load_test (client INT, id BIGINT, PRIMARY KEY (client, id))"); err != nil {
		t.Fatal(err)
	}
	f.db.SetMaxOpenConns(loadClients + 1)
	var l load
	var group sync.WaitGroup
	loading, stop := context.WithCancel(ctx)
	defer group.Wait()
	defer stop()
	l.run(loading, t, f.db, &group)
	l.progress(t, f)
	const switchovers = 20
	var pauses, database, added []time.Duration
	for range switchovers {
		from := time.Now()
		p, err := f.Switchover(ctx, func(node string) error { return notify("demote", node) })
		if err != nil {
			t.Fatal(err)
		}
		l.progress(t, f)
		pause, own := l.pause(from), p.Stop+p.Promote+p.Start
		pauses, database, added = append(pauses, pause), append(database, own), append(added, max(0, pause-own))
	}
	stop()
	group.Wait()
	t.Logf("%d switchovers, %d clients, %d writes, %d errors", switchovers, loadClients, len(l.writes), len(l.errs))
	t.Logf("pause            %s", quantiles(pauses))
	t.Logf("  the database   %s", quantiles(database))
	t.Logf("  Signalbox      %s", quantiles(added))
	for i, err := range l.errs[:min(len(l.errs), 5)] {
		t.Errorf("error %d of %d: %v", i+1, len(l.errs), err)
	}
	var rows, want int64
	for c := range l.acknowledged {
		want += l.acknowledged[c].Load()
	}
	if err := f.Query(ctx, f.Active(), "SELECT COUNT(*) FROM shop.load_test", &rows); err != nil || rows != want {
		t.Errorf("%d rows, %d were acknowledged (%v)", rows, want, err)
	}
}

func quantiles(list []time.Duration) string {
	sorted := slices.Sorted(slices.Values(list))
	at := func(q float64) time.Duration {
		return sorted[int(q*float64(len(sorted)-1)+0.5)].Round(time.Millisecond)
	}
	return fmt.Sprintf("p50 %s  p99 %s  max %s", at(0.5), at(0.99), at(1))
}

// A demotion that is announced lets an open transaction end, and keeps a new one
// waiting for the other node.
func TestAnnouncedDemotionLetsTransactionsEnd(t *testing.T) {
	f, notify := startWithAgents(t, sandbox.Options{}, "")
	ctx := t.Context()
	if _, err := f.db.ExecContext(ctx, "CREATE TABLE tx (id INT PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	open, err := f.db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.ExecContext(ctx, "INSERT INTO tx VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	moved := make(chan error, 1)
	go func() {
		_, err := f.Switchover(ctx, func(node string) error { return notify("demote", node) })
		moved <- err
	}()
	f.awaitAuthority(t, "demoting")
	late := make(chan error, 1)
	go func() { _, err := f.db.ExecContext(ctx, "INSERT INTO tx VALUES (2)"); late <- err }()
	f.awaitWaiting(t, 1)
	if _, err := open.ExecContext(ctx, "INSERT INTO tx VALUES (3)"); err != nil {
		t.Errorf("a statement of the open transaction: %v", err)
	}
	if err := open.Commit(); err != nil {
		t.Errorf("the open transaction's commit: %v", err)
	}
	if err := <-moved; err != nil {
		t.Fatal(err)
	}
	if err := <-late; err != nil {
		t.Errorf("the write that waited: %v", err)
	}
	var ids string
	if err := f.Query(ctx, "db2", "SELECT GROUP_CONCAT(id ORDER BY id) FROM shop.tx", &ids); err != nil || ids != "1,2,3" {
		t.Errorf("rows %s (%v)", ids, err)
	}
}

// awaitAuthority waits for a reason on the status page, whatever the replicas do.
func (f *front) awaitAuthority(t *testing.T, reason string) {
	t.Helper()
	f.await(t, func(ctx context.Context) error {
		s, err := f.status(ctx)
		if err == nil && s.Authority.Reason != reason {
			err = fmt.Errorf("authority is %s, want %s", s.Authority.Reason, reason)
		}
		return err
	})
}

// awaitWaiting waits until so many statements wait for a primary.
func (f *front) awaitWaiting(t *testing.T, n int) {
	t.Helper()
	f.await(t, func(ctx context.Context) error {
		s, err := f.status(ctx)
		if err == nil && s.Waiting != n {
			err = fmt.Errorf("%d statements wait, not %d", s.Waiting, n)
		}
		return err
	})
}
