package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"signalbox/drbdwatch"
)

// nodeFiles collects --node NAME=FILE.
type nodeFiles []string

func (n *nodeFiles) String() string { return strings.Join(*n, " ") }

func (n *nodeFiles) Set(v string) error {
	if name, file, ok := strings.Cut(v, "="); !ok || name == "" || file == "" {
		return fmt.Errorf("want NAME=FILE")
	}
	*n = append(*n, v)
	return nil
}

// runDRBD says what saved DRBD views mean. It exits with 0 when they were
// understood, 2 when not.
func runDRBD(args []string, std stdio) int {
	flags := flag.NewFlagSet("drbd", flag.ContinueOnError)
	flags.SetOutput(std.err)
	asJSON := flags.Bool("json", false, "print JSON")
	policy := flags.String("policy", "strict", "with --node: strict, pinned or availability")
	pin := flags.String("pin", "", "with --node: the pinned `node`")
	var nodes nodeFiles
	flags.Var(&nodes, "node", "a node's saved view, `NAME=FILE`; repeat for each node and get the combined decision")
	if !parse(flags, args, 1) {
		return 2
	}
	if len(nodes) > 0 && flags.NArg() > 0 {
		fmt.Fprintln(std.err, "signalbox drbd: give either FILE or --node NAME=FILE")
		return 2
	}
	if len(nodes) > 0 {
		return combine(nodes, drbdwatch.Policy(*policy), *pin, *asJSON, std)
	}
	name, text, err := "standard input", []byte(nil), error(nil)
	if flags.NArg() == 1 {
		name = flags.Arg(0)
		text, err = os.ReadFile(name)
	} else {
		text, err = io.ReadAll(io.LimitReader(std.in, 1<<20))
	}
	var state *drbdwatch.State
	if err == nil {
		state, err = drbdwatch.ParseProc(text)
	}
	if err != nil {
		fmt.Fprintf(std.err, "signalbox drbd: %s: %v\nThis node may not take writes until its state can be understood.\n", name, err)
		return 2
	}
	if *asJSON {
		return printJSON(std, localJSON(state))
	}
	printLocal(std.out, state)
	return 0
}

// deviceJSON is one device in the JSON output; an unconfigured one has only its
// minor and cs beside the decision.
type deviceJSON struct {
	Minor       int      `json:"minor"`
	CS          string   `json:"cs"`
	Role        string   `json:"role,omitempty"`
	PeerRole    string   `json:"peer_role,omitempty"`
	Disk        string   `json:"disk,omitempty"`
	PeerDisk    string   `json:"peer_disk,omitempty"`
	Protocol    *string  `json:"protocol,omitempty"`
	Flags       string   `json:"flags,omitempty"`
	OutOfSync   *int64   `json:"oos_kib,omitempty"`
	SyncPercent *float64 `json:"sync_percent,omitempty"`
	Decision    string   `json:"decision"`
	Reason      string   `json:"reason"`
	Sentence    string   `json:"sentence"`
	Advice      string   `json:"advice"`
}

func localJSON(s *drbdwatch.State) any {
	devices := make([]deviceJSON, 0, len(s.Devices))
	for i := range s.Devices {
		d := &s.Devices[i]
		r := drbdwatch.Local(d)
		j := deviceJSON{Minor: d.Minor, CS: d.CS, Decision: r.Verdict.String(), Reason: r.Reason, Sentence: r.Sentence, Advice: r.Advice}
		if d.Configured {
			j.Role, j.PeerRole, j.Disk, j.PeerDisk, j.Flags, j.Protocol = d.Role, d.PeerRole, d.Disk, d.PeerDisk, d.Flags, &d.Protocol
			if d.OutOfSyncKiB >= 0 {
				j.OutOfSync = &d.OutOfSyncKiB
			}
			if d.SyncPercent >= 0 {
				j.SyncPercent = &d.SyncPercent
			}
		}
		devices = append(devices, j)
	}
	return map[string]any{"version": s.Version, "devices": devices}
}

func printJSON(std stdio, v any) int {
	e := json.NewEncoder(std.out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		fmt.Fprintln(std.err, "signalbox:", err)
		return 1
	}
	return 0
}

func printLocal(w io.Writer, s *drbdwatch.State) {
	fmt.Fprintf(w, "DRBD %s\n", s.Version)
	if len(s.Devices) == 0 {
		fmt.Fprintln(w, "  no device is configured: this node may not take writes (drbdadm up RESOURCE)")
	}
	for i := range s.Devices {
		d := &s.Devices[i]
		r := drbdwatch.Local(d)
		fmt.Fprintf(w, "%s\n  decision  %s (%s)\n  meaning   %s\n  advice    %s\n", d, r.Verdict, r.Reason, r.Sentence, r.Advice)
		if d.SyncPercent >= 0 {
			fmt.Fprintf(w, "  progress  %.1f%%\n", d.SyncPercent)
		}
	}
}

// combine prints what a proxy that saw these views would decide, the databases
// taken to be up and writable.
func combine(nodes nodeFiles, policy drbdwatch.Policy, pin string, asJSON bool, std stdio) int {
	in := drbdwatch.Inputs{Policy: policy, Pin: pin, Probes: map[string]drbdwatch.Probe{}}
	for _, n := range nodes {
		name, file, _ := strings.Cut(n, "=")
		v := drbdwatch.View{Node: name}
		text, err := os.ReadFile(file)
		if err == nil {
			v.State, err = drbdwatch.ParseProc(text)
		}
		if err != nil {
			v.Err = err.Error()
			fmt.Fprintf(std.err, "signalbox drbd: %s: %v\n", name, err)
		}
		in.Views = append(in.Views, v)
		in.Probes[name] = drbdwatch.Probe{Reachable: true}
	}
	d := drbdwatch.Decide(in)
	if asJSON {
		return printJSON(std, map[string]any{"writer": d.Writer, "decision": d.Verdict.String(), "reason": d.Reason,
			"sentence": d.Sentence, "advice": d.Advice})
	}
	writer := d.Writer
	if writer == "" {
		writer = "nobody"
	}
	fmt.Fprintf(std.out, "writer    %s\ndecision  %s (%s)\nmeaning   %s\nadvice    %s\n", writer, d.Verdict, d.Reason, d.Sentence, d.Advice)
	return 0
}
