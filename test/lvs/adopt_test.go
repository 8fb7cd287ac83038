package lvslab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"signalbox/lvs"
)

// The program is ended in order, and then by kill -9, while a query runs through
// the kernel's table: the table stays, the query goes on, and the next program
// takes over what the one before made without one write.
func TestRunningQuerySurvivesRestart(t *testing.T) {
	l := director(t)
	v4, _ := l.vip(t)
	l.mariadb(t)
	port := fmt.Sprintf("%s:%d", l.far[0].v4, databasePort)
	text := settings(stateDir(t), "  max_lag: 0s\n", fmt.Sprintf("{name: writes, address: %s, ports: 4000, servers: primary}", v4),
		fmt.Sprintf(`{name: reads, address: %s, ports: 4001, slow_start: 0s, real_servers: [{name: far1-reads, address: %q, check: {type: mysql, interval: 500ms}}]}`, v4, port))
	text = strings.Replace(text, "10.9.2.1:3306", port, 1)
	file := write(t, "signalbox.yaml", text)
	program := signalbox(t, "run", "-c", file)
	o := owner(t)
	for port := uint16(4000); port <= 4001; port++ {
		l.become(t, o, tcp(v4, port), "far1=100")
	}
	db := l.open(t, l.clients[0], at(v4, 4001))
	before := describe(table(t, o))
	next := func() string {
		program = signalbox(t, "run", "-c", file)
		return program.Log
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			conn, err := db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			var first, last int
			if err := conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&first); err != nil {
				t.Fatal(err)
			}
			answered := make(chan error, 1)
			began := time.Now()
			go func() {
				var zero int
				answered <- conn.QueryRowContext(t.Context(), "SELECT SLEEP(6)").Scan(&zero)
			}()
			if err := program.Signal(signal); err != nil {
				t.Fatal(err)
			}
			<-program.Done()
			if now := describe(table(t, o)); now != before {
				t.Errorf("after %s:\n%s\nbefore:\n%s", signal, now, before)
			}
			logFile := next()
			eventually(t, func() error { return compared(file) })
			restarted := time.Since(began)
			if err := <-answered; err != nil {
				t.Errorf("the running query: %v", err)
			}
			t.Logf("%s; the next program had compared the table %s after the query began; it ended after %s", signal, restarted.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
			if err := conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&last); err != nil || first != last {
				t.Errorf("the connection was %d and is %d: %v", first, last, err)
			}
			if now := describe(table(t, o)); now != before {
				t.Errorf("in the end:\n%s\nbefore:\n%s", now, before)
			}
			if log, _ := os.ReadFile(logFile); strings.Contains(string(log), "kind=change") || strings.Contains(string(log), "kind=drift") {
				t.Errorf("the next program has changed the table:\n%s", log)
			}
		})
	}
}

// compared tells whether the program has compared the table, and finds all of it
// its own.
func compared(file string) error {
	out, err := shell("/mnt/lab/signalbox lvs status --json -c " + file)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var s lvs.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if s.Compared.IsZero() {
		return errors.New("not compared yet")
	}
	for _, v := range s.Services {
		for _, r := range v.Servers {
			if !v.Present || r.Phase != lvs.Up {
				return fmt.Errorf("%s: %s is %s", v.Name, r.Name, r.Phase)
			}
		}
	}
	return nil
}

// A MariaDB that hangs, as in a frozen I/O, is noticed by the check that asks it,
// where a connection alone would still be accepted by its kernel.
func TestHungDatabase(t *testing.T) {
	l := director(t)
	v4, _ := l.vip(t)
	database := l.mariadb(t)
	l.serve(t, l.far[1], "far2", 3306)
	r := start(t, settings("", "", fmt.Sprintf(`{name: reads, address: %s, ports: 4000, slow_start: 0s, on_failure: remove, real_servers: [`+
		`{name: asked, address: "%s:%d", check: {type: mysql, interval: 500ms, timeout: 1s, fall: 1}}, {name: touched, address: "%s:3306", check: {type: tcp}}]}`, v4, l.far[0].v4, databasePort, l.far[1].v4)), nil)
	k := tcp(v4, 4000)
	l.become(t, r.owner, k, "far1=100 far2=100")
	if err := database.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Logf("a stopped process is out after %s (asked every 500ms, 1s to answer)", l.become(t, r.owner, k, "far2=100").Round(time.Millisecond))
	if err := database.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	l.become(t, r.owner, k, "far1=100 far2=100")
}
