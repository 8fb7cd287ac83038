package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"signalbox/config"
	"signalbox/internal/sandbox"
	"signalbox/router"
)

// runDemo starts a real cluster with the proxy in front, and shows statements
// being routed, a switchover, and what to try.
func runDemo(args []string, std stdio) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(std.err)
	once := flags.Bool("once", false, "end after the demonstration instead of staying up")
	verbose := flags.Bool("v", false, "print the proxy's log")
	if !parse(flags, args, 0) {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.DiscardHandler)
	if *verbose {
		log = newLog(config.Log{Level: "info"}, std.err)
	}
	d := &demo{std: std, log: log}
	err := d.run(ctx, *once)
	if ctx.Err() != nil {
		fmt.Fprintln(std.out, "\nStopping; everything that was started is removed.")
		return 0
	}
	if err != nil {
		fmt.Fprintln(std.err, "signalbox demo:", err)
		return 1
	}
	return 0
}

type demo struct {
	std     stdio
	log     *slog.Logger
	cluster *sandbox.Cluster
	proxy   *assembly
	agents  *demoAgents
	explain explainer
	names   map[int]string // servers by port
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.std.out, format+"\n", args...) }

func (d *demo) run(ctx context.Context, once bool) (err error) {
	begin := time.Now()
	d.say("Starting a DRBD pair (db1, db2; the DRBD is a stand-in, the servers are real),")
	d.say("two replicas (r1, r2) and Signalbox in front of them ...")
	if d.cluster, err = sandbox.Start(ctx, sandbox.Options{Heartbeat: true}); err != nil {
		return err
	}
	defer d.cluster.Stop()
	if d.agents, err = newDemoAgents(d.cluster, d.log); err != nil {
		return err
	}
	cfg, err := config.Parse("demo", []byte(d.cluster.ConfigAgents(d.agents.addresses)))
	if err != nil {
		return err
	}
	if d.proxy, err = assemble(cfg, d.log); err != nil {
		return err
	}
	below, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	served := make([]error, 1+len(d.agents.serving))
	group.Go(func() { served[0] = d.proxy.run(below) })
	for i, serve := range d.agents.serving {
		group.Go(func() { served[1+i] = serve(below) })
	}
	defer func() {
		cancel()
		group.Wait()
		err = errors.Join(append(served, err)...)
	}()
	if err := d.await(ctx); err != nil {
		return err
	}
	d.say("Ready after %.1f s.\n", time.Since(begin).Seconds())
	if err := d.show(ctx); err != nil {
		return err
	}
	if once {
		return nil
	}
	return d.stay(ctx)
}

// await waits until writes and reads can be routed.
func (d *demo) await(ctx context.Context) error {
	d.names = make(map[int]string)
	for _, s := range []string{"db1", "db2", "r1", "r2"} {
		d.names[d.cluster.Port(s)] = s
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		up := 0
		for _, st := range d.proxy.cluster.Snapshot().Servers {
			if st.Up && st.LagKnown {
				up++
			}
		}
		if d.proxy.cluster.Gate().Current().Server != nil && up == 2 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster is not ready: %s", d.proxy.watch.Current().Sentence)
		case <-tick.C:
		}
	}
}

// show runs statements through the endpoint and a switchover in between.
func (d *demo) show(ctx context.Context) error {
	db, err := sql.Open("mysql", sandbox.DSN(d.cluster.Endpoint()))
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	d.explain = explainer{classifier: router.NewClassifier(config.Router{}), out: io.Discard}
	d.explain.session.Reset()
	d.say("%-52s %-9s %s", "statement through the one endpoint", "ran on", "why")
	for _, s := range []string{
		"CREATE TABLE IF NOT EXISTS orders (id INT AUTO_INCREMENT PRIMARY KEY, item VARCHAR(20))",
		"INSERT INTO orders (item) VALUES ('signal lamp'), ('lever')",
		"SELECT COUNT(*) FROM orders",
	} {
		if err := d.statement(ctx, conn, s); err != nil {
			return err
		}
	}
	d.say("  a session reads its own writes: on the primary until a replica is known to have them")
	if err := d.cluster.CaughtUp(ctx); err != nil {
		return err
	}
	for range 4 {
		if err := d.replicaRead(ctx, conn); err != nil {
			return err
		}
	}
	for _, s := range []string{"SELECT item FROM orders WHERE id = 1 FOR UPDATE", "START TRANSACTION",
		"SELECT COUNT(*) FROM orders", "UPDATE orders SET item = 'red lamp' WHERE id = 1", "COMMIT"} {
		if err := d.statement(ctx, conn, s); err != nil {
			return err
		}
	}
	return d.switchover(ctx, conn)
}

