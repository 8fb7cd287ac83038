package drbdwatch

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func capture(t testing.TB, name string) *State {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "proc", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	if name == "L14" { // caught by polling: the device's line alone
		text = append([]byte(head84), text...)
	}
	s, err := ParseProc(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return s
}

// TestCapturesByTheirRow judges every capture of real DRBD 8.4.11 by its own
// view; what each shows is in testdata/proc/INDEX.md.
func TestCapturesByTheirRow(t *testing.T) {
	tests := []struct {
		name   string
		row    int
		reason string
	}{
		{"L1", 21, "unconfigured"}, {"L3-1", 3, "sync-source"}, {"L3-2", 17, "secondary"},
		{"L4-1", 3, "sync-source"}, {"L4-3", 3, "sync-source"}, {"L6", 12, "io-suspended"},
		{"L7-1", 2, "verifying"}, {"L7-2", 17, "secondary"}, {"L8-1", 6, "diskless-primary"}, {"L8-2", 17, "secondary"},
		{"L8-3", 13, "no-good-disk"}, {"L9", 1, "healthy"}, {"L10-1", 9, "peer-unreachable"}, {"L10-2", 17, "secondary"},
		{"L10b", 9, "peer-unreachable"}, {"L11", 17, "secondary"}, {"L13-1", 11, "standalone"}, {"L13-2", 11, "standalone"},
		{"L14", 12, "io-suspended"}, {"L15", 10, "peer-outdated"}, {"L16-1", 11, "standalone"}, {"L16-2", 11, "standalone"},
		{"L17", 15, "dual-primary"}, {"L18", 12, "io-suspended"}, {"L19-2", 13, "no-good-disk"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := capture(t, tt.name)
			if r := LocalAll(s, nil); r.Number != tt.row || r.Reason != tt.reason {
				for i := range s.Devices {
					t.Log(s.Devices[i].String())
				}
				t.Fatalf("row %d %s, want %d %s", r.Number, r.Reason, tt.row, tt.reason)
			}
		})
	}
	files, _ := filepath.Glob("testdata/proc/L*.txt")
	if len(files) != 33 {
		t.Errorf("%d captures, want 33", len(files))
	}
	for _, f := range files {
		capture(t, strings.TrimSuffix(filepath.Base(f), ".txt"))
	}
}

const head84 = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: ABC \n"

