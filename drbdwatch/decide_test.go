package drbdwatch

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func device(cs, roles, disks, flags string) Device {
	s, err := ParseProc([]byte(head84 + fmt.Sprintf(" 0: cs:%s ro:%s ds:%s C %s\n", cs, roles, disks, flags)))
	if err != nil {
		panic(err)
	}
	return s.Devices[0]
}

func seen(node string, devices ...Device) View {
	return View{Node: node, State: &State{Version: "8.4.11", Devices: devices}, Age: 10 * time.Millisecond, Fresh: time.Second}
}

var (
	up       = Probe{Reachable: true}
	probes   = map[string]Probe{"a": up, "b": up, "c": up, "d": up, "e": up}
	standby  = device("Connected", "Secondary/Primary", "UpToDate/UpToDate", "r-----")
	lonely   = device("WFConnection", "Secondary/Unknown", "UpToDate/DUnknown", "r-----")
	healthy  = device("Connected", "Primary/Secondary", "UpToDate/UpToDate", "r-----")
	alone    = device("WFConnection", "Primary/Unknown", "UpToDate/DUnknown", "r-----")
	marked   = device("WFConnection", "Primary/Unknown", "UpToDate/Outdated", "r-----")
	detached = device("StandAlone", "Primary/Unknown", "UpToDate/DUnknown", "r-----")
	dual     = device("Connected", "Primary/Primary", "UpToDate/UpToDate", "r-----")
)

func with(d Device, change func(*Device)) Device {
	change(&d)
	return d
}