// replicaRead reads when the session's writes are known to be on a replica.
func (d *demo) replicaRead(ctx context.Context, conn *sql.Conn) error {
	for range 100 {
		var port int
		if err := conn.QueryRowContext(ctx, "SELECT @@port").Scan(&port); err != nil {
			return err
		}
		if name := d.names[port]; strings.HasPrefix(name, "r") {
			d.line("SELECT @@port", name)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	d.line("SELECT @@port", "primary")
	return nil
}

func (d *demo) line(statement, ran string) {
	st := d.explain.classifier.Classify([]byte(statement), 0)
	dec := router.Decide(&d.explain.session, st, nil)
	if len(statement) > 50 {
		statement = statement[:47] + "..."
	}
	d.say("%-52s %-9s %s", statement, ran, dec.Reason)
}

// statement runs one statement and tells where it ran, by the proxy's own
// account.
func (d *demo) statement(ctx context.Context, conn *sql.Conn, statement string) error {
	before := d.ran()
	if strings.HasPrefix(statement, "SELECT") {
		rows, err := conn.QueryContext(ctx, statement)
		if err != nil {
			return err
		}
		for rows.Next() {
		}
		if err := rows.Close(); err != nil {
			return err
		}
	} else if _, err := conn.ExecContext(ctx, statement); err != nil {
		return err
	}
	d.line(statement, d.whoRan(before))
	return nil
}

// whoRan is the server whose count has risen; the proxy counts a statement just
// after its answer has gone out.
func (d *demo) whoRan(before map[string]uint64) string {
	for range 100 {
		for name, n := range d.ran() {
			if n > before[name] {
				return name
			}
		}
		time.Sleep(time.Millisecond)
	}
	return "the proxy"
}

// ran is how many statements each server has answered for clients.
func (d *demo) ran() map[string]uint64 { return d.proxy.proxy.Answered() }

// switchover moves the Primary and shows the writes follow.
func (d *demo) switchover(ctx context.Context, conn *sql.Conn) error {
	from := d.cluster.Active()
	d.say("\nSwitchover: it is announced (signalbox notify demote %s), the server there is stopped,", from)
	d.say("the other node promoted and its server started, while a client goes on writing ...")
	done := make(chan error, 1)
	var phases sandbox.Phases
	begin := time.Now()
	go func() {
		var err error
		phases, err = d.move(ctx)
		done <- err
	}()
	worst, failed := time.Duration(0), 0
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			running = false
		default:
		}
		at := time.Now()
		if _, err := conn.ExecContext(ctx, "INSERT INTO orders (item) VALUES ('during')"); err != nil {
			failed++
			d.say("  the client saw: %v", err)
		}
		worst = max(worst, time.Since(at))
	}
	d.say("Done in %d ms (stop %d, promote %d, start %d). The longest write took %d ms; %d failed.", time.Since(begin).Milliseconds(),
		phases.Stop.Milliseconds(), phases.Promote.Milliseconds(), phases.Start.Milliseconds(), worst.Milliseconds(), failed)
	return d.statement(ctx, conn, "INSERT INTO orders (item) VALUES ('after')")
}

// move is what a cluster manager does in a planned switchover.
func (d *demo) move(ctx context.Context) (sandbox.Phases, error) {
	return d.cluster.Switchover(ctx, func(node string) error { return d.agents.demote(ctx, node) })
}

// stay keeps the cluster up and takes single letters.
func (d *demo) stay(ctx context.Context) error {
	host, port, _ := strings.Cut(d.cluster.Endpoint(), ":")
	d.say(`
The cluster stays up. Try, in another terminal:
  mariadb -h %s -P %s -u %s -p%s %s
  curl -s http://%s/metrics | grep ^signalbox
  http://%s/ in a browser: who is Primary and why
Here: s + Enter switches over, b makes a split brain, f freezes the Primary's I/O, h heals
either, Ctrl-C ends.
While statements run, the share of reads and the lag are shown every two seconds.`,
		host, port, sandbox.AppUser, sandbox.AppPassword, sandbox.Schema, d.cluster.Admin(), d.cluster.Admin())
	keys := make(chan string)
	go func() { // ends with the process: a read of a terminal cannot be interrupted
		lines := bufio.NewScanner(d.std.in)
		for lines.Scan() {
			keys <- strings.TrimSpace(lines.Text())
		}
	}()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	before := d.reads()
	for {
		changed := d.proxy.watch.Changed()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			now := d.reads()
			d.shares(before, now)
			before = now
		case <-changed:
			a := d.proxy.watch.Current()
			d.say("  authority: %s (%s) %s", a.Verdict, a.Reason, a.Sentence)
		case k := <-keys:
			if err := d.key(ctx, k); err != nil {
				d.say("  %v", err)
			}
		}
	}
}

// reads is how many reads each server got.
func (d *demo) reads() map[string]uint64 {
	all := make(map[string]uint64)
	for _, r := range d.proxy.proxy.Reads() {
		all[r.Server] += r.Count
	}
	return all
}

// shares shows each server's share of the reads in between, and its lag.
func (d *demo) shares(before, now map[string]uint64) {
	total, line := uint64(0), ""
	for name := range now {
		total += now[name] - before[name]
	}
	if total == 0 {
		return
	}
	for _, st := range d.proxy.cluster.Snapshot().Servers {
		n := now[st.Server.Name] - before[st.Server.Name]
		switch {
		case st.LagKnown:
			line += fmt.Sprintf("   %s %3d %% (lag %d ms)", st.Server.Name, (n*100+total/2)/total, st.Lag.Milliseconds())
		case n > 0:
			line += fmt.Sprintf("   %s %3d %%", st.Server.Name, (n*100+total/2)/total)
		}
	}
	d.say("  %5d reads:%s", total, line)
}

func (d *demo) key(ctx context.Context, k string) error {
	switch k {
	case "s":
		_, err := d.move(ctx)
		return err
	case "b":
		d.cluster.SplitBrain()
	case "f":
		d.cluster.Freeze()
	case "h":
		d.cluster.Heal()
	}
	return nil
}
