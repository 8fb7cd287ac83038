package lvs

import (
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPlan(t *testing.T) {
	a, b := key("tcp/10.9.0.1:3306"), key("tcp/10.9.0.1:3307")
	rr := Settings{Scheduler: "rr", Netmask: 32}
	sticky := Settings{Scheduler: "wlc", Flags: Persistent, Timeout: 300, Netmask: 24}
	tests := []struct {
		name            string
		desired, actual Table
		want            string
	}{
		{"nothing wanted, nothing there", Table{}, Table{}, ""},
		{"equal", Table{a: svc(wlc, dst("10.0.0.1:1", 5))}, Table{a: owned(svc(wlc, dst("10.0.0.1:1", 5)))}, ""},
		{"new", Table{a: svc(wlc, dst("10.0.0.1:1", 5))}, Table{}, `
			add-service tcp/10.9.0.1:3306 wlc (it is missing)
			add-destination tcp/10.9.0.1:3306 -> 10.0.0.1:1 masq weight 5 (it is missing)`},
		{"foreign at our address", Table{a: svc(wlc, dst("10.0.0.1:1", 5))}, Table{a: svc(rr)}, "conflict tcp/10.9.0.1:3306 rr with 0 real servers"},
		{"foreign at our address, even if equal", Table{a: svc(wlc)}, Table{a: svc(wlc)}, "conflict tcp/10.9.0.1:3306 wlc with 0 real servers"},
		{"foreign elsewhere", Table{a: svc(wlc)}, Table{a: owned(svc(wlc)), b: svc(rr, dst("10.0.0.9:1", 1))}, ""},
		{"adopted", Table{a: Service{Settings: wlc, Adopt: true}}, Table{a: svc(rr, dst("10.0.0.1:1", 5))}, `
			adopt tcp/10.9.0.1:3306 (lvs.adopt is set)
			set-service tcp/10.9.0.1:3306 wlc (it is rr)
			remove-destination tcp/10.9.0.1:3306 -> 10.0.0.1:1 (it is not wanted)`},
		{"not configured any more", Table{}, Table{a: owned(svc(wlc)), b: svc(wlc)}, "remove-service tcp/10.9.0.1:3306 (it is not configured any more)"},
		{"scheduler changed by hand", Table{a: svc(wlc)}, Table{a: owned(svc(rr))}, "set-service tcp/10.9.0.1:3306 wlc (it is rr)"},
		{"persistence", Table{a: svc(sticky)}, Table{a: owned(svc(wlc))}, "set-service tcp/10.9.0.1:3306 wlc persistent 300s/24 (it is wlc)"},
		{"weight", Table{a: svc(wlc, dst("10.0.0.1:1", 5))}, Table{a: owned(svc(wlc, dst("10.0.0.1:1", 6)))},
			"set-destination tcp/10.9.0.1:3306 -> 10.0.0.1:1 masq weight 5 (its weight is 6)"},
		{"forwarding", Table{a: svc(wlc, Destination{Address: addr("10.0.0.1:1"), Forward: DirectRoute, Weight: 5})}, Table{a: owned(svc(wlc, dst("10.0.0.1:1", 6)))},
			"set-destination tcp/10.9.0.1:3306 -> 10.0.0.1:1 dr weight 5 (it is not as configured)"},
		{"drain, then add, then change, then remove", Table{a: svc(wlc, dst("10.0.0.1:1", 0), dst("10.0.0.2:1", 7), dst("10.0.0.3:1", 5))},
			Table{a: owned(svc(wlc, dst("10.0.0.1:1", 5), dst("10.0.0.2:1", 5), dst("10.0.0.4:1", 5)))}, `
			set-destination tcp/10.9.0.1:3306 -> 10.0.0.1:1 masq weight 0 (its weight is 5)
			add-destination tcp/10.9.0.1:3306 -> 10.0.0.3:1 masq weight 5 (it is missing)
			set-destination tcp/10.9.0.1:3306 -> 10.0.0.2:1 masq weight 7 (its weight is 5)
			remove-destination tcp/10.9.0.1:3306 -> 10.0.0.4:1 (it is not wanted)`},
		{"the writer moves: out, expired, in", Table{a: svc(wlc, dst("10.0.0.3:1", 1)), b: exclusive(svc(wlc, dst("10.0.0.2:1", 5)), 8)},
			Table{a: owned(svc(wlc)), b: owned(svc(wlc, dst("10.0.0.1:1", 5)))}, `
			remove-destination tcp/10.9.0.1:3307 -> 10.0.0.1:1 (it is not the writer)
			expire tcp/10.9.0.1:3307 -> 10.0.0.1:1 (it is not the writer)
			add-destination tcp/10.9.0.1:3307 -> 10.0.0.2:1 masq weight 5 (it is missing) epoch 8
			add-destination tcp/10.9.0.1:3306 -> 10.0.0.3:1 masq weight 1 (it is missing)`},
		{"nobody writes", Table{b: exclusive(svc(wlc), 8)}, Table{b: owned(svc(wlc, dst("10.0.0.1:1", 5)))}, `
			remove-destination tcp/10.9.0.1:3307 -> 10.0.0.1:1 (it is not the writer)
			expire tcp/10.9.0.1:3307 -> 10.0.0.1:1 (it is not the writer)`},
		{"the writer is leaving", Table{b: exclusive(svc(wlc, dst("10.0.0.1:1", 0)), 8)}, Table{b: owned(svc(wlc, dst("10.0.0.1:1", 5)))},
			"set-destination tcp/10.9.0.1:3307 -> 10.0.0.1:1 masq weight 0 (its weight is 5)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			p := Plan(tt.desired, tt.actual)
			for _, o := range p.Operations {
				line := o.String()
				if o.Epoch != 0 {
					line += " epoch 8"
				}
				got = append(got, line)
			}
			for _, c := range p.Conflicts {
				got = append(got, "conflict "+c.Service.String()+" "+c.Found)
			}
			want := strings.Join(strings.FieldsFunc(tt.want, func(r rune) bool { return r == '\n' || r == '\t' }), "\n")
			if strings.Join(got, "\n") != want {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
			}
		})
	}
}

