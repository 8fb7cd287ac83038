package lvs

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	nl "github.com/mdlayher/netlink"
)

// The bytes of include/uapi/linux/ip_vs.h, little-endian, as ipvsadm sends them.
func TestPackIdentity(t *testing.T) {
	for _, c := range []struct{ key, want string }{
		{"tcp/10.0.0.1:3306", "0600 0100 0200 0000  0600 0200 0600 0000  0800 0300 0a000001  0600 0400 0cea 0000"},
		{"udp/[fd00::1]:53", "0600 0100 0a00 0000  0600 0200 1100 0000  1400 0300 fd000000000000000000000000000001  0600 0400 0035 0000"},
		{"mark4/7", "0600 0100 0200 0000  0800 0500 07000000"},
		{"mark6/7", "0600 0100 0a00 0000  0800 0500 07000000"},
	} {
		k, err := ParseKey(c.key)
		if err != nil {
			t.Fatal(err)
		}
		e := nl.NewAttributeEncoder()
		packIdentity(e, k)
		got, err := e.Encode()
		if err != nil || hex.EncodeToString(got) != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%s: %x (%v), want %s", c.key, got, err, c.want)
		}
	}
}

func TestDaemonThereAndBack(t *testing.T) {
	for _, want := range []SyncDaemon{
		{State: SyncMaster, Interface: "eth0", ID: 7},
		{State: SyncBackup, Interface: "bond0.12", ID: 255, MaxLen: 1460, Group: netip.MustParseAddr("239.1.2.3"), Port: 9000, TTL: 4},
		{State: SyncMaster, Interface: "eth0", Group: netip.MustParseAddr("ff05::1")},
	} {
		e := nl.NewAttributeEncoder()
		packDaemon(e, want)
		data, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unpackDaemon(data); err != nil || got != want {
			t.Errorf("got %+v (%v), want %+v", got, err, want)
		}
	}
}

func TestPlanSync(t *testing.T) {
	master := SyncDaemon{State: SyncMaster, Interface: "eth0", ID: 1}
	backup := SyncDaemon{State: SyncBackup, Interface: "eth0", ID: 1}
	shown := master.meant() // as the kernel shows it
	shown.MaxLen = 1472
	other := shown
	other.ID = 2
	both := []SyncDaemon{master, backup}
	for _, c := range []struct {
		name       string
		want, have []SyncDaemon
		steps      []SyncStep
	}{
		{"none runs", both, nil, []SyncStep{{true, master}, {true, backup}}},
		{"as wanted", both, []SyncDaemon{backup.meant(), shown}, nil},
		{"another id", both, []SyncDaemon{other, backup}, []SyncStep{{false, other}, {true, master}}},
		{"another length", []SyncDaemon{{State: SyncMaster, Interface: "eth0", ID: 1, MaxLen: 1000}}, []SyncDaemon{shown},
			[]SyncStep{{false, shown}, {true, SyncDaemon{State: SyncMaster, Interface: "eth0", ID: 1, MaxLen: 1000}}}},
		{"none is wanted", nil, []SyncDaemon{shown}, []SyncStep{{false, shown}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := PlanSync(c.want, c.have)
			if len(got) != len(c.steps) {
				t.Fatalf("got %+v, want %+v", got, c.steps)
			}
			for i := range got {
				if got[i] != c.steps[i] {
					t.Errorf("step %d: got %+v, want %+v", i, got[i], c.steps[i])
				}
			}
		})
	}
}

// What the kernel answers is read without a panic, whatever it is.
func FuzzUnpack(f *testing.F) {
	e := nl.NewAttributeEncoder()
	packDaemon(e, SyncDaemon{State: SyncMaster, Interface: "eth0", ID: 7, Group: syncGroup, Port: 1, TTL: 1, MaxLen: 9})
	seed, _ := e.Encode()
	f.Add(seed)
	f.Add([]byte{8, 0, 3, 128, 4, 0, 5, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = unpackDaemon(data)
		_, _ = unpackEngine(data)
	})
}
