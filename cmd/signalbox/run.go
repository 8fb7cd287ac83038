package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"signalbox/admin"
	"signalbox/backend"
	"signalbox/config"
	"signalbox/drbdwatch"
	"signalbox/lvs"
	"signalbox/proxy"
)

// runRun serves until it gets SIGINT or SIGTERM.
func runRun(args []string, std stdio) int {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.SetOutput(std.err)
	file := flags.String("c", "/etc/signalbox.yaml", "configuration `file`")
	if !parse(flags, args, 0) {
		return 2
	}
	cfg, err := config.Load(*file)
	if err != nil {
		fmt.Fprintln(std.err, err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // the steady state allocates nothing: this costs no time and saves memory of idle clients
	}
	a, err := assemble(cfg, newLog(cfg.Log, std.err))
	if err == nil {
		err = a.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(std.err, "signalbox:", err)
		return 1
	}
	return 0
}

func newLog(cfg config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Level)) // checked by config
	o := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// assembly is the whole proxy, its addresses open but nothing running yet.
type assembly struct {
	cfg       *config.Config
	log       *slog.Logger
	watch     *drbdwatch.Watch
	cluster   *backend.Cluster
	proxy     *proxy.Proxy
	lvs       *lvs.Reconciler // nil without
	registry  *prometheus.Registry
	listeners []net.Listener
	admin     net.Listener // nil for none
	started   time.Time
}

func assemble(cfg *config.Config, log *slog.Logger) (*assembly, error) {
	a := &assembly{cfg: cfg, log: log, started: time.Now(), registry: prometheus.NewRegistry()}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	if a.watch, err = drbdwatch.New(cfg, log); err != nil {
		return nil, err
	}
	a.cluster = backend.New(cfg, a.watch, log, a.registry)
	if a.proxy, err = proxy.New(cfg, a.cluster, log, a.registry); err != nil {
		return nil, err
	}
	if a.lvs, err = newLVS(cfg, a.watch, a.cluster, log, a.registry); err != nil {
		return nil, err
	}
	if cfg.Admin.Address != "" {
		if a.admin, err = net.Listen("tcp", cfg.Admin.Address); err != nil {
			return nil, fmt.Errorf("admin.address: %w", err)
		}
	}
	if a.listeners, err = proxy.Listen(cfg.Listeners); err != nil {
		if a.admin != nil {
			_ = a.admin.Close()
		}
		return nil, err
	}
	return a, nil
}

// run serves until ctx ends. Clients go first; what they need goes after them.
func (a *assembly) run(ctx context.Context) error {
	below, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var group sync.WaitGroup
	errs := make([]error, 5)
	group.Go(func() { errs[0] = a.watch.Run(below) })
	group.Go(func() { errs[1] = a.cluster.Run(below) })
	if a.lvs != nil {
		group.Go(func() { errs[4] = a.lvs.Run(below) })
		if a.cfg.LVS.Mode == "kernel" {
			group.Go(func() { lvs.RunSync(below, &a.cfg.LVS, a.log) })
		}
	}
	if a.admin != nil {
		handler := admin.New(admin.Sources{Status: a.status, Ready: a.ready, LVS: lvsAPI(a.lvs), Events: a.events, SetMode: a.setMode,
			Token: a.cfg.Admin.Token.Reveal()}, a.registry)
		group.Go(func() { errs[2] = admin.Run(below, a.admin, handler, a.log) })
	}
	for _, l := range a.listeners {
		a.log.Info("listening", "address", l.Addr().String())
	}
	errs[3] = a.proxy.Run(ctx, a.listeners)
	cancel()
	group.Wait()
	return errors.Join(errs...)
}

// ready: clients can be served, if only with reads.
func (a *assembly) ready() (bool, string) {
	if w := a.cluster.Gate().Current(); w.Server != nil {
		return true, w.Server.Name + " takes writes"
	} else if a.proxy.Readable() {
		return true, "reads only: " + w.Sentence
	} else {
		return false, w.Sentence
	}
}
