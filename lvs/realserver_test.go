package lvs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func addresses(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func arp(allIgnore, allAnnounce, loIgnore, loAnnounce string) map[string]string {
	m := make(map[string]string)
	for i, v := range []string{allIgnore, allAnnounce, loIgnore, loAnnounce} {
		m[arpSettings[i].path] = v
	}
	return m
}

func steps(list []realServerStep) string {
	var words []string
	for _, s := range list {
		words = append(words, strings.NewReplacer("net/ipv4/conf/", "", "set ", "").Replace(s.String()))
	}
	return strings.Join(words, "; ")
}

func TestPlanRealServer(t *testing.T) {
	vips := addresses("10.0.0.10", "fd00::10")
	for _, c := range []struct {
		name string
		vips []netip.Addr
		seen realServerSeen
		want string
	}{
		{"a fresh host: every setting before any address", vips, realServerSeen{Sysctl: arp("0", "0", "0", "0")},
			"all/arp_ignore to 1; all/arp_announce to 2; lo/arp_ignore to 1; lo/arp_announce to 2; add 10.0.0.10 to lo; add fd00::10 to lo"},
		{"all is so", vips, realServerSeen{Sysctl: arp("1", "2", "1", "2"), OnLo: vips}, ""},
		{"a stricter arp_ignore stays", vips[:1], realServerSeen{Sysctl: arp("2", "2", "2", "2"), OnLo: vips}, ""},
		{"arp_ignore 3 would answer for the address", vips[:1], realServerSeen{Sysctl: arp("3", "2", "1", "2"), OnLo: vips}, "all/arp_ignore to 1"},
		{"IPv6 alone needs no setting", vips[1:], realServerSeen{Sysctl: arp("0", "0", "0", "0")}, "add fd00::10 to lo"},
		{"somebody removed the address", vips[:1], realServerSeen{Sysctl: arp("1", "2", "1", "2"), OnLo: addresses("127.0.0.2")}, "add 10.0.0.10 to lo"},
		{"the address is on another interface", vips, realServerSeen{Sysctl: arp("0", "0", "0", "0"), OnOther: map[netip.Addr]string{vips[0]: "eth0"}},
			"error: virtual address 10.0.0.10 is on interface eth0: a real server has it on lo only, or the network finds two hosts with it; remove it there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := planRealServer(c.vips, c.seen)
			got := steps(list)
			if err != nil {
				got = "error: " + err.Error()
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestUndoRealServer(t *testing.T) {
	vips := addresses("10.0.0.10", "10.0.0.11")
	for _, c := range []struct {
		name         string
		before, seen map[string]string
		absent, onLo []netip.Addr
		want         string
	}{
		{"every address before any setting", arp("0", "0", "0", "0"), arp("1", "2", "1", "2"), vips, vips,
			"remove 10.0.0.10 from lo; remove 10.0.0.11 from lo; all/arp_ignore to 0; all/arp_announce to 0; lo/arp_ignore to 0; lo/arp_announce to 0"},
		{"an address that was there before stays", arp("0", "1", "1", "2"), arp("1", "2", "1", "2"), vips[1:], vips,
			"remove 10.0.0.11 from lo; all/arp_ignore to 0; all/arp_announce to 1"},
		{"what others changed meanwhile stays", arp("0", "0", "0", "0"), arp("2", "2", "0", "1"), vips, nil, "all/arp_announce to 0"},
		{"nothing was changed", arp("1", "2", "1", "2"), arp("1", "2", "1", "2"), nil, vips, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := undoRealServer(vips, realServerBefore{Sysctl: c.before, Absent: c.absent}, realServerSeen{Sysctl: c.seen, OnLo: c.onLo})
			if got := steps(list); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// From any state, the plan leads to one that needs no step, and the undo from
// there back to the first.
func TestRealServerThereAndBack(t *testing.T) {
	vips := addresses("10.0.0.10", "fd00::10")
	for _, ignore := range []string{"0", "1", "2", "3", "8"} {
		for _, announce := range []string{"0", "1", "2"} {
			for n := range 4 {
				seen := realServerSeen{Sysctl: arp(ignore, announce, announce, ignore)}
				for i, v := range vips {
					if n>>i&1 == 1 {
						seen.OnLo = append(seen.OnLo, v)
					}
				}
				first := fmt.Sprint(seen)
				before := realServerBefore{Sysctl: seen.Sysctl}
				for _, v := range vips {
					if !slices.Contains(seen.OnLo, v) {
						before.Absent = append(before.Absent, v)
					}
				}
				there, err := planRealServer(vips, seen)
				if err != nil {
					t.Fatal(err)
				}
				seen = after(seen, there)
				if left, _ := planRealServer(vips, seen); len(left) > 0 {
					t.Fatalf("from %s: left %v", first, left)
				}
				back := after(seen, undoRealServer(before.Absent, before, seen))
				if fmt.Sprint(back) != first {
					t.Fatalf("from %s: back to %v", first, back)
				}
			}
		}
	}
}

func after(seen realServerSeen, list []realServerStep) realServerSeen {
	out := realServerSeen{Sysctl: make(map[string]string), OnLo: slices.Clone(seen.OnLo)}
	for k, v := range seen.Sysctl {
		out.Sysctl[k] = v
	}
	for _, s := range list {
		switch {
		case s.Add.IsValid():
			out.OnLo = append(out.OnLo, s.Add)
		case s.Remove.IsValid():
			out.OnLo = slices.DeleteFunc(out.OnLo, func(a netip.Addr) bool { return a == s.Remove })
		default:
			out.Sysctl[s.Sysctl] = s.Value
		}
	}
	return out
}
