package e2e

import (
	"database/sql"
	"strings"
	"sync"
	"testing"
)

// freeze freezes the Primary's I/O and waits until the proxy knows.
func (f *front) freeze(t *testing.T) {
	t.Helper()
	f.Freeze()
	f.awaitAuthority(t, "io-suspended")
}

// A Primary whose I/O is frozen for a while costs nobody anything: sessions keep
// their transactions and temporary tables, and what they do meanwhile waits. It
// is given up after hold.timeout.
func TestFrozenPrimaryIsAPause(t *testing.T) {
	f := startFront(t, "hold: {timeout: 4s}\n")
	ctx := t.Context()
	open := func(statements ...string) *sql.Conn {
		t.Helper()
		conn, err := f.db.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		for _, s := range statements {
			if _, err := conn.ExecContext(ctx, s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		return conn
	}
	single := open("CREATE TABLE fz (id INT PRIMARY KEY)")
	tx := open("CREATE TEMPORARY TABLE mine (id INT)", "BEGIN", "INSERT INTO fz VALUES (1)", "INSERT INTO mine VALUES (7)")
	if err := f.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}

	f.freeze(t)
	var group sync.WaitGroup
	errs := make([]error, 3)
	group.Go(func() { _, errs[0] = single.ExecContext(ctx, "INSERT INTO fz VALUES (2)") })
	group.Go(func() {
		if _, errs[1] = tx.ExecContext(ctx, "INSERT INTO fz SELECT id FROM mine"); errs[1] == nil {
			_, errs[1] = tx.ExecContext(ctx, "COMMIT")
		}
	})
	f.awaitWaiting(t, 2)
	if metrics := f.metrics(t); !strings.Contains(metrics, `signalbox_writer_paused{server="db1"} 1`) {
		t.Error("the metrics do not show the pause")
	}
	reader := open()
	var rows int
	if err := reader.QueryRowContext(ctx, "SELECT COUNT(*) FROM fz").Scan(&rows); err != nil || rows != 0 {
		t.Errorf("a read meanwhile: %d rows, %v", rows, err)
	}
	if log, err := f.GeneralLog("db1"); err != nil || strings.Contains(log, "VALUES (2)") || strings.Contains(log, "FROM mine") {
		t.Errorf("a statement was sent to the frozen node (%v)", err)
	}
	f.Heal()
	group.Wait()
	for _, err := range errs {
		if err != nil {
			t.Errorf("after the freeze: %v", err)
		}
	}
	if err := single.QueryRowContext(ctx, "SELECT COUNT(*) FROM fz WHERE id IN (1, 2, 7)").Scan(&rows); err != nil || rows != 3 {
		t.Errorf("%d rows of 3, %v", rows, err)
	}
	if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM mine").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("the session's temporary table: %d rows, %v", rows, err)
	}

	second := open("BEGIN", "INSERT INTO fz VALUES (3)")
	f.freeze(t)
	_, errs[0] = single.ExecContext(ctx, "INSERT INTO fz VALUES (4)")
	_, errs[1] = second.ExecContext(ctx, "INSERT INTO fz VALUES (5)")
	_, errs[2] = tx.ExecContext(ctx, "INSERT INTO mine VALUES (8)")
	if code(errs[0]) != 1290 || !strings.Contains(errs[0].Error(), "frozen") {
		t.Errorf("a write after hold.timeout: %v, want error 1290 with the reason", errs[0])
	}
	if code(errs[1]) != 1213 {
		t.Errorf("an open transaction after hold.timeout: %v, want error 1213", errs[1])
	}
	if code(errs[2]) != 1927 {
		t.Errorf("a session with a temporary table after hold.timeout: %v, want error 1927", errs[2])
	}
	f.Heal()
	f.awaitReason(t, "healthy")
	for _, conn := range []*sql.Conn{single, second} {
		if _, err := conn.ExecContext(ctx, "REPLACE INTO fz VALUES (6)"); err != nil {
			t.Errorf("a write in the same session, later: %v", err)
		}
	}
}