// TestTruthTable has a case or more for each row of docs/authority.md.
func TestTruthTable(t *testing.T) {
	blind := View{Node: "b", Err: "open /proc/drbd: no such file"}
	old := seen("b", lonely)
	old.Age = time.Hour
	fenced := View{Node: "b", Fenced: true}
	primary := func(cs, disks string) View { return seen("a", device(cs, "Primary/Secondary", disks, "r-----")) }
	tests := []struct {
		name    string
		a, b    View
		policy  Policy
		pin     string
		writer  string
		verdict Verdict
		reason  string
	}{
		{"row 1", seen("a", healthy), seen("b", standby), Strict, "", "a", Route, "healthy"},
		{"row 1 without the peer's view", seen("a", healthy), blind, Strict, "", "a", Route, "healthy"},
		{"row 2", primary("VerifyS", "UpToDate/UpToDate"), seen("b", standby), Strict, "", "a", Route, "verifying"},
		{"row 2 target", primary("VerifyT", "UpToDate/UpToDate"), seen("b", standby), Strict, "", "a", Route, "verifying"},
		{"row 3", primary("SyncSource", "UpToDate/Inconsistent"), seen("b", standby), Strict, "", "a", RouteDegraded, "sync-source"},
		{"row 3 paused", primary("PausedSyncS", "UpToDate/Outdated"), seen("b", standby), Strict, "", "a", RouteDegraded, "sync-source"},
		{"row 4", primary("Connected", "UpToDate/Diskless"), seen("b", standby), Strict, "", "a", RouteDegraded, "peer-disk"},
		{"row 5", primary("Ahead", "UpToDate/Outdated"), seen("b", standby), Strict, "", "a", RouteDegraded, "ahead"},
		{"row 6", primary("Connected", "Diskless/UpToDate"), seen("b", standby), Strict, "", "a", RouteDegraded, "diskless-primary"},
		{"row 7", primary("SyncTarget", "Inconsistent/UpToDate"), seen("b", standby), Strict, "", "a", RouteDegraded, "sync-target"},
		{"row 8", primary("WFBitMapT", "Inconsistent/UpToDate"), seen("b", standby), Strict, "", "", Hold, "sync-handshake"},
		{"row 8 attaching", primary("Connected", "Attaching/UpToDate"), seen("b", standby), Strict, "", "", Hold, "attaching"},
		{"row 9 sole", seen("a", alone), seen("b", lonely), Strict, "", "a", RouteDegraded, "peer-unreachable"},
		{"row 9 peer unseen", seen("a", alone), blind, Strict, "", "", Hold, "peer-unreachable"},
		{"row 9 peer stale", seen("a", alone), old, Strict, "", "", Hold, "peer-unreachable"},
		{"row 9 peer fenced", seen("a", alone), fenced, Strict, "", "a", RouteDegraded, "peer-unreachable"},
		{"row 9 pinned", seen("a", alone), blind, Pinned, "a", "a", RouteDegraded, "peer-unreachable"},
		{"row 9 the other pinned", seen("a", alone), blind, Pinned, "b", "", Hold, "peer-unreachable"},
		{"row 9 availability", seen("a", alone), blind, Availability, "", "a", RouteDegraded, "peer-unreachable"},
		{"row 9 quorum", seen("a", with(alone, func(d *Device) { d.Quorum = QuorumYes })), blind, Strict, "", "a", RouteDegraded, "peer-unreachable"},
		{"row 9 handshake", primary("WFReportParams", "UpToDate/DUnknown"), blind, Strict, "", "", Hold, "peer-unreachable"},
		{"row 10 sole", seen("a", marked), seen("b", lonely), Strict, "", "a", RouteDegraded, "peer-outdated"},
		{"row 10 peer unseen", seen("a", marked), blind, Strict, "", "", Hold, "peer-outdated"},
		{"row 10 lying handlers", seen("a", marked), seen("b", marked), Strict, "", "", Deny, "split-brain"},
		{"row 11", seen("a", detached), seen("b", lonely), Strict, "", "", Deny, "standalone"},
		{"row 11 sole and pinned", seen("a", detached), seen("b", lonely), Pinned, "a", "a", RouteDegraded, "standalone"},
		{"row 11 pinned, not sole", seen("a", detached), blind, Pinned, "a", "", Deny, "standalone"},
		{"row 12", seen("a", device("Connected", "Primary/Secondary", "UpToDate/UpToDate", "s-----")), seen("b", standby), Strict, "", "", Hold, "io-suspended"},
		{"row 12 peer unseen", seen("a", device("WFConnection", "Primary/Unknown", "UpToDate/DUnknown", "s-----")), blind, Strict, "", "", Hold, "io-suspended"},
		{"row 12 frozen inside", seen("a", device("Connected", "Primary/Secondary", "UpToDate/UpToDate", "r---d-")), seen("b", standby), Strict, "", "", Hold, "io-suspended"},
		{"row 13", seen("a", device("WFConnection", "Primary/Unknown", "Inconsistent/DUnknown", "r-----")), seen("b", lonely), Strict, "", "", Deny, "no-good-disk"},
		{"row 13 diskless", seen("a", device("StandAlone", "Primary/Unknown", "Diskless/DUnknown", "r-----")), seen("b", lonely), Availability, "", "", Deny, "no-good-disk"},
		{"row 14", primary("Connected", "Outdated/UpToDate"), seen("b", standby), Strict, "", "", Deny, "outdated"},
		{"row 14 behind", primary("Behind", "Inconsistent/UpToDate"), seen("b", standby), Strict, "", "", Deny, "outdated"},
		{"row 15", seen("a", dual), seen("b", dual), Strict, "", "", Deny, "dual-primary"},
		{"row 15 one view", seen("a", dual), blind, Strict, "", "", Deny, "dual-primary"},
		{"row 15 pinned", seen("a", dual), seen("b", dual), Strict, "b", "b", RouteDegraded, "dual-primary"},
		{"row 16", seen("a", alone), seen("b", alone), Availability, "", "", Deny, "split-brain"},
		{"row 16 pinned", seen("a", detached), seen("b", detached), Pinned, "a", "", Deny, "split-brain"},
		{"row 17 and 18", seen("a", standby), seen("b", standby), Strict, "", "", Hold, "no-primary"},
		{"row 19", seen("a", with(healthy, func(d *Device) { d.Quorum = QuorumNo })), seen("b", standby), Strict, "", "", Deny, "no-quorum"},
		{"row 20", seen("a", with(healthy, func(d *Device) { d.ForceIOFailures = true })), seen("b", standby), Strict, "", "", Deny, "force-io-failures"},
		{"row 21 counts as not Primary", seen("a", alone), seen("b"), Strict, "", "a", RouteDegraded, "peer-unreachable"},
		{"row 22", View{Node: "a", Err: "line 3: disk state"}, seen("b", lonely), Strict, "", "", Hold, "no-fresh-view"},
		{"row 24", seen("a", healthy, with(healthy, func(d *Device) { d.Minor, d.Disk = 1, "Outdated" })), seen("b", standby), Strict, "", "", Deny, "outdated"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := Decide(Inputs{Views: []View{tt.a, tt.b}, Probes: probes, Policy: tt.policy, Pin: tt.pin, Quorum: true})
			if d.Writer != tt.writer || d.Verdict != tt.verdict || d.Reason != tt.reason {
				t.Fatalf("%q %v %s (%s)\nwant %q %v %s", d.Writer, d.Verdict, d.Reason, d.Sentence, tt.writer, tt.verdict, tt.reason)
			}
			if d.Sentence == "" {
				t.Error("no sentence for people")
			}
			frozen := tt.reason == "sync-handshake" || tt.reason == "attaching" || tt.reason == "io-suspended"
			if want := map[bool]string{true: "a"}[frozen && tt.b.trusted()]; d.Paused != want {
				t.Errorf("paused: %q, want %q", d.Paused, want)
			}
		})
	}
}

