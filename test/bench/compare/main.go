// Command compare measures what a proxy costs: it starts a mariadbd, HAProxy as
// a TCP relay and Signalbox, runs the same sysbench loads straight and through
// each, in turns, and prints throughput, latency, processor time and memory side
// by side. It is what `make bench` runs.
//
// Everything runs on loopback in a directory of its own; nothing that is
// installed on the machine is configured or stopped, and nothing is left behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"signalbox/internal/child"
)

// options are the flags.
type options struct {
	plan
	binary      string // Signalbox; built when empty
	noSignalbox bool
	noHAProxy   bool
	split       bool
	json        string
}

func main() {
	o, err := parseFlags(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		err = compare(ctx, o, os.Stdout)
		stop()
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string, errs io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.SetOutput(errs)
	seconds := flags.Int("seconds", 3, "length of one measurement")
	flags.IntVar(&o.rounds, "rounds", 5, "measurements of each way, in turns; medians are printed")
	clients := flags.String("clients", "1,16,64", "numbers of sysbench clients")
	names := flags.String("workloads", "text,prepared,read-write,connect", "loads; empty for none")
	flags.IntVar(&o.tableSize, "rows", 10000, "rows of the table")
	flags.IntVar(&o.idle, "idle", 2000, "idle clients of the memory measurement; 0 for none")
	flags.DurationVar(&o.settle, "settle", 20*time.Second, "longest wait for idle memory to stop changing")
	quick := flags.Bool("quick", false, "one round of a second each and 200 idle clients: shows that it works, not how fast")
	flags.StringVar(&o.binary, "signalbox", "", "Signalbox `binary`; empty: built from this module")
	flags.BoolVar(&o.noSignalbox, "no-signalbox", false, "leave Signalbox out")
	flags.BoolVar(&o.noHAProxy, "no-haproxy", false, "leave HAProxy out")
	flags.BoolVar(&o.split, "split", false, "also through Signalbox with reads on a replica (both servers then write a binary log)")
	flags.StringVar(&o.json, "json", "", "also write all numbers to this `file`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if *quick {
		*seconds, o.rounds, o.idle, o.settle = 1, 1, min(o.idle, 200), 4*time.Second
	}
	o.length = time.Duration(*seconds) * time.Second
	var wrongLoad, wrongClients error
	o.workloads, wrongLoad = pickWorkloads(*names)
	o.plan.clients, wrongClients = pickClients(*clients)
	return o, errors.Join(wrongLoad, wrongClients, o.validate())
}

func compare(ctx context.Context, o options, out io.Writer) (err error) {
	if err := tools(o); err != nil {
		return err
	}
	if err := raiseFiles(uint64(4*o.idle + 4000)); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "signalbox-bench-")
	if err != nil {
		return fmt.Errorf("make a directory for the servers: %w", err)
	}
	defer os.RemoveAll(dir)
	b := &bed{dir: dir}
	defer b.close()
	if o.binary == "" && !o.noSignalbox {
		if o.binary, err = build(ctx, dir); err != nil {
			return err
		}
	}
	r := &report{Started: time.Now(), Machine: machine(ctx), Seconds: o.length.Seconds(), Rounds: o.rounds}
	if err := measureAll(ctx, b, o, r, out); err != nil {
		return err
	}
	r.Finished = time.Now()
	if o.json != "" {
		if err := r.write(o.json); err != nil {
			return err
		}
	}
	if n := r.failures(); n > 0 {
		return fmt.Errorf("%d measurements failed", n)
	}
	return nil
}

// tools looks for the programs of others that are run.
func tools(o options) error {
	needed := []string{"mariadbd", "mariadb-install-db"}
	if len(o.workloads) > 0 {
		needed = append(needed, "sysbench")
	}
	if !o.noHAProxy {
		needed = append(needed, "haproxy")
	}
	// Debian keeps the servers where a user's PATH may not look.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin"); err != nil {
		return err
	}
	var missing []error
	for _, name := range needed {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, fmt.Errorf("%s is not installed (Debian: apt-get install mariadb-server-core mariadb-client sysbench haproxy)", name))
		}
	}
	return errors.Join(missing...)
}

// build makes the Signalbox that is measured.
func build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "signalbox")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "signalbox/cmd/signalbox")
	if out, err := child.Output(cmd); err != nil {
		return "", fmt.Errorf("build signalbox (run this inside its module, or name a binary by -signalbox): %w: %s", err, out)
	}
	return binary, nil
}

