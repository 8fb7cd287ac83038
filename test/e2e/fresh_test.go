package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"signalbox/internal/sandbox"
)

// rawSession is a session whose client has CLIENT_DEPRECATE_EOF or has not: a
// client without it gets no position with the end of a result set.
func (f *front) rawSession(t *testing.T, deprecateEOF bool) *client.Conn {
	t.Helper()
	c, err := client.ConnectWithDialer(t.Context(), "tcp", f.Endpoint(), sandbox.AppUser, sandbox.AppPassword, sandbox.Schema,
		(&net.Dialer{}).DialContext, func(c *client.Conn) error {
			c.UnsetCapability(mysql.CLIENT_QUERY_ATTRIBUTES)
			if !deprecateEOF {
				c.UnsetCapability(mysql.CLIENT_DEPRECATE_EOF)
			}
			if err := c.SetCapability(mysql.CLIENT_MULTI_RESULTS); err != nil {
				return err
			}
			return c.SetCapability(mysql.CLIENT_MULTI_STATEMENTS)
		})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// runs executes statements; those that begin with ! must fail, those with * are
// several in one packet.
func runs(t *testing.T, c *client.Conn, statements []string) {
	t.Helper()
	for _, text := range statements {
		sql, mustFail := strings.CutPrefix(text, "!")
		sql, several := strings.CutPrefix(sql, "*")
		var err error
		if several {
			var last error
			_, err = c.ExecuteMultiple(sql, func(_ *mysql.Result, err error) { last = err })
			if err == nil {
				err = last
			}
		} else {
			_, err = c.Execute(sql)
		}
		if (err != nil) != mustFail {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func one(t *testing.T, c *client.Conn, sql string, args ...any) string {
	t.Helper()
	r, err := c.Execute(sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer r.Close()
	v, err := r.GetString(0, 0)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.Clone(v)
}

// delay makes every replica apply what the primary wrote so many seconds later.
func (f *front) delay(t *testing.T, seconds int) {
	t.Helper()
	for _, r := range f.replicas() {
		if err := f.Exec(t.Context(), r, f.ApplyLater(seconds)...); err != nil {
			t.Fatal(err)
		}
	}
}

func (f *front) replicas() []string { return []string{"r1", "r2"} }

// onReplica waits until the session's reads run on a replica.
func (f *front) onReplica(t *testing.T, c *client.Conn) {
	t.Helper()
	f.await(t, func(context.Context) error {
		port := one(t, c, "SELECT @@port")
		for _, r := range f.replicas() {
			if port == fmt.Sprint(f.Port(r)) {
				return nil
			}
		}
		return fmt.Errorf("reads run on port %s, which is no replica's", port)
	})
}

// ownWrite is something that changes data in one of the many ways there are,
// and the question that shows whether a read sees it.
type ownWrite struct {
	name  string
	do    []string
	check string
	want  string
}

// ownWrites are for a table w, empty before each.
var ownWrites = []ownWrite{
	{name: "insert", do: []string{"INSERT INTO w VALUES (1,1)"}},
	{name: "update", do: []string{"INSERT INTO w VALUES (1,0)", "UPDATE w SET a=1"}},
	{name: "delete", do: []string{"INSERT INTO w VALUES (1,1),(2,2)", "DELETE FROM w WHERE id=2"}},
	{name: "replace", do: []string{"REPLACE INTO w VALUES (1,1)"}},
	{name: "transaction", do: []string{"BEGIN", "INSERT INTO w VALUES (1,1)", "COMMIT"}},
	{name: "autocommit off", do: []string{"SET autocommit=0", "INSERT INTO w VALUES (1,1)", "COMMIT", "SET autocommit=1"}},
	{name: "autocommit on commits", do: []string{"SET autocommit=0", "INSERT INTO w VALUES (1,1)", "SET autocommit=1"}},
	{name: "DDL commits", do: []string{"BEGIN", "INSERT INTO w VALUES (1,1)", "CREATE OR REPLACE TABLE other (id INT)"}},
	{name: "DDL that fails commits", do: []string{"BEGIN", "INSERT INTO w VALUES (1,1)", "!DROP TABLE there_is_none"}},
	{name: "BEGIN commits", do: []string{"BEGIN", "INSERT INTO w VALUES (1,1)", "BEGIN", "ROLLBACK"}},
	{name: "chain", do: []string{"BEGIN", "INSERT INTO w VALUES (1,1)", "COMMIT AND CHAIN", "ROLLBACK"}},
	{name: "create", do: []string{"CREATE OR REPLACE TABLE made AS SELECT 1 AS a"}, check: "SELECT COUNT(*) FROM made", want: "1"},
	{name: "alter", do: []string{"CREATE OR REPLACE TABLE changed (id INT)", "ALTER TABLE changed ADD b INT DEFAULT 7", "INSERT INTO changed VALUES (1,1)"}, check: "SELECT MAX(b) FROM changed", want: "1"},
	{name: "truncate", do: []string{"INSERT INTO w VALUES (2,2)", "TRUNCATE w", "INSERT INTO w VALUES (1,1)"}},
	{name: "call", do: []string{"CALL writes()"}},
	{name: "call with a result", do: []string{"*CALL writes_and_reads()"}},
	{name: "call that fails", do: []string{"!CALL writes_and_fails()"}},
	{name: "function", do: []string{"SELECT f_writes()"}},
	{name: "function in DO", do: []string{"DO f_writes()"}},
	{name: "several, a query last", do: []string{"*INSERT INTO w VALUES (1,1); SELECT 1"}},
	{name: "several, a query first", do: []string{"*SELECT 1; INSERT INTO w VALUES (1,1)"}},
	{name: "several, the last fails", do: []string{"!*INSERT INTO w VALUES (1,1); INSERT INTO w VALUES (1,1)"}},
	{name: "several with a transaction", do: []string{"*BEGIN; INSERT INTO w VALUES (1,1); COMMIT; SELECT 1"}},
	{name: "returning", do: []string{"INSERT INTO w VALUES (1,1) RETURNING id"}},
	{name: "returning, several", do: []string{"*INSERT INTO w VALUES (2,0); DELETE FROM w RETURNING id; INSERT INTO w VALUES (1,1) RETURNING id; SELECT 1"}},
	{name: "returning in a transaction", do: []string{"BEGIN", "INSERT INTO w VALUES (1,1) RETURNING id", "COMMIT"}},
	{name: "delete returning", do: []string{"INSERT INTO w VALUES (1,1),(2,2)", "DELETE FROM w WHERE id=2 RETURNING id"}},
	{name: "without the binary log", do: []string{"SET sql_log_bin=0", "INSERT INTO w VALUES (1,1)"}},
	{name: "without the binary log, back on", do: []string{"SET sql_log_bin=0", "INSERT INTO w VALUES (1,1)", "SET sql_log_bin=1"}},
	{name: "temporary table", do: []string{"CREATE TEMPORARY TABLE tmp (id INT)", "INSERT INTO tmp VALUES (1)"}, check: "SELECT COUNT(*) FROM tmp", want: "1"},
	{name: "after a temporary table", do: []string{"CREATE TEMPORARY TABLE tmp (id INT)", "INSERT INTO tmp VALUES (1)", "INSERT INTO w SELECT id,id FROM tmp", "DROP TEMPORARY TABLE tmp"}},
	{name: "half of a statement", do: []string{"!INSERT INTO half VALUES (2),(3),(3)"}, check: "SELECT COUNT(*) FROM half", want: "2"},
	{name: "execute", do: []string{"PREPARE p FROM 'INSERT INTO w VALUES (1,1)'", "EXECUTE p"}},
	{name: "execute immediate", do: []string{"EXECUTE IMMEDIATE 'INSERT INTO w VALUES (1,1)'"}},
	{name: "set statement", do: []string{"SET STATEMENT max_statement_time=9 FOR INSERT INTO w VALUES (1,1)"}},
	{name: "compound", do: []string{"BEGIN NOT ATOMIC INSERT INTO w VALUES (1,1); END"}},
	{name: "analyze insert", do: []string{"ANALYZE INSERT INTO w VALUES (1,1)"}},
	{name: "XA", do: []string{"XA START 'x'", "INSERT INTO w VALUES (1,1)", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'"}},
	{name: "lock tables", do: []string{"LOCK TABLES w WRITE", "INSERT INTO w VALUES (1,1)", "UNLOCK TABLES"}},
	{name: "locking read of a function", do: []string{"SELECT f_writes() FOR UPDATE"}},
	{name: "a user variable", do: []string{"SET @a = f_writes()"}},
}

// Whatever way a session writes, its next read sees it, although the replicas are
// an hour behind. Each replica counts as healthy.
func TestEveryWayToWriteIsReadBack(t *testing.T) {
	f := startFront(t, "reads: {max_lag: 2h}\n")
	ctx := t.Context()
	setUp := []string{"CREATE TABLE w (id INT PRIMARY KEY, a INT)", "CREATE TABLE half (id INT PRIMARY KEY) ENGINE=MyISAM",
		"CREATE PROCEDURE writes() INSERT INTO w VALUES (1,1)",
		"CREATE PROCEDURE writes_and_reads() BEGIN INSERT INTO w VALUES (1,1); SELECT 1; END",
		"CREATE PROCEDURE writes_and_fails() BEGIN INSERT INTO w VALUES (1,1); SIGNAL SQLSTATE '45000'; END",
		"CREATE FUNCTION f_writes() RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO w VALUES (1,1); RETURN 1; END"}
	for _, server := range append(f.replicas(), "db1") {
		if err := f.Exec(ctx, server, "SET GLOBAL log_bin_trust_function_creators=1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Exec(ctx, "db1", append([]string{"USE " + sandbox.Schema}, setUp...)...); err != nil {
		t.Fatal(err)
	}
	if err := f.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	f.delay(t, 3600)
	for _, deprecateEOF := range []bool{false, true} {
		for _, w := range ownWrites {
			t.Run(fmt.Sprintf("%s, DEPRECATE_EOF %v", w.name, deprecateEOF), func(t *testing.T) {
				if err := f.Exec(ctx, f.Active(), "TRUNCATE shop.w", "TRUNCATE shop.half"); err != nil {
					t.Fatal(err)
				}
				if w.check == "" {
					w.check, w.want = "SELECT GROUP_CONCAT(id,'=',a) FROM w", "1=1"
				}
				c := f.rawSession(t, deprecateEOF)
				f.onReplica(t, c)
				runs(t, c, w.do)
				for range 3 {
					if got := one(t, c, w.check); got != w.want {
						t.Fatalf("a read sees %q, want %q", got, w.want)
					}
				}
				if strings.Contains(w.name, "binary log") || strings.Contains(w.name, "temporary") {
					return
				}
				if got := one(t, c, w.check+" LIMIT ?", 5); got != w.want {
					t.Fatalf("a prepared read sees %q, want %q", got, w.want)
				}
			})
		}
	}
}
