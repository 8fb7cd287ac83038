package main

import (
	"context"
	"flag"
	"fmt"
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
	if !parse(flags, args, 2) {
		return 2
	}
	n := agent.Notice{Action: flags.Arg(0), Node: flags.Arg(1), Wait: *wait}
	switch n.Action {
	case "promote", "demote", "fenced":
	default:
		fmt.Fprintln(std.err, "signalbox notify: want promote, demote or fenced, and a node")
		return 2
	}
	cfg, err := config.LoadAgent(*file)
	if err != nil {
		fmt.Fprintln(std.err, err)
		return 1
	}
	if n.Node == "" && n.Action != "fenced" {
		n.Node = cfg.Node
	}
	if n.Node == "" {
		fmt.Fprintln(std.err, "signalbox notify fenced: which node is off?")
		return 2
	}
	ctx, cancel := context.WithTimeout(context.Background(), *wait+10*time.Second)
	defer cancel()
	answer, err := agent.Notify(ctx, cfg, &n)
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
