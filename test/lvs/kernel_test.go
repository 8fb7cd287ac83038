package lvslab

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"signalbox/lvs"
)

// owner is a fresh owner of the director's table, without a file.
func owner(t *testing.T) *lvs.Owner {
	t.Helper()
	o, err := lvs.NewOwner("", func(lvs.Key) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

// keep makes the kernel's table the one wanted, looks that a second pass has
// nothing to do, and returns the operations of the first.
func keep(t *testing.T, o *lvs.Owner, want lvs.Table) []lvs.Operation {
	t.Helper()
	first := pass(t, o, want)
	if again := pass(t, o, want); len(again) > 0 {
		t.Errorf("the second pass writes: %v", again)
	}
	return first
}

func pass(t *testing.T, o *lvs.Owner, want lvs.Table) []lvs.Operation {
	t.Helper()
	found, err := o.Dump(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := lvs.Plan(want, found)
	errs, err := o.Apply(t.Context(), p.Operations)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range errs {
		if e != nil {
			t.Fatalf("%s: %v", p.Operations[i], e)
		}
	}
	return p.Operations
}

func tcp(a netip.Addr, port uint16) lvs.Key {
	return lvs.Key{IPv6: a.Is6(), Protocol: lvs.TCP, Address: a, Port: port}
}

func service(s lvs.Settings, list ...lvs.Destination) lvs.Service {
	v := lvs.Service{Settings: s, Destinations: make(map[netip.AddrPort]lvs.Destination)}
	for _, d := range list {
		v.Destinations[d.Address] = d
	}
	return v
}

// shares writes counts as "far1=2 far2=2".
func shares(counts map[string]int) string {
	text := ""
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		text += fmt.Sprintf(" %s=%d", k, counts[k])
	}
	return text[min(1, len(text)):]
}

func TestEveryScheduler(t *testing.T) {
	l := director(t)
	for _, s := range l.far {
		l.serve(t, s, s.name, 3306)
	}
	one := func(c map[string]int) bool { return len(c) == 1 }
	is := func(want string) func(map[string]int) bool {
		return func(c map[string]int) bool { return shares(c) == want }
	}
	o := owner(t)
	v4, _ := l.vip(t)
	for i, c := range []struct {
		name    string
		flags   lvs.Flags
		weights [3]uint32
		hold    bool // connections stay open
		refuses bool // when its choice has weight 0
		says    string
		ok      func(map[string]int) bool
	}{
		{"rr", 0, [3]uint32{1, 1, 1}, false, false, "turn by turn", is("far1=4 far2=4 far3=4")},
		{"wrr", 0, [3]uint32{3, 2, 1}, false, false, "turn by turn by weight", is("far1=6 far2=4 far3=2")},
		{"lc", 0, [3]uint32{1, 1, 1}, true, false, "even", is("far1=4 far2=4 far3=4")},
		{"wlc", 0, [3]uint32{3, 2, 1}, true, false, "by weight", is("far1=6 far2=4 far3=2")},
		{"sed", 0, [3]uint32{3, 2, 1}, true, false, "the heavier more, all some", func(c map[string]int) bool { return c["far1"] > c["far3"] }},
		{"nq", 0, [3]uint32{10, 1, 1}, true, false, "an idle one first", func(c map[string]int) bool { return len(c) == 3 && c["far1"] == 10 }},
		{"sh", 0, [3]uint32{1, 1, 1}, false, true, "one for a client", one},
		{"sh", lvs.Option2, [3]uint32{1, 1, 1}, false, true, "spread by port", func(c map[string]int) bool { return len(c) > 1 }},
		{"mh", lvs.Option1, [3]uint32{1, 1, 1}, false, false, "one for a client", one},
		{"mh", lvs.Option1 | lvs.Option2, [3]uint32{1, 1, 1}, false, false, "spread by port", func(c map[string]int) bool { return len(c) > 1 }},
		{"dh", 0, [3]uint32{1, 1, 1}, false, true, "one for an address", one},
		{"lblc", 0, [3]uint32{100, 100, 100}, false, false, "one for an address", one},
		{"lblcr", 0, [3]uint32{100, 100, 100}, false, false, "one for an address", one},
		{"fo", 0, [3]uint32{1, 3, 2}, false, false, "the heaviest only", is("far2=12")},
		{"ovf", 0, [3]uint32{1, 8, 4}, true, false, "the heaviest until it is full", func(c map[string]int) bool { return c["far2"] >= 8 && c["far1"] == 0 && c["far3"] == 12-c["far2"] }},
	} {
		t.Run(fmt.Sprintf("%s-%d", c.name, c.flags), func(t *testing.T) {
			at := uint16(4000 + i)
			var list []lvs.Destination
			for i, s := range l.far {
				list = append(list, lvs.Destination{Address: netip.AddrPortFrom(s.v4, 3306), Weight: c.weights[i]})
			}
			want := service(lvs.Settings{Scheduler: c.name, Flags: c.flags, Netmask: 32}, list...)
			keep(t, o, lvs.Table{tcp(v4, at): want})
			got := l.ask(t, l.clients[0], netip.AddrPortFrom(v4, at), 12, c.hold)
			t.Logf("%s: %s", c.says, shares(got))
			if !c.ok(got) {
				t.Errorf("%s: %s: got %s", c.name, c.says, shares(got))
			}
			// With weight 0 the one that had most gets nothing new; sh and dh refuse
			// then rather than choose another, unless told to.
			most := slices.MaxFunc(list, func(a, b lvs.Destination) int { return cmp.Compare(got[l.nameOf(a)], got[l.nameOf(b)]) })
			most.Weight = 0
			want.Destinations[most.Address] = most
			keep(t, o, lvs.Table{tcp(v4, at): want})
			for range 3 {
				if conn, err := l.call(l.clients[0], netip.AddrPortFrom(v4, at)); err == nil {
					if conn.server == l.nameOf(most) {
						t.Errorf("%s has weight 0 and gets a connection", conn.server)
					}
					_ = conn.Close()
				} else if c.refuses {
					break
				} else {
					t.Error(err)
				}
			}
		})
	}
}

// nameOf is the name of the namespace that has a destination's address.
func (l *lab) nameOf(d lvs.Destination) string {
	for _, s := range l.all() {
		if s.v4 == d.Address.Addr() || s.v6 == d.Address.Addr() {
			return s.name
		}
	}
	return d.Address.String()
}
