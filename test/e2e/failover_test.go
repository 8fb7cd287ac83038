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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"signalbox/internal/sandbox"
)

// front is a sandbox with the program in front of it.
type front struct {
	*sandbox.Cluster
	*process
	db *sql.DB // through the proxy
}

// startFront starts a sandbox and the program, with more configuration if any.
func startFront(t *testing.T, more string) *front {
	t.Helper()
	notShort(t)
	cluster, err := sandbox.Start(t.Context(), sandbox.Options{GeneralLog: true})
	if err != nil {
		absent(t, "sandbox", err)
	}
	t.Cleanup(cluster.Stop)
	binary, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "signalbox.yaml")
	if err := os.WriteFile(file, []byte(cluster.Config()+more), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &front{Cluster: cluster, process: spawn(t, "signalbox", binary, "run", "-c", file)}
	if f.db, err = sql.Open("mysql", sandbox.DSN(cluster.Endpoint())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.db.Close() })
	f.awaitReason(t, "healthy")
	return f
}

// status is /status of the program.
func (f *front) status(ctx context.Context) (s struct {
	Authority struct{ Writer, Reason, Sentence string }
	Waiting   int
	Servers   []struct {
		Name string
		Up   bool
		Lag  *float64 `json:"lag_seconds"`
	}
}, err error) {
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+f.Admin()+"/status", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// awaitReason waits until the status page gives the reason, and both replicas
// may serve.
func (f *front) awaitReason(t *testing.T, reason string) {
	t.Helper()
	f.await(t, func(ctx context.Context) error {
		s, err := f.status(ctx)
		if err != nil {
			return err
		}
		if s.Authority.Reason != reason {
			return fmt.Errorf("authority is %s, want %s", s.Authority.Reason, reason)
		}
		for _, v := range s.Servers {
			if strings.HasPrefix(v.Name, "r") && (!v.Up || v.Lag == nil) {
				return fmt.Errorf("replica %s is not ready", v.Name)
			}
		}
		return nil
	})
}

func code(err error) uint16 {
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return my.Number
	}
	return 0
}

// After a switchover no statement ever runs on the old node: its general log
// proves it. The writes follow, and none that was acknowledged is lost.
func TestWritesFollowTheSwitchover(t *testing.T) {
	f := startFront(t, "")
	ctx := t.Context()
	if _, err := f.db.ExecContext(ctx, "CREATE TABLE w (id INT PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	acknowledged := make(map[int]bool)
	unknown := 0
	writing, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for id := w; writing.Err() == nil; id += 4 {
				_, err := f.db.ExecContext(ctx, "INSERT INTO w VALUES (?)", id)
				mu.Lock()
				if err == nil {
					acknowledged[id] = true
				} else {
					unknown++
					t.Logf("write %d: %v", id, err)
				}
				mu.Unlock()
			}
		})
	}
	f.until(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(acknowledged) > 50 })
	if _, err := f.Switchover(ctx, nil); err != nil {
		t.Fatal(err)
	}
	before, err := f.GeneralLog("db1")
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	mark := len(acknowledged)
	mu.Unlock()
	f.until(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(acknowledged) > mark+50 })
	stop()
	group.Wait()
	if after, err := f.GeneralLog("db1"); err != nil || after != before {
		t.Errorf("statements reached db1 after it was demoted (%v): %s", err, strings.TrimPrefix(after, before))
	}
	if unknown > 4 {
		t.Errorf("%d writes failed; at most the one in flight of each of 4 clients may", unknown)
	}
	missing := 0
	for id := range acknowledged {
		var n int
		if err := f.Query(ctx, "db2", fmt.Sprintf("SELECT COUNT(*) FROM shop.w WHERE id=%d", id), &n); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d acknowledged writes are not on db2", missing, len(acknowledged))
	}
}

// until waits for a condition.
func (f *front) until(t *testing.T, ok func() bool) {
	t.Helper()
	f.await(t, func(context.Context) error {
		if ok() {
			return nil
		}
		return errors.New("condition is not met")
	})
}

// A write while both nodes claim to be Primary gets the error and runs nowhere;
// reads go on; the session lives.
func TestSplitBrainStopsWritesOnly(t *testing.T) {
	f := startFront(t, "hold: {timeout: 300ms}\n")
	ctx := t.Context()
	conn, err := f.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "CREATE TABLE s (id INT PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	if err := f.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	f.until(t, func() bool { return f.port(t, conn) == f.Port("r1") || f.port(t, conn) == f.Port("r2") })
	f.SplitBrain()
	f.awaitReason(t, "split-brain")
	_, err = conn.ExecContext(ctx, "INSERT INTO s VALUES (1)")
	if code(err) != 1290 || !strings.Contains(err.Error(), "split brain") {
		t.Errorf("write during split brain: %v, want error 1290 with the reason", err)
	}
	var n int
	if err := conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM s").Scan(&n); err != nil || n != 0 {
		t.Errorf("read during split brain: %d, %v", n, err)
	}
	f.Heal()
	f.awaitReason(t, "healthy")
	if _, err := conn.ExecContext(ctx, "INSERT INTO s VALUES (2)"); err != nil {
		t.Errorf("write after healing, same session: %v", err)
	}
	log, err := f.GeneralLog("db1")
	if err != nil || strings.Contains(log, "VALUES (1)") {
		t.Errorf("the write ran although nobody was in authority (%v)", err)
	}
}

