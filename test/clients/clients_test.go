package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"signalbox/internal/child"
)

func TestMain(m *testing.M) {
	// Debian keeps the servers where a user's PATH may not look.
	_ = os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	os.Exit(m.Run())
}

// absent skips the test loudly, or fails it where all parts must be there.
func absent(t *testing.T, what string, err error) {
	t.Helper()
	if os.Getenv("SIGNALBOX_E2E") == "required" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("SKIPPED %s: %v", what, err)
}

// server runs a bare mariadbd for the test.
func server(t *testing.T) Endpoint {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a server")
	}
	for _, name := range []string{"mariadbd", "mariadb-install-db", "mariadb"} {
		if err := missingProgram(name, "mariadb-server-core mariadb-client")(t.Context()); err != nil {
			absent(t, "all clients", err)
		}
	}
	dir := t.TempDir()
	install := exec.Command("mariadb-install-db", "--no-defaults", "--user=root", "--datadir="+dir,
		"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v: %s", err, out)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := Endpoint{Host: "127.0.0.1", User: "app", Password: "app", Schema: "conformance"}
	_, to.Port, _ = net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("mariadbd", "--no-defaults", "--user=root", "--datadir="+dir, "--port="+to.Port, "--bind-address=127.0.0.1",
		"--socket="+socket, "--pid-file="+filepath.Join(dir, "pid"), "--skip-name-resolve", "--max-allowed-packet=64M")
	p, err := child.Start("mariadbd", filepath.Join(t.TempDir(), "log"), cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(time.Minute) })
	sql := "CREATE DATABASE conformance CHARACTER SET utf8mb4; CREATE USER app@'%' IDENTIFIED BY 'app'; GRANT ALL ON conformance.* TO app@'%'"
	err = p.Await(t.Context(), time.Minute, func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, "mariadb", "--no-defaults", "--socket="+socket, "--user=root", "--execute="+sql).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// expected are facts that each client must find on a server itself: without
// them two equal reports would prove little.
var expected = map[string]map[string]string{
	"mariadb command line": {
		"errors": `ERROR 1146 \(42S02\).*ERROR 1062 \(23000\).*ERROR 1064 \(42000\).*ERROR 31001 \(45000\).*ERROR 10(44|49) \(42000\)`,
		"large":  `"bytes":20971520,.*"intact":true`, "local-infile": `Records: 500 `, "transaction": `ERROR 1792 \(25006\)`,
		"procedure": `20\\t21.*@b.*40`, "multi-statement": `1054 \(42S22\).*alive`,
	},
	"go-sql-driver": {
		"error 1146": `"code":1146,"sqlstate":"42S02"`, "error 1062": `"code":1062,"sqlstate":"23000"`, "error 1064": `"code":1064,"sqlstate":"42000"`,
		"large": `\[\[1,0\],20971520,true,true\]`, "local-infile": `\[500,0\].*500`, "rollback": `"ok",5,.*int64 4`, "read-only": `1792`,
		"prepared select one": `-1.*-9223372036854775808.*18446744073709551615.*-12345.678.*0.1.*2026-12-31T23:59:59.123456Z.*-838:59:58.999`,
		"procedure-prepared":  `21.*22.*42`, "alive": `alive`, "prepared error 1146": `"code":1146,"sqlstate":"42S02"`,
	},
	"pymysql": {
		"error 1146": `"ProgrammingError", ?1146`, "error 1062": `"IntegrityError", ?1062`, "error 1064": `"ProgrammingError", ?1064`,
		"large": `1, ?20971520, ?20971520, ?true`, "local-infile": `5000`, "rows": `10000`, "commit": `6.*6`, "procedure": `20, ?21.*40`,
	},
	"mysql2": {
		"error 1146": `"errno":1146,.*"sqlState":"42S02"`, "error 1062": `"errno":1062,.*"sqlState":"23000"`, "error 1064": `"errno":1064,.*"sqlState":"42000"`,
		"large": `1,20971520,true,true`, "local-infile": `"affectedRows":5000`, "rows execute": `10000`,
		"prepared select one": `-9223372036854775808.*18446744073709551615.*-12345.678.*2026-12-31 23:59:59.123456.*-838:59:58.999`,
		"changed-user":        `"v":null`, "reset": `"v":null`, "procedure": `"a \+ 1":"21"`,
	},
}

// Each client finds what it must, and finds the same twice: nothing in a
// report may change from run to run by itself.
func TestClientsOnAServer(t *testing.T) {
	to := server(t)
	for _, c := range All() {
		t.Run(c.Name, func(t *testing.T) {
			if err := c.Missing(t.Context()); err != nil {
				absent(t, c.Name, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			first, err := c.Run(ctx, to)
			if err != nil {
				t.Fatal(err)
			}
			for check, pattern := range expected[c.Name] {
				i := slices.IndexFunc(first, func(f Finding) bool { return f.Check == check })
				if i < 0 || !regexp.MustCompile(pattern).Match(first[i].Saw) {
					t.Errorf("%s: no %s in %v", check, pattern, first)
				}
			}
			second, err := c.Run(ctx, to)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range Differences(first, second) {
				t.Error(d)
			}
		})
	}
}

func (f Finding) String() string { return "\n" + f.Check + " " + string(f.Saw) }

func TestDifferences(t *testing.T) {
	one := func(check, saw string) Finding { return Finding{check, json.RawMessage(saw)} }
	a := []Finding{one("same", "1"), one("other", "1"), one("left", "1")}
	b := []Finding{one("same", "1"), one("other", "2"), one("right", "1")}
	got := strings.Join(Differences(a, b), "\n")
	want := "other: the first saw 1, the second 2\nleft: only the first saw 1\nright: only the second saw 1"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if d := Differences(a, a); d != nil {
		t.Errorf("a report differs from itself: %v", d)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, wrong := range []string{"", "no json\n", `{"check":"a"}`, `{"saw":1}`} {
		if got, err := parse([]byte(wrong)); err == nil {
			t.Errorf("%q gave %v", wrong, got)
		}
	}
}
