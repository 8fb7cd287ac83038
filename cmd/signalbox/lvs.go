package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox/admin"
	"signalbox/backend"
	"signalbox/config"
	"signalbox/drbdwatch"
	"signalbox/lvs"
)

// newLVS prepares the LVS role, nil when it is off.
func newLVS(cfg *config.Config, watch *drbdwatch.Watch, cluster *backend.Cluster, log *slog.Logger, reg prometheus.Registerer) (*lvs.Reconciler, error) {
	if !cfg.LVS.On() {
		return nil, nil
	}
	sources := lvs.Sources{
		Cluster: func() lvs.Cluster {
			return lvs.FromCluster(cluster.Snapshot(), cluster.Gate().Current(), watch.Current(), cfg.LVS.MaxLag)
		},
		Changed: []func() <-chan struct{}{cluster.Changed, cluster.Gate().Changed},
	}
	kernel := lvs.Kernel(lvs.NewClient(cfg.LVS.Socket))
	if cfg.LVS.Mode == "kernel" {
		owner, err := lvs.NewOwner(cfg.LVS.StateDir, lvs.Exclusive(lvs.Virtuals(cfg)))
		if err != nil {
			return nil, err
		}
		kernel = owner
	}
	return lvs.New(cfg, sources, kernel, log, reg)
}

// lvsAPI is the role's part of the HTTP server.
func lvsAPI(r *lvs.Reconciler) *admin.LVS {
	if r == nil {
		return nil
	}
	return &admin.LVS{
		Status: func() any { return r.Status() },
		Events: func() any { return r.Events() },
		Plan:   func(ctx context.Context) (any, error) { return r.Plan(ctx) },
		Apply:  r.Now, Drain: r.Drain, Undrain: r.Undrain,
	}
}

const lvsUsage = `usage: signalbox lvs COMMAND [flags]
  status [--json]              services, their servers, and what is wrong
  events                       what happened lately
  plan                         what the next comparison with the kernel would change
  apply [--dry-run]            compare now; --dry-run is plan
  drain SERVER [--service S] [--patience 30s]
                               no new connections; those it has may end
  undrain SERVER [--service S]
  serve                        the privileged process of lvs.mode socket
  check [--apply] [--json]     is this host ready to be a director? --apply
                               writes the kernel settings that are missing
All take -c FILE; all but serve and check ask the running proxy (--url).
`

// runLVS is signalbox lvs.
func runLVS(args []string, std stdio) int {
	if len(args) == 0 {
		fmt.Fprint(std.err, lvsUsage)
		return 2
	}
	l := lvsCommand{std: std, name: args[0]}
	flags := flag.NewFlagSet("lvs "+args[0], flag.ContinueOnError)
	flags.SetOutput(std.err)
	file := flags.String("c", "/etc/signalbox.yaml", "configuration `file`")
	flags.StringVar(&l.url, "url", "", "`URL` of the proxy's HTTP server; from the configuration when empty")
	flags.BoolVar(&l.json, "json", false, "print JSON")
	flags.BoolVar(&l.dry, "dry-run", false, "apply: only show what would be changed")
	flags.BoolVar(&l.write, "apply", false, "check: write the kernel settings that are missing")
	flags.StringVar(&l.drain.Service, "service", "", "drain, undrain: only in this `service`")
	flags.StringVar(&l.drain.Patience, "patience", "", "drain: how long connections may go on, such as 30s")
	rest := args[1:]
	if (l.name == "drain" || l.name == "undrain") && len(rest) > 0 && rest[0] != "" && rest[0][0] != '-' {
		l.drain.Server, rest = rest[0], rest[1:] // flags may follow the server
	}
	if !parse(flags, rest, 1) {
		return 2
	}
	if l.drain.Server == "" {
		l.drain.Server = flags.Arg(0)
	}
	run, ok := map[string]func() error{"status": l.status, "events": l.events, "plan": l.plan, "apply": l.apply,
		"drain": l.post("drain"), "undrain": l.post("undrain"), "serve": l.serve, "check": l.check}[l.name]
	if !ok {
		fmt.Fprintf(std.err, "signalbox lvs: there is no command %q\n%s", l.name, lvsUsage)
		return 2
	}
	if l.url == "" || l.name == "serve" || l.name == "check" {
		cfg, err := config.Load(*file)
		if err != nil {
			fmt.Fprintln(std.err, err)
			return 1
		}
		l.cfg = cfg
		l.url = "http://" + cfg.Admin.Address
	}
	if err := run(); err != nil {
		fmt.Fprintln(std.err, "signalbox lvs:", err)
		return 1
	}
	return 0
}

// lvsCommand is one run of signalbox lvs.
type lvsCommand struct {
	std   stdio
	name  string
	cfg   *config.Config // nil when --url is given
	url   string
	json  bool
	dry   bool
	write bool // of check: --apply
	drain admin.LVSDrain
}

