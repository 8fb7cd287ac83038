package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"signalbox/internal/child"
)

// The account and the schema of all measurements.
const (
	benchUser     = "bench"
	benchPassword = "bench"
	benchSchema   = "sbtest"
)

// readyPatience is how long a server may take to come up.
const readyPatience = 60 * time.Second

// way is one way to the database: straight, or through a proxy.
type way struct {
	name  string
	addr  string
	proxy *child.Process // nil for the straight way
}

// bed holds the servers of one run. What it started, close stops.
type bed struct {
	dir     string
	started []*child.Process
}

// stopPatience is how long a server may take to end when asked to.
const stopPatience = 15 * time.Second

func (b *bed) start(name string, argv ...string) (*child.Process, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = b.dir
	p, err := child.Start(name, filepath.Join(b.dir, name+".log"), cmd)
	if err == nil {
		b.started = append(b.started, p)
	}
	return p, err
}

// close stops the servers, last first.
func (b *bed) close() {
	for i := len(b.started) - 1; i >= 0; i-- {
		b.started[i].Stop(stopPatience)
	}
	b.started = nil
}

// drop stops one server before the end.
func (b *bed) drop(p *child.Process) {
	p.Stop(stopPatience)
	for i := range b.started {
		if b.started[i] == p {
			b.started = append(b.started[:i], b.started[i+1:]...)
			return
		}
	}
}

// database starts a mariadbd with an empty data directory. Its settings keep
// the disk out of the picture, since the way to the server is what is measured.
func (b *bed) database(ctx context.Context, name string, id, connections int, more ...string) (addr string, err error) {
	dir := filepath.Join(b.dir, name)
	install := exec.CommandContext(ctx, "mariadb-install-db", "--no-defaults", "--user=root", "--datadir="+dir,
		"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	if out, err := child.Output(install); err != nil {
		return "", fmt.Errorf("mariadb-install-db for %s: %w: %s", name, err, fatalLine(out))
	}
	if addr, err = freeAddr(); err != nil {
		return "", err
	}
	_, port, _ := net.SplitHostPort(addr)
	args := []string{
		"--no-defaults", "--user=root", "--datadir=" + dir, "--port=" + port, "--bind-address=127.0.0.1",
		"--socket=" + filepath.Join(dir, "s"), "--pid-file=" + filepath.Join(dir, "pid"), fmt.Sprintf("--server-id=%d", id),
		"--skip-name-resolve", fmt.Sprintf("--max-connections=%d", connections), fmt.Sprintf("--open-files-limit=%d", 2*connections+2000),
		"--innodb-buffer-pool-size=256M", "--innodb-log-file-size=256M", "--innodb-flush-log-at-trx-commit=0", "--back-log=2000",
	}
	p, err := b.start(name, append(append([]string{"mariadbd"}, args...), more...)...)
	if err != nil {
		return "", err
	}
	return addr, p.Await(ctx, readyPatience, func(ctx context.Context) error {
		return execute(ctx, addr, "root", "", "", "DO 1")
	})
}

// account creates the measurements' account and schema.
func account(ctx context.Context, addr string) error {
	return execute(ctx, addr, "root", "", "",
		"CREATE DATABASE "+benchSchema,
		"CREATE USER "+benchUser+"@'127.0.0.1' IDENTIFIED BY '"+benchPassword+"'",
		"GRANT ALL ON *.* TO "+benchUser+"@'127.0.0.1'")
}

// replica starts a second mariadbd that follows the first.
func (b *bed) replica(ctx context.Context, primary string, connections int) (string, error) {
	addr, err := b.database(ctx, "replica", 2, connections, "--read-only")
	if err != nil {
		return "", err
	}
	host, port, _ := net.SplitHostPort(primary)
	return addr, execute(ctx, addr, "root", "", "",
		fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%s, MASTER_USER='%s', MASTER_PASSWORD='%s', MASTER_USE_GTID=slave_pos",
			host, port, benchUser, benchPassword), "START SLAVE")
}

// haproxy starts HAProxy as a TCP relay with its own default of threads, one a
// processor, which is also what a Go program gets.
func (b *bed) haproxy(ctx context.Context, database string) (way, error) {
	addr, err := freeAddr()
	if err != nil {
		return way{}, err
	}
	file := filepath.Join(b.dir, "haproxy.cfg")
	text := fmt.Sprintf(`global
    maxconn 8000
defaults
    mode tcp
    timeout connect 5s
    timeout client 8h
    timeout server 8h
listen mysql
    bind %s
    server db %s
`, addr, database)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return way{}, fmt.Errorf("configure haproxy: %w", err)
	}
	// -db keeps it one process in the foreground: the one that is measured.
	return b.proxy(ctx, "haproxy", addr, "haproxy", "-db", "-f", file)
}

// signalbox starts the proxy under test. With no replica all statements go to
// the one server, as they do through HAProxy.
func (b *bed) signalbox(ctx context.Context, binary, name, primary, replica string) (way, error) {
	addr, err := freeAddr()
	if err != nil {
		return way{}, err
	}
	file := filepath.Join(b.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(signalboxConfig(addr, primary, replica)), 0o600); err != nil {
		return way{}, fmt.Errorf("configure signalbox: %w", err)
	}
	return b.proxy(ctx, name, addr, binary, "run", "-c", file)
}

// signalboxConfig is Signalbox's defaults but for TLS, which the other ways
// have neither, and the password plugin, which is the server's own here.
func signalboxConfig(listen, primary, replica string) string {
	var text strings.Builder
	fmt.Fprintf(&text, `listeners: [{address: "%s"}]
admin: {address: ""}
tls: {mode: "off"}
users: [{name: %s, password: %s, plugin: mysql_native_password}]
health: {user: %s, password: %s}
authority: {source: static}
log: {level: warn}
servers:
  - {name: db, role: primary, address: "%s"}
`, listen, benchUser, benchPassword, benchUser, benchPassword, primary)
	if replica != "" {
		fmt.Fprintf(&text, "  - {name: r1, role: replica, address: \"%s\"}\n", replica)
	}
	return text.String()
}

// proxy starts a proxy and waits until statements pass it.
func (b *bed) proxy(ctx context.Context, name, addr string, argv ...string) (way, error) {
	p, err := b.start(name, argv...)
	if err != nil {
		return way{}, err
	}
	return way{name, addr, p}, p.Await(ctx, readyPatience, func(ctx context.Context) error {
		return execute(ctx, addr, benchUser, benchPassword, "", "DO 1")
	})
}