// drawn are small tables that meet often.
var (
	drawnKeys  = []Key{key("tcp/10.9.0.1:80"), key("udp/10.9.0.1:80"), key("tcp/[2001:db8::1]:80"), key("mark4/7"), key("mark6/7"), key("tcp/10.9.0.2:80")}
	drawnDests = []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:81", "[2001:db8::2]:80"}
)

func drawService(t *rapid.T) Service {
	s := svc(Settings{Scheduler: rapid.SampledFrom([]string{"rr", "wlc", "mh"}).Draw(t, "scheduler"), Netmask: rapid.SampledFrom([]int{24, 32}).Draw(t, "netmask"),
		Flags: rapid.SampledFrom([]Flags{0, Persistent, Option1}).Draw(t, "flags")})
	for _, a := range rapid.SliceOfDistinct(rapid.SampledFrom(drawnDests), rapid.ID).Draw(t, "dests") {
		s.Destinations[addr(a)] = Destination{Address: addr(a), Weight: rapid.Uint32Range(0, 3).Draw(t, "weight"),
			Forward: rapid.SampledFrom([]Forward{Masquerade, DirectRoute}).Draw(t, "forward")}
	}
	return s
}

func drawTable(t *rapid.T, desired bool) Table {
	table := make(Table)
	for _, k := range rapid.SliceOfDistinct(rapid.SampledFrom(drawnKeys), rapid.ID).Draw(t, "keys") {
		s := drawService(t)
		switch {
		case !desired:
			s.Owned = rapid.Bool().Draw(t, "owned")
		case k == drawnKeys[0] || k == drawnKeys[3]:
			for i, a := range s.addresses() {
				if i > 0 {
					delete(s.Destinations, a)
				}
			}
			s = exclusive(s, 1)
		}
		table[k] = s
	}
	return table
}

func (t Table) clone() Table {
	c := maps.Clone(t)
	for k, s := range c {
		s.Destinations = maps.Clone(s.Destinations)
		c[k] = s
	}
	return c
}

// Applying a plan to any table makes it the wanted one where it may, leaves what
// others made, and shows at most one destination in an exclusive service from the
// first addition on. A plan cut anywhere is completed by the next.
func TestPlanProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		desired, actual := drawTable(t, true), drawTable(t, false)
		before := actual.clone()
		p := Plan(desired, actual)
		cut := rapid.IntRange(0, len(p.Operations)).Draw(t, "cut")
		for i, ops := range [][]Operation{p.Operations[:cut], nil} {
			if i == 1 {
				ops = Plan(desired, actual).Operations
			}
			for _, o := range ops {
				actual.after(o)
				checkExclusive(t, desired, actual, before, o)
			}
		}
		for k, s := range before {
			if !s.Owned && !sameService(s, actual[k]) {
				t.Fatalf("%s is not ours and was changed", k)
			}
		}
		for k, want := range desired {
			if was, ok := before[k]; ok && !was.Owned {
				continue
			}
			if !sameService(want, actual[k]) {
				t.Fatalf("%s is %+v, want %+v", k, actual[k], want)
			}
		}
		for k, s := range actual {
			if _, wanted := desired[k]; !wanted && s.Owned {
				t.Fatalf("%s is ours, not wanted, and still there", k)
			}
		}
		if again := Plan(desired, actual); len(again.Operations) != 0 {
			t.Fatalf("a second plan wants %v", again.Operations)
		}
	})
}