// serve holds the privilege for a proxy without, until SIGINT or SIGTERM.
func (l *lvsCommand) serve() error {
	if l.cfg.LVS.Mode != "socket" {
		return fmt.Errorf("lvs.mode is %q: with kernel the proxy itself keeps the table; set socket to use this process", l.cfg.LVS.Mode)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := newLog(l.cfg.Log, l.std.err)
	s, err := lvs.NewServer(l.cfg, log)
	if err != nil {
		return err
	}
	ln, err := lvs.ListenSocket(l.cfg.LVS.Socket)
	if err != nil {
		return err
	}
	log.Info("listening", "address", l.cfg.LVS.Socket, "uid", os.Geteuid())
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { lvs.RunSync(ctx, &l.cfg.LVS, log) })
	defer stop()
	return s.Run(ctx, ln)
}

// ask sends a request to the running proxy; its answer is decoded into v.
func (l *lvsCommand) ask(method, path string, body, v any) error {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, l.url+path, sent)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if l.cfg != nil && l.cfg.Admin.Token != "" {
		r.Header.Set("Authorization", "Bearer "+l.cfg.Admin.Token.Reveal())
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("ask the proxy: %w: is it running, and is admin.address right?", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("read the proxy's answer: %w", err)
	}
	var failed struct{ Error string }
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("the proxy at %s has no LVS role: set lvs.mode", l.url)
	case resp.StatusCode/100 != 2 && json.Unmarshal(text, &failed) == nil && failed.Error != "":
		return fmt.Errorf("%s", failed.Error)
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("the proxy answers %s", resp.Status)
	case l.json:
		_, err = l.std.out.Write(text)
		return err
	}
	return json.Unmarshal(text, v)
}

func (l *lvsCommand) post(what string) func() error {
	return func() error {
		if l.drain.Server == "" {
			return fmt.Errorf("%s: which server?", what)
		}
		var done struct{ Done string }
		if err := l.ask(http.MethodPost, "/lvs/"+what, l.drain, &done); err != nil || l.json {
			return err
		}
		fmt.Fprintf(l.std.out, "%s: %s\n", l.drain.Server, done.Done)
		return nil
	}
}

func (l *lvsCommand) apply() error {
	if l.dry {
		return l.plan()
	}
	var done struct{ Done string }
	if err := l.ask(http.MethodPost, "/lvs/apply", struct{}{}, &done); err != nil || l.json {
		return err
	}
	fmt.Fprintln(l.std.out, done.Done)
	return nil
}

func (l *lvsCommand) plan() error {
	var p lvs.Planned
	if err := l.ask(http.MethodGet, "/lvs/plan", nil, &p); err != nil || l.json {
		return err
	}
	for _, o := range p.Operations {
		fmt.Fprintln(l.std.out, o)
	}
	for _, c := range p.Conflicts {
		fmt.Fprintf(l.std.out, "conflict: %s is taken: %s; %s\n", c.Service, c.Found, c.Advice)
	}
	if len(p.Operations)+len(p.Conflicts) == 0 {
		fmt.Fprintln(l.std.out, "nothing to do: the kernel's table is as it should be")
	}
	return nil
}

func (l *lvsCommand) events() error {
	var list []lvs.Event
	if err := l.ask(http.MethodGet, "/lvs/events", nil, &list); err != nil || l.json {
		return err
	}
	for _, e := range list {
		fmt.Fprintf(l.std.out, "%s %-8s %s %s %s\n", e.Time.Format("2006-01-02 15:04:05.000"), e.Kind, e.Service, e.Server, e.Text)
	}
	return nil
}

func (l *lvsCommand) status() error {
	var s lvs.Status
	if err := l.ask(http.MethodGet, "/lvs", nil, &s); err != nil || l.json {
		return err
	}
	printLVS(l.std.out, &s)
	return nil
}

func printLVS(out io.Writer, s *lvs.Status) {
	if s.Error != "" {
		fmt.Fprintf(out, "error: %s\n", s.Error)
	}
	for _, c := range s.Conflicts {
		fmt.Fprintf(out, "conflict: %s is taken: %s; %s\n", c.Service, c.Found, c.Advice)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, v := range s.Services {
		note := ""
		if !v.Present {
			note = ", not in the kernel as ours"
		}
		if !v.Quorate {
			note += ", too few servers"
		}
		fmt.Fprintf(w, "%s\t%s%s\t%s, %s%s\n", v.Name, v.Virtual[0], more(len(v.Virtual)-1), v.Settings, v.Kind, note)
		for _, r := range v.Servers {
			fmt.Fprintf(w, "  %s\t%s %s\t%s\tweight %d\tactive %d\tinactive %d\t%s\n", r.Name, r.Address, r.Forward, r.Phase, r.Weight, r.Active, r.Inactive, r.Why)
		}
	}
	_ = w.Flush()
	for _, f := range s.Foreign {
		fmt.Fprintf(out, "not ours: %s\n", f)
	}
}

func more(n int) string {
	if n > 0 {
		return fmt.Sprintf(" and %d more", n)
	}
	return ""
}