func TestFormsOfAllVersions(t *testing.T) {
	tests := []struct {
		name, text, want string
		oos              int64
		percent          float64
	}{
		{"8.0", "version: 8.0.16 (api:86/proto:86)\nGIT-hash: x build by y\n 0: cs:Connected st:Primary/Secondary ds:UpToDate/UpToDate C r---\n    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0\n\tresync: used:0/31 hits:0 misses:0 starving:0 dirty:0 changed:0\n\tact_log: used:0/127 hits:0 misses:0 starving:0 dirty:0 changed:0\n",
			"0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r---", -1, -1},
		{"8.2.6", "version: 8.2.6 (api:88/proto:86-88)\nx\n 0: cs:SyncTarget st:Secondary/Primary ds:Inconsistent/UpToDate C r---\n    ns:0 nr:1 dw:1 dr:0 al:0 bm:1 lo:1 pe:1 ua:1 ap:0 oos:5000\n\t[==>.................] sync'ed: 16.0% (840/1000)K\n\tfinish: 0:00:01 speed: 9,999 (9,999) K/sec\n",
			"0: cs:SyncTarget ro:Secondary/Primary ds:Inconsistent/UpToDate C r---", 5000, 16},
		{"8.3.1 with five flags", "version: 8.3.1 (api:88/proto:86-89)\nx\n 0: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r----\n    ns:0 oos:0\n",
			"0: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r----", 0, -1},
		{"8.3.8 delay_probe and stalled", "version: 8.3.8 (api:88/proto:86-94)\nx\n 0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r----\n    ns:1 oos:75\n\t[=>...] sync'ed: 1.0% (75/100)K delay_probe: 145637\n\tstalled\n",
			"0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r----", 75, 25},
		{"the newline lost after M", head84 + " 0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----\n    ns:1 oos:9\n\t[>....] sync'ed:  2.4% (14996/15360)Mfinish: 0:04:08 speed: 61,440 (61,440) K/sec\n",
			"0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----", 9, 2.3698},
		{"verified", head84 + " 0: cs:VerifyS ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n    ns:1 oos:0\n\t[>....] verified:  2.4% (50/100)K\n\tfinish: ∞ speed: -1,234 (324 -- 432) want: 61,440 K/sec (stalled)\n\t  4% sector pos: 4288/98224 stop sector: 9\n",
			"0: cs:VerifyS ro:Primary/Secondary ds:UpToDate/UpToDate C r-----", 0, 50},
		{"no network configuration", head84 + " 0: cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown   r-----\n    ns:0 oos:0\n",
			"0: cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown  r-----", 0, -1},
		{"a minor of two digits", head84 + "\n10: cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate A r-----\n    ns:0 oos:0\n",
			"10: cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate A r-----", 0, -1},
		{"8.4 compatibility of 9.3", "version: 9.3.0 (api:2/proto:86-121) (compat 8.4)\nx\n 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n    ns:0 oos:0\n",
			"0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----", 0, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := ParseProc([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			d := s.Devices[0]
			if d.String() != tt.want || d.OutOfSyncKiB != tt.oos || math.Abs(d.SyncPercent-tt.percent) > 0.01 {
				t.Fatalf("%s oos %d percent %v", d.String(), d.OutOfSyncKiB, d.SyncPercent)
			}
		})
	}
}

func TestTextThatMustNotBeBelieved(t *testing.T) {
	device := " 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n"
	tests := []struct{ name, text, want string }{
		{"empty", "", "want \"version: …\""},
		{"another file", "MemTotal: 1\n", "this is not /proc/drbd"},
		{"DRBD 9", "version: 9.2.4 (api:2/proto:86-122)\nGIT-hash: x\nTransports (api:18): tcp (9.2.4)\n", "prints no devices"},
		{"unknown connection state", head84 + strings.Replace(device, "cs:Connected", "cs:Sideways", 1), `connection state "Sideways" is unknown`},
		{"TOO_LARGE", head84 + strings.Replace(device, "ds:UpToDate", "ds:TOO_LARGE", 1), "disk state"},
		{"unknown role", head84 + strings.Replace(device, "Primary", "primary", 1), "role"},
		{"no roles", head84 + " 0: cs:Connected ds:UpToDate/UpToDate C r-----\n", "want ro: or st:"},
		{"cut short", head84 + " 0: cs:Connected ro:Primary/Secondary\n", "want ds:"},
		{"no flags", head84 + " 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C\n", "want a protocol letter"},
		{"odd flag", head84 + strings.Replace(device, "r-----", "x-----", 1), "flag 1"},
		{"device twice", head84 + device + device, "minor 0 after minor 0"},
		{"odd progress", head84 + device + "\t[>] sync'ed: 3% (abc/100)K\n", "want (left/total)"},
		{"odd counter", head84 + device + "    ns:0 oos:many\n", "oos:many"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseProc([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func FuzzParseProc(f *testing.F) {
	files, _ := filepath.Glob("testdata/proc/L*.txt")
	for _, name := range files {
		text, _ := os.ReadFile(name)
		f.Add(text)
	}
	f.Add([]byte("version: 9.3.0\n 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r---d-\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseProc(text)
		if (s == nil) == (err == nil) {
			t.Fatal("either a state or an error")
		}
		if s == nil {
			return
		}
		for i := range s.Devices {
			d := &s.Devices[i]
			r := Local(d)
			if r.Verdict >= NeedsSole && (d.Role != "Primary" || d.Suspended) {
				t.Fatalf("%s: %v", d, r)
			}
			if again, err := ParseProc([]byte(head84 + fmt.Sprintf("%2s\n", d))); err != nil || d.Configured && again.Devices[0].String() != d.String() {
				t.Fatalf("%q does not read as itself: %v", d, err)
			}
		}
	})
}

func BenchmarkParseProc(b *testing.B) {
	text, _ := os.ReadFile("testdata/proc/L9.txt")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseProc(text); err != nil {
			b.Fatal(err)
		}
	}
}
