package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"signalbox/internal/sandbox"
)

// secondProxy runs another proxy in front of the same cluster.
func (f *front) secondProxy(t *testing.T) (address string) {
	t.Helper()
	binary, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	address = "127.0.0.1:" + freePort(t)
	text := strings.ReplaceAll(f.Config(), f.Endpoint(), address)
	text = strings.ReplaceAll(text, f.Admin(), "127.0.0.1:"+freePort(t))
	text = strings.ReplaceAll(text, "proxy.sock", "second.sock") + "reads: {max_lag: 2h}\n"
	file := filepath.Join(t.TempDir(), "second.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	spawn(t, "second signalbox", binary, "run", "-c", file).await(t, func(context.Context) error {
		c, err := client.Connect(address, sandbox.AppUser, sandbox.AppPassword, sandbox.Schema)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
	return address
}

// Levels, tokens and what a wait leaves behind, while the replicas are an hour
// behind and then caught up.
func TestConsistency(t *testing.T) {
	f := startFront(t, "reads: {max_lag: 2h}\n")
	ctx := t.Context()
	if _, err := f.db.ExecContext(ctx, "CREATE TABLE c (id INT PRIMARY KEY, a INT)"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.db.ExecContext(ctx, "INSERT INTO c VALUES (1,0)"); err != nil {
		t.Fatal(err)
	}
	if err := f.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	second := f.secondProxy(t)
	f.delay(t, 3600)
	writer := f.rawSession(t, true)
	runs(t, writer, []string{"UPDATE c SET a=1"})
	token := one(t, writer, "SHOW SIGNALBOX POSITION")
	reader, err := client.Connect(second, sandbox.AppUser, sandbox.AppPassword, sandbox.Schema, func(c *client.Conn) error {
		c.UnsetCapability(mysql.CLIENT_QUERY_ATTRIBUTES)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	f.onReplica(t, reader)
	const read = "SELECT a FROM c WHERE id=1"
	for _, tt := range []struct{ sql, want string }{
		{read, "0"}, // another session's write is not promised
		{read + " /* signalbox: consistency=eventual */", "0"},
		{read + " /* signalbox: consistency=global */", "1"},
		{read + " /* signalbox: after=" + token[:len(token)-1] + " */", "1"}, // no token: the primary
		{read, "0"},
		{read + " /* signalbox: after=" + token + " */", "1"},
		{read, "1"}, // from then on the session has seen it
	} {
		if got := one(t, reader, tt.sql); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.sql, got, tt.want)
		}
	}
	if _, err := writer.Prepare("SHOW SIGNALBOX POSITION"); err == nil || !strings.Contains(err.Error(), "1295") {
		t.Errorf("prepared SHOW SIGNALBOX POSITION: %v", err)
	}
	f.delay(t, 0)
	f.waits(t, writer)
	f.survivesAMove(t)
}

// waits has a session write and read at once until its replicas have waited, and
// looks that nothing of the wait shows.
func (f *front) waits(t *testing.T, c *client.Conn) {
	f.await(t, func(context.Context) error {
		for n := range 20 {
			runs(t, c, []string{fmt.Sprintf("UPDATE c SET a=%d", 100+n)})
			if got := one(t, c, "SELECT a FROM c WHERE id=1"); got != fmt.Sprint(100+n) {
				t.Fatalf("read %s after %d was written", got, 100+n)
			}
			runs(t, c, []string{fmt.Sprintf("UPDATE c SET a=%d", 200+n), "SELECT 1/0, a FROM c"})
			if got := one(t, c, "SELECT @@warning_count"); got != "1" {
				t.Fatalf("%s warnings, want the one of the read", got)
			}
			runs(t, c, []string{fmt.Sprintf("UPDATE c SET a=%d", 300+n), "START TRANSACTION READ ONLY"})
			if got := one(t, c, "SELECT a FROM c WHERE id=1"); got != fmt.Sprint(300+n) {
				t.Fatalf("read %s in a transaction after %d was written", got, 300+n)
			}
			runs(t, c, []string{"COMMIT"})
		}
		if counts := f.consistencyCounts(t); strings.Contains(counts, `how="waited"} 0`) {
			return fmt.Errorf("no read waited: %s", counts)
		}
		return nil
	})
}

// survivesAMove: what was written before a switchover is demanded after it, and
// the other node knows the positions.
func (f *front) survivesAMove(t *testing.T) {
	for _, r := range f.replicas() {
		if err := f.Exec(t.Context(), r, f.Applying(false)); err != nil {
			t.Fatal(err)
		}
	}
	c := f.rawSession(t, false)
	runs(t, c, []string{"UPDATE c SET a=1000"})
	before := one(t, c, "SHOW SIGNALBOX POSITION")
	if _, err := f.Switchover(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if got := one(t, c, "SELECT a FROM c WHERE id=1"); got != "1000" {
			t.Fatalf("read %s after the switchover", got)
		}
	}
	if after := one(t, c, "SHOW SIGNALBOX POSITION"); after != before {
		t.Errorf("position %s, before the switchover %s", after, before)
	}
	for _, r := range f.replicas() {
		if err := f.Exec(t.Context(), r, f.Applying(true)); err != nil {
			t.Fatal(err)
		}
	}
	f.onReplica(t, c)
	if got := one(t, c, "SELECT a FROM c WHERE id=1"); got != "1000" {
		t.Fatalf("a replica says %s after the switchover", got)
	}
}
