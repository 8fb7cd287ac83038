package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runCommand runs one command in-process.
func runCommand(input string, args ...string) (status int, out, errors string) {
	var o, e bytes.Buffer
	status = dispatch(args, stdio{strings.NewReader(input), &o, &e})
	return status, o.String(), e.String()
}

func proc(name string) string { return "../../drbdwatch/testdata/proc/" + name + ".txt" }

func TestDRBDCommand(t *testing.T) {
	status, out, _ := runCommand("", "drbd", proc("L10-1"))
	if status != 0 || !strings.Contains(out, "the peer does not answer: check the link and that both firewalls let the resource's port (7789 by default) through") {
		t.Errorf("status %d: %s", status, out)
	}
	text, _ := os.ReadFile(proc("L2"))
	status, out, _ = runCommand(string(text), "drbd", "--json")
	var got struct {
		Version string
		Devices []map[string]any
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 || got.Version != "8.4.11" || len(got.Devices) != 2 {
		t.Fatalf("status %d, %v: %s", status, err, out)
	}
	first, second := got.Devices[0], got.Devices[1]
	if first["flags"] != "r----s" || first["decision"] != "deny" || first["oos_kib"] != 49112.0 || first["protocol"] != "" {
		t.Errorf("minor 0: %v", first)
	}
	if second["cs"] != "Unconfigured" || second["minor"] != 3.0 || second["reason"] != "unconfigured" || second["role"] != nil || second["oos_kib"] != nil {
		t.Errorf("minor 3: %v", second)
	}
	for _, bad := range []string{"", "garbage", "version: 9.2.4 (api:2)\n"} {
		if status, _, errors := runCommand(bad, "drbd"); status != 2 || !strings.Contains(errors, "may not take writes") {
			t.Errorf("%q: status %d, %s", bad, status, errors)
		}
	}
}

func TestDRBDCommandCombines(t *testing.T) {
	for _, tt := range []struct {
		a, b, writer, decision, reason string
		more                           []string
	}{
		{a: "L9", b: "L10-2", writer: "db1", decision: "route", reason: "healthy"},
		{a: "L10-1", b: "L10-2", writer: "db1", decision: "route-degraded", reason: "peer-unreachable"},
		{a: "L10-1", b: "L10b", decision: "deny", reason: "split-brain"},
		{a: "L13-1", b: "L13-2", decision: "deny", reason: "split-brain"},
		{a: "L16-1", b: "L16-2", decision: "deny", reason: "split-brain"},
		{a: "L10-1", b: "absent", decision: "hold", reason: "peer-unreachable"},
		{a: "L10-1", b: "absent", writer: "db1", decision: "route-degraded", reason: "peer-unreachable", more: []string{"--policy", "availability"}},
		{a: "L6", b: "L10-2", decision: "hold", reason: "io-suspended"},
		{a: "L11", b: "L11", decision: "hold", reason: "no-primary"},
	} {
		args := append([]string{"drbd", "--json", "--node", "db1=" + proc(tt.a), "--node", "db2=" + proc(tt.b)}, tt.more...)
		status, out, _ := runCommand("", args...)
		var got struct{ Writer, Decision, Reason, Advice string }
		if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 {
			t.Fatalf("status %d, %v: %s", status, err, out)
		}
		if got.Writer != tt.writer || got.Decision != tt.decision || got.Reason != tt.reason {
			t.Errorf("%s and %s: %+v, want %s %s %s", tt.a, tt.b, got, tt.writer, tt.decision, tt.reason)
		}
	}
}

func TestCheckCommand(t *testing.T) {
	if status, out, _ := runCommand("", "check", "-c", "../../examples/signalbox.yaml"); status != 0 || !strings.Contains(out, "valid") {
		t.Errorf("status %d: %s", status, out)
	}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("listenerz: []\nlog: {level: loud}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, errors := runCommand("", "check", "-c", bad)
	if status != 1 || strings.Count(errors, bad+":") != 2 {
		t.Errorf("status %d: %s", status, errors)
	}
	if status, _, _ := runCommand("", "check", "-c", "/nonexistent"); status != 1 {
		t.Errorf("status %d for a missing file", status)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"nonsense"}, {"drbd", "--nonsense"}, {"explain", "--nonsense"}, {"check", "too", "many"}} {
		if status, _, errors := runCommand("", args...); status != 2 || errors == "" {
			t.Errorf("%v: status %d, %q", args, status, errors)
		}
	}
	if status, out, _ := runCommand("", "help"); status != 0 || !strings.Contains(out, "explain") {
		t.Errorf("help: %d %s", status, out)
	}
}

func TestExplainReadsStandardInput(t *testing.T) {
	status, out, _ := runCommand("BEGIN\nSELECT 1\n\nCOMMIT\n", "explain", "--json", "--script")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if status != 0 || len(lines) != 3 || !strings.Contains(lines[1], `"target":"primary"`) || !strings.Contains(lines[1], `"pin":"until COMMIT or ROLLBACK"`) {
		t.Errorf("status %d:\n%s", status, out)
	}
}

// With a configuration and an account explain shows what that account's reads see.
func TestExplainShowsTheAccountsLevels(t *testing.T) {
	file := filepath.Join(t.TempDir(), "signalbox.yaml")
	text := "listeners: [{address: \"127.0.0.1:3306\"}]\nreads: {consistency: global}\n" +
		"users: [{name: web, password: x}, {name: report, password: x, consistency: eventual, max_lag: 1m}]\n" +
		"servers: [{name: db, role: primary, address: \"127.0.0.1:1\"}]\nauthority: {source: static}\nhealth: {user: h, password: x}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"--config " + file:               "consistency global",
		"--user web --config " + file:    "consistency global",
		"--user report --config " + file: "from a replica at most 1m0s behind\n         consistency eventual",
		"":                               "replica",
	} {
		status, out, errors := runCommand("", append(append([]string{"explain"}, strings.Fields(args)...), "SELECT a FROM t")...)
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: status %d, %s%s, want %q", args, status, out, errors, want)
		}
	}
	if status, _, errors := runCommand("", "explain", "--config", file, "--user", "nobody", "SELECT 1"); status != 1 || !strings.Contains(errors, `no user "nobody"`) {
		t.Errorf("an unknown account: status %d, %s", status, errors)
	}
}

func TestServerCommandUsage(t *testing.T) {
	for _, args := range [][]string{{"server"}, {"server", "drain"}, {"server", "explode", "r1"}, {"server", "list", "r1"}, {"server", "--nonsense"}} {
		if status, _, errors := runCommand("", args...); status != 2 || errors == "" {
			t.Errorf("%v: status %d, %q", args, status, errors)
		}
	}
	status, _, errors := runCommand("", "server", "drain", "r1", "--admin", "127.0.0.1:1", "-c", "/nonexistent")
	if status != 1 || !strings.Contains(errors, "is the proxy running there?") {
		t.Errorf("status %d: %s", status, errors)
	}
	if status, _, _ := runCommand("", "server", "-c", "/nonexistent", "list"); status != 1 {
		t.Errorf("status %d without a configuration", status)
	}
}