func (f *front) port(t *testing.T, conn *sql.Conn) (port int) {
	t.Helper()
	if err := conn.QueryRowContext(t.Context(), "SELECT @@port").Scan(&port); err != nil {
		t.Fatal(err)
	}
	return port
}

// A transaction that is open when the writer changes gets a deadlock-class
// error, which clients restart; the session goes on.
func TestOpenTransactionGetsDeadlock(t *testing.T) {
	f := startFront(t, "")
	ctx := t.Context()
	conn, err := f.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, s := range []string{"CREATE TABLE x (id INT PRIMARY KEY)", "BEGIN", "INSERT INTO x VALUES (1)"} {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Switchover(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(ctx, "INSERT INTO x VALUES (2)"); code(err) != 1213 {
		t.Fatalf("statement in the lost transaction: %v, want 1213", err)
	}
	for _, s := range []string{"BEGIN", "INSERT INTO x VALUES (3)", "COMMIT"} {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	var n int
	if err := f.Query(ctx, "db2", "SELECT SUM(id) FROM shop.x", &n); err != nil || n != 3 {
		t.Fatalf("sum %d, want 3 (%v)", n, err)
	}
}

// A session always reads its own writes, however far the replicas are behind.
func TestReadsOwnWrites(t *testing.T) {
	f := startFront(t, "")
	ctx := t.Context()
	if _, err := f.db.ExecContext(ctx, "CREATE TABLE o (id INT PRIMARY KEY, v INT)"); err != nil {
		t.Fatal(err)
	}
	if err := f.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{"r1", "r2"} {
		if err := f.Exec(ctx, r, "STOP SLAVE SQL_THREAD"); err != nil {
			t.Fatal(err)
		}
	}
	var group sync.WaitGroup
	for c := range 8 {
		group.Go(func() {
			conn, err := f.db.Conn(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for i := range 200 {
				if _, err := conn.ExecContext(ctx, "REPLACE INTO o VALUES (?, ?)", c, i); err != nil {
					t.Error(err)
					return
				}
				var v int
				if err := conn.QueryRowContext(ctx, "SELECT v FROM o WHERE id = ?", c).Scan(&v); err != nil || v != i {
					t.Errorf("client %d wrote %d and read %d (%v)", c, i, v, err)
					return
				}
				if i == 100 && c == 0 {
					_ = f.Exec(ctx, "r1", "START SLAVE")
				}
			}
		})
	}
	group.Wait()
}

// Session variables, the schema and the character set follow the session to
// every server it uses.
func TestSessionStateFollows(t *testing.T) {
	f := startFront(t, "")
	ctx := t.Context()
	conn, err := f.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	seen := make(map[int]bool)
	for i := range 60 {
		zone := fmt.Sprintf("+0%d:00", i%10)
		if _, err := conn.ExecContext(ctx, "SET time_zone = '"+zone+"', sql_mode = 'ANSI_QUOTES'"); err != nil {
			t.Fatal(err)
		}
		var port int
		var gotZone, mode, schema string
		hint := []string{"/* signalbox: primary */ ", "/* signalbox: server=r1 */ ", "/* signalbox: server=r2 */ "}[i%3]
		if err := conn.QueryRowContext(ctx, hint+`SELECT @@port, @@time_zone, @@sql_mode, DATABASE() AS "quoted"`).Scan(&port, &gotZone, &mode, &schema); err != nil {
			t.Fatal(err)
		}
		if gotZone != zone || mode != "ANSI_QUOTES" || schema != sandbox.Schema {
			t.Fatalf("server at port %d: time zone %s, want %s; sql_mode %s; schema %s", port, gotZone, zone, mode, schema)
		}
		seen[port] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d servers were used, want 3", len(seen))
	}
}

// While a replica is killed and comes back, no read fails.
func TestReadsSurviveALostReplica(t *testing.T) {
	f := startFront(t, "")
	ctx := t.Context()
	reading, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for reading.Err() == nil {
				var n int
				if err := f.db.QueryRowContext(ctx, "SELECT 1").Scan(&n); err != nil {
					t.Errorf("read: %v", err)
					return
				}
			}
		})
	}
	f.Kill("r1")
	f.awaitServer(t, "r1", false)
	if err := f.Restart(ctx, "r1"); err != nil {
		t.Error(err)
	}
	f.awaitServer(t, "r1", true)
	stop()
	group.Wait()
}

func (f *front) awaitServer(t *testing.T, name string, up bool) {
	t.Helper()
	f.await(t, func(ctx context.Context) error {
		s, err := f.status(ctx)
		if err != nil {
			return err
		}
		for _, v := range s.Servers {
			if v.Name == name && v.Up == up {
				return nil
			}
		}
		return fmt.Errorf("%s is not yet up=%v", name, up)
	})
}

// KILL names the proxy's own ids and reaches the server that runs the query.
func TestKillReachesTheQuery(t *testing.T) {
	f := startFront(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	victim, err := f.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer victim.Close()
	var id int
	if err := victim.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := victim.ExecContext(ctx, "DO SLEEP(25)")
		ended <- err
	}()
	f.until(t, func() bool {
		if _, err := f.db.ExecContext(ctx, fmt.Sprintf("KILL QUERY %d", id)); err != nil {
			t.Fatal(err)
		}
		select {
		case err = <-ended:
			return true
		default:
			return false
		}
	})
	if code(err) != 1317 && err != nil {
		t.Errorf("the killed query ended with %v", err)
	}
	if _, err := f.db.ExecContext(ctx, "KILL QUERY 4000000"); code(err) != 1094 {
		t.Errorf("killing nobody: %v, want 1094", err)
	}
}
