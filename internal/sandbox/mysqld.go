package sandbox

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	my "github.com/go-sql-driver/mysql"

	"signalbox/internal/child"
)

// program is the server program: MariaDB's or MySQL's.
type program struct {
	path    string
	mariaDB bool
	version string
}

// findProgram looks for mariadbd or mysqld: SIGNALBOX_MYSQLD, then the PATH,
// then the directory where Debian keeps it.
func findProgram() (*program, error) {
	names := []string{os.Getenv("SIGNALBOX_MYSQLD"), "mariadbd", "mysqld", "/usr/sbin/mariadbd", "/usr/sbin/mysqld"}
	for _, name := range names {
		if name == "" {
			continue
		}
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, err := exec.Command(path, "--version").Output()
		if err != nil {
			return nil, fmt.Errorf("%s --version: %w", path, err)
		}
		version := strings.TrimSpace(string(out))
		return &program{path: path, version: version, mariaDB: strings.Contains(version, "MariaDB")}, nil
	}
	return nil, errors.New("neither mariadbd nor mysqld was found: install Debian's mariadb-server-core and mariadb-client, or name one in SIGNALBOX_MYSQLD")
}

// The accounts of every sandbox server.
const (
	AppUser      = "app"
	AppPassword  = "app-secret"
	probeUser    = "signalbox"
	probePass    = "probe-secret"
	replUser     = "repl"
	replPassword = "repl-secret"
	Schema       = "shop" // exists, and AppUser may do anything in it
)

func accounts(mariaDB bool) []string {
	list := []string{
		"CREATE USER '" + AppUser + "'@'%' IDENTIFIED BY '" + AppPassword + "'",
		"GRANT ALL ON *.* TO '" + AppUser + "'@'%'",
		"CREATE USER '" + probeUser + "'@'%' IDENTIFIED BY '" + probePass + "'",
		"GRANT REPLICATION CLIENT ON *.* TO '" + probeUser + "'@'%'",
		"CREATE USER '" + replUser + "'@'%' IDENTIFIED BY '" + replPassword + "'",
		"GRANT REPLICATION SLAVE ON *.* TO '" + replUser + "'@'%'",
		"CREATE DATABASE " + Schema,
	}
	if mariaDB {
		// ALL includes the privilege to write on a server with read_only=1, which no application has.
		list = append(list, "REVOKE READ_ONLY ADMIN, SUPER ON *.* FROM '"+AppUser+"'@'%'",
			"GRANT SLAVE MONITOR ON *.* TO '"+probeUser+"'@'%'")
	} else {
		list = append(list, "REVOKE SUPER, CONNECTION_ADMIN ON *.* FROM '"+AppUser+"'@'%'")
	}
	return list
}

// instance is one running server.
type instance struct {
	prog *program
	name string
	dir  string // socket, logs
	data string
	port int
	args []string

	process *child.Process // nil before the first start
}

func (i *instance) socket() string     { return filepath.Join(i.dir, i.name+".sock") }
func (i *instance) errorLog() string   { return filepath.Join(i.dir, i.name+".err") }
func (i *instance) generalLog() string { return filepath.Join(i.dir, i.name+".general") }

// start starts the process and waits until it answers.
func (i *instance) start(ctx context.Context) error {
	args := []string{"--no-defaults", "--datadir=" + i.data, "--socket=" + i.socket(), "--pid-file=" + filepath.Join(i.dir, i.name+".pid"),
		"--bind-address=127.0.0.1", "--port=" + strconv.Itoa(i.port), "--log-error=" + i.errorLog(), "--report-host=" + i.name,
		"--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1", "--performance-schema=OFF",
		"--log-bin=" + filepath.Join(i.data, "binlog"), "--binlog-format=ROW", "--max-connections=3000", "--max-allowed-packet=256M",
		"--skip-name-resolve", "--local-infile=ON", "--loose-innodb-log-file-size=48M",
		// So long a replica believes in a source that says nothing, and the source speaks twice in that time.
		"--loose-slave-net-timeout=4", "--loose-replica-net-timeout=4"}
	if !i.prog.mariaDB {
		args = append(args, "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--mysqlx=OFF")
	} else {
		args = append(args, "--gtid-strict-mode=ON")
	}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root")
	}
	var err error
	i.process, err = child.Start(i.name, filepath.Join(i.dir, i.name+".out"), exec.Command(i.prog.path, append(args, i.args...)...))
	if err != nil {
		return err
	}
	db, err := i.root()
	if err != nil {
		return err
	}
	defer db.Close()
	if err := i.process.Await(ctx, startPatience, db.PingContext); err != nil {
		i.kill()
		return fmt.Errorf("%w %s", err, tail(i.errorLog()))
	}
	return nil
}

