package e2e

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	pairs    = flag.Int64("pairs", 20000, "write-then-read pairs of TestStaleness")
	pairsFor = flag.Duration("pairs-for", time.Hour, "when TestStaleness stops even if -pairs are not done")
)

// A staleness run has this many clients, every other one with prepared statements.
const staleClients = 24

// staleness counts what the clients of a run met.
type staleness struct {
	done, stale, onReplica, failed atomic.Int64
	prepared                       atomic.Int64 // of done
	pause                          sync.RWMutex // held while replicas catch up: else they never would
	first                          sync.Once
	example                        string
}

// pairsOf is one client: it writes a number and must read it.
func (r *staleness) pairsOf(ctx context.Context, t *testing.T, db *sql.DB, client int, more func() bool) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	write, read := "UPDATE stale SET v=%d WHERE client=%d", "SELECT v, @@server_id FROM stale WHERE client=%d"
	var ps [2]*sql.Stmt
	for i, text := range []string{"UPDATE stale SET v=? WHERE client=?", "SELECT v, @@server_id FROM stale WHERE client=?"} {
		if ps[i], err = conn.PrepareContext(ctx, text); err != nil {
			return err
		}
		defer ps[i].Close()
	}
	for n := int64(1); more(); n++ {
		r.pause.RLock()
		//lint:ignore SA2001 only to wait
		r.pause.RUnlock()
		var seen int64
		var server int
		for {
			if client%2 == 0 {
				_, err = conn.ExecContext(ctx, fmt.Sprintf(write, n, client))
			} else {
				_, err = ps[0].ExecContext(ctx, n, client)
			}
			if err == nil {
				break
			}
			if r.failed.Add(1); ctx.Err() != nil || conn.PingContext(ctx) != nil {
				return err
			}
		}
		for {
			if client%2 == 0 {
				err = conn.QueryRowContext(ctx, fmt.Sprintf(read, client)).Scan(&seen, &server)
			} else {
				err = ps[1].QueryRowContext(ctx, client).Scan(&seen, &server)
			}
			if err == nil {
				break
			}
			if r.failed.Add(1); ctx.Err() != nil || conn.PingContext(ctx) != nil {
				return err
			}
		}
		r.count(client, n, seen, server)
	}
	return nil
}

func (r *staleness) count(client int, wrote, seen int64, server int) {
	r.done.Add(1)
	r.prepared.Add(int64(client % 2))
	if server != 1 {
		r.onReplica.Add(1)
	}
	if wrote != seen {
		r.stale.Add(1)
		r.first.Do(func() {
			r.example = fmt.Sprintf("client %d wrote %d and read %d on server %d", client, wrote, seen, server)
		})
	}
}

// disturb delays replicas and stops their applying, at random, until ctx ends;
// then they are as before.
func (f *front) disturb(ctx context.Context, t *testing.T, r *staleness) {
	random := rand.New(rand.NewPCG(1, 2))
	exec := func(server string, statements ...string) {
		if err := f.Exec(context.WithoutCancel(ctx), server, statements...); err != nil {
			t.Errorf("disturb %s: %v", server, err)
		}
	}
	sleep := func(most time.Duration) {
		pause := time.NewTimer(time.Duration(random.Int64N(int64(most))))
		defer pause.Stop()
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
	for ctx.Err() == nil {
		replica := f.replicas()[random.IntN(2)]
		if random.IntN(4) == 0 {
			exec(replica, f.ApplyLater(1)...)
			sleep(2 * time.Second)
			exec(replica, f.ApplyLater(0)...)
		} else {
			exec(replica, f.Applying(false))
			sleep(700 * time.Millisecond)
			exec(replica, f.Applying(true))
		}
		sleep(time.Second)
		r.pause.Lock()
		_ = f.CaughtUp(ctx) // fails while the primary moves
		r.pause.Unlock()
		sleep(3 * time.Second)
	}
}

// relaxed makes a server's commits cheap: durability is not what this is about.
func (f *front) relaxed(t *testing.T, servers ...string) {
	t.Helper()
	for _, server := range servers {
		if err := f.Exec(t.Context(), server, "SET GLOBAL innodb_flush_log_at_trx_commit=2", "SET GLOBAL sync_binlog=0"); err != nil {
			t.Fatal(err)
		}
	}
}

// metrics are what Prometheus would get.
func (f *front) metrics(t *testing.T) string {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+f.Admin()+"/metrics", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// consistencyCounts is the metric that says how reads were made sure of.
func (f *front) consistencyCounts(t *testing.T) string {
	t.Helper()
	text := f.metrics(t)
	var list []string
	for line := range strings.SplitSeq(text, "\n") {
		if rest, ok := strings.CutPrefix(line, "signalbox_consistency_"); ok {
			list = append(list, rest)
		}
	}
	return strings.Join(list, ", ")
}

// No session ever misses its own write, whatever the replicas do and across
// switchovers; replicas still serve. A million pairs: make staleness.
func TestStaleness(t *testing.T) {
	f := startFront(t, "")
	ctx := t.Context()
	if _, err := f.db.ExecContext(ctx, "CREATE TABLE stale (client INT PRIMARY KEY, v BIGINT NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	for c := range staleClients {
		if _, err := f.db.ExecContext(ctx, "INSERT INTO stale VALUES (?,0)", c); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	f.relaxed(t, "db1", "r1", "r2")
	f.db.SetMaxOpenConns(staleClients)
	var r staleness
	began := time.Now()
	more := func() bool { return r.done.Load() < *pairs && time.Since(began) < *pairsFor && ctx.Err() == nil }
	var clients, others sync.WaitGroup
	disturbing, stop := context.WithCancel(ctx)
	others.Go(func() { f.disturb(disturbing, t, &r) })
	for c := range staleClients {
		clients.Go(func() {
			for more() {
				if err := r.pairsOf(ctx, t, f.db, c, more); err != nil && ctx.Err() == nil && r.failed.Load() > 10000 {
					t.Errorf("client %d: %v", c, err)
					return
				}
			}
		})
	}
	f.switchovers(t, &r, more)
	clients.Wait()
	stop()
	others.Wait()
	done, took := r.done.Load(), time.Since(began)
	t.Logf("%d pairs (%d prepared) in %s, %.0f/s: %d stale; replicas served %.1f %% of the reads; %d statements failed and were repeated",
		done, r.prepared.Load(), took.Round(time.Second), float64(done)/took.Seconds(), r.stale.Load(), 100*float64(r.onReplica.Load())/float64(done), r.failed.Load())
	t.Log(f.consistencyCounts(t))
	if r.stale.Load() > 0 {
		t.Errorf("stale: %s", r.example)
	}
	if r.onReplica.Load() == 0 {
		t.Error("no read ran on a replica: nothing is proven")
	}
}

// switchovers moves the primary after each quarter of the pairs.
func (f *front) switchovers(t *testing.T, r *staleness, more func() bool) {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for quarter := int64(1); quarter < 4; {
		if !more() {
			break
		}
		<-look.C
		if r.done.Load() < *pairs*quarter/4 {
			continue
		}
		quarter++
		if _, err := f.Switchover(t.Context(), nil); err != nil {
			t.Errorf("switchover: %v", err)
			return
		}
		f.relaxed(t, f.Active())
		t.Logf("switched over to %s after %d pairs, %d stale", f.Active(), r.done.Load(), r.stale.Load())
	}
}