func measureAll(ctx context.Context, b *bed, o options, r *report, out io.Writer) error {
	ways, err := b.ways(ctx, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s, %s processors; %s; %s; HAProxy %s, TCP mode, default threads (one a processor)\n",
		r.Machine["kernel"], r.Machine["processors"], r.Machine["sysbench"], r.Machine["mariadbd"], r.Machine["haproxy"])
	if len(o.workloads) > 0 {
		fmt.Fprintln(out, "CPU: the proxy's own, a statement, from /proc/PID/stat; to direct, to haproxy: ratios within each round")
		fmt.Fprintf(out, "medians of %d rounds of %v, the ways in turns: about %v\n", o.rounds, o.length, o.estimate(len(ways)).Round(time.Second))
		s := sysbench{dir: b.dir, table: o.tableSize}
		if err := s.prepare(ctx, ways[0].addr); err != nil {
			return err
		}
		if err := o.loads(ctx, s, ways, r, out); err != nil {
			return err
		}
	}
	if o.idle == 0 || len(ways) < 2 {
		return nil
	}
	return idleAll(ctx, b, o, ways, r, out)
}

func (p plan) loads(ctx context.Context, s sysbench, ways []way, r *report, out io.Writer) error {
	for _, w := range p.workloads {
		printHead(out, w.title)
		for _, n := range p.clients {
			cells, err := measure(ctx, s, p, w, n, ways)
			if err != nil {
				return err
			}
			printCells(out, cells)
			r.Cells = append(r.Cells, cells...)
		}
	}
	return nil
}

// ways starts the servers. The first way is the straight one.
func (b *bed) ways(ctx context.Context, o options) ([]way, error) {
	connections := o.idle + 500
	var more []string
	if o.split {
		more = []string{"--log-bin", "--binlog-format=ROW"}
	}
	database, err := b.database(ctx, "mariadbd", 1, connections, more...)
	if err != nil {
		return nil, err
	}
	if err := account(ctx, database); err != nil {
		return nil, fmt.Errorf("create the account: %w", err)
	}
	ways := []way{{name: "direct", addr: database}}
	if !o.noHAProxy {
		w, err := b.haproxy(ctx, database)
		if err != nil {
			return nil, err
		}
		ways = append(ways, w)
	}
	if o.noSignalbox {
		return ways, nil
	}
	w, err := b.signalbox(ctx, o.binary, "signalbox", database, "")
	if err != nil {
		return nil, err
	}
	ways = append(ways, w)
	if !o.split {
		return ways, nil
	}
	replica, err := b.replica(ctx, database, connections)
	if err != nil {
		return nil, err
	}
	w, err = b.signalbox(ctx, o.binary, "split", database, replica)
	return append(ways, w), err
}

// idleAll measures idle clients through a fresh process of each proxy, so that
// no memory is counted that the loads before left behind.
func idleAll(ctx context.Context, b *bed, o options, ways []way, r *report, out io.Writer) error {
	database := ways[0].addr
	for _, w := range ways[1:] {
		b.drop(w.proxy)
	}
	for _, w := range ways[1:] {
		var fresh way
		var err error
		switch w.name {
		case "haproxy":
			fresh, err = b.haproxy(ctx, database)
		case "signalbox":
			fresh, err = b.signalbox(ctx, o.binary, "signalbox", database, "")
		default:
			continue
		}
		if err != nil {
			return err
		}
		r.Idle = append(r.Idle, holdIdle(ctx, fresh, o.idle, o.settle))
		b.drop(fresh.proxy)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	printIdle(out, r.Idle)
	return nil
}

// machine describes what the numbers were taken on.
func machine(ctx context.Context) map[string]string {
	version := func(field int, name string, args ...string) string {
		out, _ := exec.CommandContext(ctx, name, args...).Output()
		line, _, _ := strings.Cut(string(out), "\n")
		if words := strings.Fields(line); len(words) > field {
			return words[field]
		}
		return "unknown"
	}
	return map[string]string{
		"kernel":     "Linux " + version(0, "uname", "-r"),
		"processors": fmt.Sprint(runtime.NumCPU()),
		"go":         runtime.Version(),
		"haproxy":    version(2, "haproxy", "-v"),
		"mariadbd":   "mariadbd " + version(2, "mariadbd", "--version"),
		"sysbench":   "sysbench " + version(1, "sysbench", "--version"),
	}
}