// startPatience is how long a server may take to answer after its start.
const startPatience = 60 * time.Second

// tail is the end of a log, for an error.
func tail(path string) string {
	b, _ := os.ReadFile(path)
	if len(b) > 1500 {
		b = b[len(b)-1500:]
	}
	return strings.TrimSpace(string(b))
}

// quietDriver keeps the driver from printing what the caller reports anyway.
type quietDriver struct{}

func (quietDriver) Print(...any) {}

// root opens the server as root, over its socket.
func (i *instance) root() (*sql.DB, error) {
	c := my.NewConfig()
	c.User, c.Net, c.Addr, c.Logger = "root", "unix", i.socket(), quietDriver{}
	c.AllowNativePasswords = true
	connector, err := my.NewConnector(c)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	return db, nil
}

// do runs statements as root.
func (i *instance) do(ctx context.Context, statements ...string) error {
	db, err := i.root()
	if err != nil {
		return err
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %s: %w", i.name, s, err)
		}
	}
	return nil
}

func (i *instance) running() bool { return i.process.Running() }

// stop ends the server orderly, and by force when it takes too long.
func (i *instance) stop() {
	if i.running() && !i.process.Stop(30*time.Second) {
		slog.Warn("sandbox server did not stop and was killed", "server", i.name)
	}
}

func (i *instance) kill() {
	if i.running() {
		i.process.Kill()
	}
}

// DataDir is a data directory with the accounts, to be copied and not changed.
func DataDir(ctx context.Context) (string, error) {
	prog, err := findProgram()
	if err != nil {
		return "", err
	}
	return prog.template(ctx)
}

// template returns a data directory with the accounts, made once for each
// version of the server and kept in the user's cache.
func (p *program) template(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	key := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, p.version)
	done := filepath.Join(cache, "signalbox", "template-3-"+key)
	if _, err := os.Stat(done); err == nil {
		return done, nil
	}
	if err := os.MkdirAll(filepath.Dir(done), 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(filepath.Dir(done), "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	data := filepath.Join(work, "data")
	if err := p.initialise(ctx, work, data); err != nil {
		return "", err
	}
	if err := os.Rename(data, done); err != nil {
		if _, serr := os.Stat(done); serr == nil {
			return done, nil // another process was faster
		}
		return "", err
	}
	return done, nil
}

func (p *program) initialise(ctx context.Context, work, data string) error {
	cmd := exec.CommandContext(ctx, p.path, "--no-defaults", "--initialize-insecure", "--datadir="+data)
	if p.mariaDB {
		cmd = exec.CommandContext(ctx, "mariadb-install-db", "--no-defaults", "--datadir="+data, "--skip-test-db",
			"--auth-root-authentication-method=normal", "--skip-name-resolve")
	}
	if os.Geteuid() == 0 {
		cmd.Args = append(cmd.Args, "--user=root")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make a data directory: %w: %s", err, bytes.TrimSpace(out))
	}
	run, err := os.MkdirTemp("", "sbx") // a socket's path must be short
	if err != nil {
		return err
	}
	defer os.RemoveAll(run)
	i := &instance{prog: p, name: "template", dir: run, data: data, args: []string{"--skip-networking", "--skip-log-bin"}}
	if err := i.start(ctx); err != nil {
		return err
	}
	defer i.stop()
	return i.do(ctx, accounts(p.mariaDB)...)
}

// copyData makes a data directory from the template.
func copyData(ctx context.Context, from, to string) error {
	out, err := exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy the data directory: %w: %s", err, bytes.TrimSpace(out))
	}
	_ = os.Remove(filepath.Join(to, "auto.cnf")) // MySQL's identity
	return nil
}