func checkExclusive(t *rapid.T, desired, actual, before Table, o Operation) {
	if !desired[o.Service].Exclusive || before[o.Service].Exclusive {
		return
	}
	opens := o.Kind == AddDestination || o.Kind == SetDestination && o.Destination.Weight > 0
	if n := len(actual[o.Service].Destinations); opens && n > 1 {
		t.Fatalf("after %s the writer's service has %d destinations", o, n)
	}
	if opens && o.Destination.Weight > 0 && o.Epoch == 0 {
		t.Fatalf("%s carries no epoch", o)
	}
}

func sameService(a, b Service) bool {
	return a.Settings == b.Settings && maps.Equal(a.Destinations, b.Destinations)
}

// Across any succession of authorities no intermediate table has two servers in
// the writer's service.
func TestWriterAcrossEpochs(t *testing.T) {
	k := key("tcp/10.9.0.1:3306")
	v := Virtual{Name: "writes", keys: []Key{k}, settings: wlc, kind: "primary", need: 1,
		reals: []real{{name: "a", cluster: true, dest: dst("10.0.0.1:3306", 100)}, {name: "b", cluster: true, dest: dst("10.0.0.2:3306", 100)}}}
	sorry := real{name: "sorry", dest: dst("10.0.0.9:3306", 100)}
	rapid.Check(t, func(t *rapid.T) {
		v := v
		if rapid.Bool().Draw(t, "sorry") {
			v.sorry = &sorry
		}
		m := newMemory()
		m.seen = func(table Table) {
			if n := len(table[k].Destinations); n > 1 {
				t.Fatalf("%d destinations in the writer's service", n)
			}
		}
		o := ownerOf(m, "", func(Key) bool { return true })
		var state State
		epoch := uint64(1)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			actual, err := o.Dump(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			in := Inputs{Settled: rapid.Bool().Draw(t, "settled"), Writer: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "writer"),
				Leaving: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "leaving"), Actual: actual}
			if in.Writer != "" {
				epoch++
			}
			in.Epoch = epoch
			var desired Table
			desired, state = Desired([]Virtual{v}, in, state)
			ops := Plan(desired, actual).Operations
			ops = ops[:rapid.IntRange(0, len(ops)).Draw(t, "cut")]
			errs, err := o.Apply(t.Context(), ops)
			if err != nil {
				t.Fatal(err)
			}
			for i, err := range errs {
				if err != nil {
					t.Fatalf("%s: %v", ops[i], err)
				}
			}
			if _, found := m.table[k].Destinations[addr("10.0.0.2:3306")]; found && in.Settled && in.Writer == "a" && len(ops) == len(Plan(desired, actual).Operations) {
				t.Fatal("b is there while a writes")
			}
		}
	})
}

func TestKeysAreReadAsWritten(t *testing.T) {
	for _, text := range []string{"tcp/10.9.0.1:3306", "udp/[2001:db8::1]:53", "132/10.0.0.1:80", "mark4/7", "mark6/4294967295", "tcp/10.9.0.1:0"} {
		if k, err := ParseKey(text); err != nil || k.String() != text {
			t.Errorf("%s: %v %v", text, k, err)
		}
	}
	for _, text := range []string{"", "tcp", "tcp/", "tcp/10.9.0.1", "sctp/10.9.0.1:1", "mark4/0", "mark4/07", "mark5/7", "6/10.0.0.1:80", "tcp/[::ffff:10.0.0.1]:80", "tcp/[fe80::1%eth0]:80", "tcp/010.0.0.1:80"} {
		if k, err := ParseKey(text); err == nil {
			t.Errorf("%s is read as %v", text, k)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	for _, k := range drawnKeys {
		f.Add(k.String())
	}
	f.Add("6/1.2.3.4:5")
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParseKey(text); err == nil && k.String() != text {
			t.Fatalf("%q is read as %q", text, k)
		}
	})
}
