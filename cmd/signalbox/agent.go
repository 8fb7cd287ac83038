package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os/signal"
	"sync"
	"syscall"

	"signalbox/agent"
	"signalbox/config"
)

const agentFile = "/etc/signalbox/agent.yaml"

// runAgent serves until it gets SIGINT or SIGTERM.
func runAgent(args []string, std stdio) int {
	flags := flag.NewFlagSet("agent", flag.ContinueOnError)
	flags.SetOutput(std.err)
	file := flags.String("c", agentFile, "configuration `file`")
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
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { a.Run(ctx) })
	err = a.Serve(ctx, ln)
	cancel()
	group.Wait()
	if err != nil {
		fmt.Fprintln(std.err, "signalbox agent:", err)
		return 1
	}
	return 0
}
