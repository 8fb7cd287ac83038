package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"signalbox/agent"
	"signalbox/config"
	"signalbox/lvs"
)

const agentFile = "/etc/signalbox/agent.yaml"

// runAgent serves until it gets SIGINT or SIGTERM.
func runAgent(args []string, std stdio) int {
	flags := flag.NewFlagSet("agent", flag.ContinueOnError)
	flags.SetOutput(std.err)
	file := flags.String("c", agentFile, "configuration `file`")
	real := flags.Bool("real-server", false, "be a real server of real_server.vips too; needs root")
	once := flags.Bool("print", false, "print once what the proxies would be told, and end")
	if !parse(flags, args, 0) {
		return 2
	}
	cfg, err := config.LoadAgent(*file)
	if err != nil {
		fmt.Fprintln(std.err, err)
		return 1
	}
	log := newLog(cfg.Log, std.err)
	a, err := agent.New(cfg, log)
	if err != nil {
		fmt.Fprintln(std.err, "signalbox agent:", err)
		return 1
	}
	// A system call that waits for the kernel, such as a dump while DRBD carries out
	// a command, must not stop the heartbeats on a node with one processor.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 4))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if *once {
		e := json.NewEncoder(std.out)
		e.SetIndent("", "  ")
		_ = e.Encode(a.Once(ctx))
		return 0
	}
	ln, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		fmt.Fprintln(std.err, "signalbox agent: address:", err)
		return 1
	}
	log.Info("listening", "address", ln.Addr().String(), "node", cfg.Node)
	server, err := realServer(cfg, *real, log)
	if err != nil {
		_ = ln.Close()
		fmt.Fprintln(std.err, "signalbox agent: real server:", err)
		return 1
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { a.Run(ctx) })
	if server != nil {
		group.Go(func() { server.Run(ctx) })
	}
	err = a.Serve(ctx, ln)
	cancel()
	group.Wait()
	if err != nil {
		fmt.Fprintln(std.err, "signalbox agent:", err)
		return 1
	}
	return 0
}

// realServer makes this host a real server, nil when it is not asked to.
func realServer(cfg *config.AgentFile, on bool, log *slog.Logger) (*lvs.RealServer, error) {
	if !on {
		return nil, nil
	}
	r := &lvs.RealServer{VIPs: cfg.Real.Addresses(), Log: log}
	if len(r.VIPs) == 0 {
		return nil, errors.New("real_server.vips is empty: name the virtual addresses")
	}
	if cfg.State != "" {
		r.Memory = filepath.Join(cfg.State, "real-server.json")
	}
	if err := r.Up(); err != nil {
		return nil, errors.Join(err, r.Down())
	}
	return r, nil
}
