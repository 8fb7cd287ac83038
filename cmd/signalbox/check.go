package main

import (
	"flag"
	"fmt"

	"signalbox/config"
)

func runCheck(args []string, io stdio) int {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(io.err)
	file := flags.String("c", "/etc/signalbox.yaml", "configuration `file`")
	if !parse(flags, args, 0) {
		return 2
	}
	c, err := config.Load(*file)
	if err != nil {
		fmt.Fprintln(io.err, err)
		return 1
	}
	fmt.Fprintf(io.out, "%s: valid\n", *file)
	for _, l := range c.Listeners {
		fmt.Fprintf(io.out, "  clients connect to  %s (TLS %s)\n", l.Address, c.TLS.Mode)
	}
	fmt.Fprintf(io.out, "  operators look at   %s\n", c.Admin.Address)
	fmt.Fprintf(io.out, "  the writer is found by %s, policy %s\n", c.Authority.Source, c.Authority.Policy)
	for _, s := range c.Servers {
		source := ""
		if s.Role == config.RoleDRBD {
			source = ", DRBD read by " + s.DRBD.Source + " from " + s.DRBD.File
			if s.DRBD.Agent != "" {
				source = ", DRBD told by " + s.DRBD.Agent
			}
		}
		fmt.Fprintf(io.out, "  server %-12s %-8s %s%s\n", s.Name, s.Role, s.Address, source)
	}
	fmt.Fprintf(io.out, "  users: %d, rules: %d\n", len(c.Users), len(c.Router.Rules))
	return 0
}
