package lvslab

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	my "github.com/go-sql-driver/mysql"

	"signalbox/internal/child"
)

// databasePort is MariaDB's: others listen on 3306.
const databasePort = 3309

// database is a real MariaDB on far1, started by the first test that needs it: in
// a guest that takes seconds.
var database *child.Process

// mariadb returns it, running.
func (l *lab) mariadb(t *testing.T) *child.Process {
	t.Helper()
	if database != nil {
		return database
	}
	const dir = "/run/mysqld"
	run(t, fmt.Sprintf("cp -a %s %s/data", os.Getenv(dataMark), dir))
	cmd := exec.Command("ip", "netns", "exec", l.far[0].name, "mariadbd", "--no-defaults", "--user=root", "--datadir="+dir+"/data", "--socket="+dir+"/s",
		"--pid-file="+dir+"/pid", "--bind-address=0.0.0.0", fmt.Sprint("--port=", databasePort), "--skip-name-resolve", "--tmpdir=/run/tmp", "--innodb-use-native-aio=0",
		"--innodb-buffer-pool-size=16M", "--loose-innodb-buffer-pool-size-max=32M", "--innodb-log-file-size=48M", "--performance-schema=OFF", "--skip-log-bin")
	var err error
	if database, err = child.Start("MariaDB", dir+"/log", cmd); err != nil {
		t.Fatal(err)
	}
	db := l.open(t, nil, at(l.far[0].v4, databasePort))
	if err := database.Await(t.Context(), 2*time.Minute, db.PingContext); err != nil {
		t.Fatal(err)
	}
	return database
}

// endDirector ends what outlives a test.
func endDirector() {
	if database != nil {
		database.Kill()
	}
}

// open opens a database from a namespace, nil for the director's.
func (l *lab) open(t *testing.T, from *space, to netip.AddrPort) *sql.DB {
	t.Helper()
	c := my.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.AllowNativePasswords = "app", "app-secret", "tcp", to.String(), true
	c.Timeout, c.ReadTimeout, c.Logger = 3*time.Second, 30*time.Second, quiet{}
	c.DialFunc = func(context.Context, string, string) (net.Conn, error) { return l.dial(from, "tcp", to) }
	connector, err := my.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// quiet keeps the driver from printing what the tests report.
type quiet struct{}

func (quiet) Print(...any) {}

// signalbox runs the program itself on the director until the test ends.
func signalbox(t *testing.T, args ...string) *child.Process {
	t.Helper()
	cmd := exec.Command("/mnt/lab/signalbox", args...)
	if args[0] == "netns" {
		cmd = exec.Command("ip", args...)
	}
	p, err := child.Start("signalbox", filepath.Join(t.TempDir(), "log"), cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			text, _ := os.ReadFile(p.Log)
			t.Logf("%v said:\n%s", args, text)
		}
	})
	return p
}

// write makes a file for the test.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
