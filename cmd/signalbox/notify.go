package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"signalbox/agent"
	"signalbox/config"
)

// runNotify tells the agent on this host what a cluster manager or fencing
// agent does. It exits with 0 when that is known, 1 when it could not be told,
// and 3 when a demotion was told but a proxy may still write.
func runNotify(args []string, std stdio) int {
	flags := flag.NewFlagSet("notify", flag.ContinueOnError)
	flags.SetOutput(std.err)
	file := flags.String("c", agentFile, "configuration `file` of the agent on this host")
	wait := flags.Duration("wait", 10*time.Second, "demote: how long to wait until no proxy writes here")
	timeout := flags.Duration("timeout", 5*time.Second, "how long the agent may take to answer, beside that wait")
	quiet := flags.Bool("quiet", false, "print nothing but errors")
	if !parse(flags, args, 2) {
		return 2
	}
	n := agent.Notice{Action: flags.Arg(0), Node: flags.Arg(1)}
	switch n.Action {
	case "demote":
		n.Wait = *wait
	case "promote", "fenced", "unfenced":
	default:
		fmt.Fprintln(std.err, "signalbox notify: want promote, demote, fenced or unfenced, and a node")
		return 2
	}
	cfg, err := config.LoadAgent(*file)
	if err != nil {
		fmt.Fprintln(std.err, err)
		return 1
	}
	if n.Node == "" && (n.Action == "promote" || n.Action == "demote") {
		n.Node = cfg.Node
	}
	if n.Node == "" {
		fmt.Fprintf(std.err, "signalbox notify %s: which node?\n", n.Action)
		return 2
	}
	if *quiet {
		std.out = io.Discard
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.Wait+*timeout)
	defer cancel()
	return notify(ctx, cfg, &n, std)
}

func notify(ctx context.Context, cfg *config.AgentFile, n *agent.Notice, std stdio) int {
	answer, err := agent.Notify(ctx, cfg, n)
	if err != nil {
		fmt.Fprintln(std.err, "signalbox notify:", err)
		return 1
	}
	fmt.Fprintf(std.out, "%s %s: told; proxies listening: %d", n.Action, n.Node, answer.Proxies)
	if answer.Message != "" {
		fmt.Fprintf(std.out, "; %s", answer.Message)
	}
	fmt.Fprintln(std.out)
	if answer.Writing > 0 {
		fmt.Fprintf(std.err, "signalbox notify: %d of them may still write to %s\n", answer.Writing, n.Node)
		return 3
	}
	return 0
}
