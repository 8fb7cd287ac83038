// Command signalbox is the read/write-splitting MySQL proxy, its DRBD watcher
// and its tools. One file a command; each only reads flags and calls packages.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

// stdio is what a command reads and prints to, so that tests can run commands
// in-process.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// command is one subcommand; run returns the process's exit status: 0 done,
// 1 failed, 2 wrong usage or input that could not be understood.
type command struct {
	name, usage, about string
	run                func(args []string, io stdio) int
}

func commands() []command {
	return []command{
		{"explain", "explain [--config FILE] [--json] [--script] [SQL...]", "show where statements go and why", runExplain},
		{"drbd", "drbd [--json] [FILE | --node NAME=FILE ...]", "say what DRBD views mean and who may take writes", runDRBD},
		{"demo", "demo [--once]", "start a real cluster and watch statements being routed", runDemo},
		{"run", "run -c FILE", "run the proxy", runRun},
		{"agent", "agent -c FILE [--print] [--real-server]", "publish this DRBD node's state to the proxies", runAgent},
		{"notify", "notify [-c FILE] promote|demote|fenced|unfenced NODE", "tell the agent what a cluster manager does", runNotify},
		{"server", "server drain|disable|enable|list [NAME] [-c FILE | --admin ADDR]", "take a server out of reads, or back in", runServer},
		{"lvs", "lvs status|plan|apply|drain|undrain|serve|check [flags]", "the LVS role: look at it, drain servers, run its privileged part", runLVS},
		{"check", "check -c FILE", "validate a configuration and show what it means", runCheck},
		{"version", "version", "print the version", runVersion},
	}
}

func main() {
	os.Exit(dispatch(os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}))
}

func dispatch(args []string, io stdio) int {
	if len(args) == 0 {
		usage(io.err)
		return 2
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(args[1:], io)
		}
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(io.out)
		return 0
	}
	fmt.Fprintf(io.err, "signalbox: there is no command %q\n", args[0])
	usage(io.err)
	return 2
}

// parse reads flags and at most n arguments; when it fails the usage has been
// printed.
func parse(flags *flag.FlagSet, args []string, n int) bool {
	if flags.Parse(args) != nil {
		return false
	}
	if flags.NArg() > n {
		fmt.Fprintf(flags.Output(), "signalbox %s: unexpected %q\n", flags.Name(), flags.Arg(n))
		flags.Usage()
		return false
	}
	return true
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: signalbox COMMAND [flags]")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-58s %s\n", c.usage, c.about)
	}
}
