package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"signalbox/internal/child"
	"signalbox/test/clients"
)

// The account and schema that clients use, and the probe's account.
const (
	appUser, appPassword, appSchema = "app", "app-secret", "conformance"
	probeUser, probePassword        = "probe", "probe-secret"
)

func TestMain(m *testing.M) {
	// Debian keeps the servers where a user's PATH may not look.
	_ = os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	code := m.Run()
	if builtIn != "" {
		_ = os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

// notShort skips, under -short, a test that starts servers.
func notShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers")
	}
}

// absent skips the test loudly, or fails it where all parts must be there.
func absent(t *testing.T, what string, err error) {
	t.Helper()
	if os.Getenv("SIGNALBOX_E2E") == "required" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("SKIPPED %s: %v", what, err)
}

// server is one mariadbd of a test.
type server struct {
	name, port string
	db         *sql.DB // as root
}

// serverPair is a primary and a replica that follows it.
type serverPair struct{ primary, replica *server }

func (s *server) endpoint() clients.Endpoint {
	return clients.Endpoint{Host: "127.0.0.1", Port: s.port, User: appUser, Password: appPassword, Schema: appSchema}
}

func (s *server) admin(t *testing.T) *sql.DB {
	t.Helper()
	return s.db
}

func (s *server) exec(t *testing.T, statements ...string) {
	t.Helper()
	for _, text := range statements {
		if _, err := s.db.ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%s: %s: %v", s.name, text, err)
		}
	}
}

// startServers runs a primary and a replica until the test ends.
func startServers(t *testing.T) serverPair {
	t.Helper()
	notShort(t)
	for _, name := range []string{"mariadbd", "mariadb-install-db"} {
		if _, err := exec.LookPath(name); err != nil {
			absent(t, "all clients", fmt.Errorf("%w (Debian: apt-get install mariadb-server-core)", err))
		}
	}
	p := serverPair{startServer(t, "primary", 1), startServer(t, "replica", 2, "--read-only")}
	p.primary.exec(t,
		"CREATE DATABASE "+appSchema+" CHARACTER SET utf8mb4",
		fmt.Sprintf("CREATE USER %s@'%%' IDENTIFIED BY '%s'", appUser, appPassword),
		fmt.Sprintf("GRANT ALL ON %s.* TO %s@'%%'", appSchema, appUser),
		fmt.Sprintf("CREATE USER %s@'%%' IDENTIFIED BY '%s'", probeUser, probePassword),
		fmt.Sprintf("GRANT REPLICATION CLIENT, REPLICATION SLAVE, SLAVE MONITOR ON *.* TO %s@'%%'", probeUser))
	p.replica.exec(t, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%s, MASTER_USER='%s', MASTER_PASSWORD='%s', MASTER_USE_GTID=slave_pos",
		p.primary.port, probeUser, probePassword), "START SLAVE")
	return p
}

func startServer(t *testing.T, name string, id int, more ...string) *server {
	t.Helper()
	dir := t.TempDir()
	install := exec.Command("mariadb-install-db", "--no-defaults", "--user=root", "--datadir="+dir,
		"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v: %s", err, out)
	}
	s := &server{name: name, port: freePort(t)}
	args := append([]string{"--no-defaults", "--user=root", "--datadir=" + dir, "--port=" + s.port, "--bind-address=127.0.0.1",
		"--socket=" + filepath.Join(dir, "s"), "--pid-file=" + filepath.Join(dir, "pid"), "--skip-name-resolve", "--long-query-time=3600",
		fmt.Sprintf("--server-id=%d", id), "--log-bin", "--log-slave-updates", "--binlog-format=ROW",
		"--max-allowed-packet=64M", "--slave-max-allowed-packet=64M"}, more...)
	c := spawn(t, name, "mariadbd", args...)
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Logger = "tcp", "127.0.0.1:"+s.port, "root", quiet{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.db = sql.OpenDB(connector)
	t.Cleanup(func() { _ = s.db.Close() })
	c.await(t, func(ctx context.Context) error { return s.db.PingContext(ctx) })
	return s
}

// quiet drops the driver's log lines about a server that is not up yet.
type quiet struct{}

func (quiet) Print(...any) {}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// process is a program that runs until the test ends.
type process struct{ *child.Process }

// spawn runs a program until the test ends and shows its output if that failed.
func spawn(t *testing.T, name, program string, args ...string) *process {
	t.Helper()
	p, err := child.Start(name, filepath.Join(t.TempDir(), name+".log"), exec.Command(program, args...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop(patience)
		if text, _ := os.ReadFile(p.Log); t.Failed() || p.Err() != nil || os.Getenv("SIGNALBOX_E2E_LOGS") != "" {
			t.Logf("%s ended: %v\n%s", name, p.Err(), text)
		}
	})
	return &process{p}
}

const patience = 20 * time.Second

// end ends it in good order.
func (p *process) end() { p.Stop(patience) }

// await calls ready until it succeeds.
func (p *process) await(t *testing.T, ready func(context.Context) error) {
	t.Helper()
	if err := p.Await(t.Context(), time.Minute, ready); err != nil {
		t.Fatal(err)
	}
}

// builtIn is the directory of the program under test, once it is built.
var builtIn string

var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "signalbox-e2e-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	binary := filepath.Join(dir, "signalbox")
	out, err := exec.Command("go", "build", "-o", binary, "signalbox/cmd/signalbox").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build signalbox: %w: %s", err, out)
	}
	return binary, nil
})

// startProxy runs Signalbox in front of the servers until the test ends, and
// returns where clients connect.
func startProxy(t *testing.T, p serverPair, plugin string) clients.Endpoint {
	t.Helper()
	binary, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	to := p.primary.endpoint()
	to.Port = freePort(t)
	file := filepath.Join(t.TempDir(), "signalbox.yaml")
	text := fmt.Sprintf(`listeners: [{address: "127.0.0.1:%s"}]
admin: {address: ""}
users: [{name: %s, password: %s, plugin: %s}]
health: {user: %s, password: %s, interval: 100ms}
authority: {source: static}
servers:
  - {name: primary, role: primary, address: "127.0.0.1:%s"}
  - {name: replica, role: replica, address: "127.0.0.1:%s"}
`, to.Port, appUser, appPassword, plugin, probeUser, probePassword, p.primary.port, p.replica.port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := spawn(t, "signalbox", binary, "run", "-c", file)
	db := open(t, to)
	c.await(t, func(ctx context.Context) error { // a write passes
		_, err := db.ExecContext(ctx, "CREATE OR REPLACE TABLE ready (id INT)")
		return err
	})
	c.await(t, func(ctx context.Context) error { // and a read reaches the replica
		var port string
		if err := db.QueryRowContext(ctx, "SELECT @@port").Scan(&port); err != nil || port == p.replica.port {
			return err
		}
		return errors.New("reads do not reach the replica yet")
	})
	return to
}

// open connects the Go driver to the proxy.
func open(t *testing.T, to clients.Endpoint) *sql.DB {
	t.Helper()
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Passwd, cfg.DBName = "tcp", net.JoinHostPort(to.Host, to.Port), to.User, to.Password, to.Schema
	cfg.TLSConfig, cfg.Timeout, cfg.ReadTimeout, cfg.Logger = "skip-verify", 5*time.Second, 5*time.Second, quiet{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}