func TestProbeGatesTheWriter(t *testing.T) {
	for reason, p := range map[string]map[string]Probe{
		"writer-unprobed":    {},
		"writer-unreachable": {"a": {Reason: "connection refused"}},
		"writer-read-only":   {"a": {Reachable: true, ReadOnly: true}},
	} {
		d := Decide(Inputs{Views: []View{seen("a", healthy), seen("b", standby)}, Probes: p, Policy: Strict})
		if d.Writer != "" || d.Verdict != Hold || d.Reason != reason {
			t.Errorf("%s: %+v", reason, d)
		}
	}
}

func TestByReadOnly(t *testing.T) {
	closed := Probe{Reachable: true, ReadOnly: true}
	down := Probe{Reason: "refused"}
	for _, tt := range []struct {
		a, b           Probe
		writer, reason string
	}{{up, closed, "a", "read-only-off"}, {closed, up, "b", "read-only-off"}, {up, up, "", "several-writers"},
		{closed, closed, "", "all-read-only"}, {down, closed, "", "writer-unreachable"}, {down, up, "b", "read-only-off"}} {
		d := DecideByReadOnly([]string{"a", "b"}, map[string]Probe{"a": tt.a, "b": tt.b})
		if d.Writer != tt.writer || d.Reason != tt.reason {
			t.Errorf("%+v %+v: %+v", tt.a, tt.b, d)
		}
	}
}

// drawViews draws any combination of views of up to five nodes.
func drawViews(t *rapid.T) []View {
	names := []string{"a", "b", "c", "d", "e"}
	views := make([]View, rapid.IntRange(1, 5).Draw(t, "nodes"))
	for i := range views {
		views[i] = View{Node: names[i], Age: 10 * time.Millisecond, Fresh: time.Second, Leaving: rapid.IntRange(0, 9).Draw(t, "leaving") == 0}
		switch rapid.IntRange(0, 6).Draw(t, "view") {
		case 0:
			views[i].Err = "unreadable"
		case 1:
			views[i].Age = time.Hour
			fallthrough
		default:
			views[i].State = &State{Devices: []Device{drawDevice(t)}}
		case 2:
			views[i].Fenced = true
		}
	}
	return views
}

func drawDevice(t *rapid.T) Device {
	of := func(set map[string]bool, label string) string {
		var list []string
		for w := range set {
			list = append(list, w)
		}
		return rapid.SampledFrom(sorted(list)).Draw(t, label)
	}
	return Device{Configured: true, CS: of(connectionStates, "cs"), Disk: of(diskStates, "disk"), PeerDisk: of(diskStates, "peer disk"),
		Role: rapid.SampledFrom([]string{"Primary", "Secondary"}).Draw(t, "role"), PeerRole: of(roles, "peer role"),
		Suspended: rapid.Bool().Draw(t, "suspended"), Quorum: Quorum(rapid.IntRange(0, 2).Draw(t, "quorum"))}
}

func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := Inputs{Views: drawViews(t), Probes: probes,
			Policy: rapid.SampledFrom([]Policy{Strict, Pinned, Availability}).Draw(t, "policy"),
			Quorum: rapid.Bool().Draw(t, "quorum configured"),
			Pin:    rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "pin")}
		d := Decide(in)
		claims := 0
		for _, v := range in.Views {
			if v.claimsNow() {
				claims++
			}
			if v.Node == d.Writer && (v.Fenced || !v.trusted() || !v.State.claims(nil)) {
				t.Fatalf("writer %s is not seen to be Primary", v.Node)
			}
		}
		if claims > 1 && d.Writer != "" && d.Writer != in.Pin {
			t.Fatalf("%d nodes claim to be Primary and %s may write", claims, d.Writer)
		}
		if (d.Writer != "") != (d.Verdict >= RouteDegraded) {
			t.Fatalf("writer %q with verdict %v", d.Writer, d.Verdict)
		}
		if in.Policy != Strict || in.Pin != "" {
			return
		}
		if d.Paused != "" && (d.Writer != "" || d.Candidate != "" || d.Leaving != "" || claims != 1) {
			t.Fatalf("%s is paused: %+v", d.Paused, d)
		}
		// Losing a view never makes a writer, nor another one.
		lost := rapid.IntRange(0, len(in.Views)-1).Draw(t, "lost")
		fewer := in
		fewer.Views = append([]View(nil), in.Views...)
		fewer.Views[lost] = View{Node: in.Views[lost].Node, Err: "lost", Fenced: in.Views[lost].Fenced,
			Disputed: claims > 1 && in.Views[lost].claimsNow()}
		e := Decide(fewer)
		if e.Paused != "" && !fewer.Views[lost].Fenced {
			t.Fatalf("%s is paused, although %s may be Primary by now", e.Paused, in.Views[lost].Node)
		}
		if d.Writer == "" && e.Writer != "" {
			t.Fatalf("losing the view of %s made %s the writer", in.Views[lost].Node, e.Writer)
		}
		if d.Writer != "" && e.Writer != "" && d.Writer != e.Writer {
			t.Fatalf("writers %s and %s", d.Writer, e.Writer)
		}
	})
}
