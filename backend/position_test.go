package backend

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

func position(t testing.TB, text string) Position {
	t.Helper()
	p, err := ParsePosition(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestContains(t *testing.T) {
	other := "4e11fa47-71ca-11e1-9e33-c80aa9429562"
	for _, tt := range []struct {
		has, wants string
		want       bool
	}{
		{"", "", true}, {"0-1-5", "", true}, {"", "0-1-5", false},
		{"0-1-5", "0-1-5", true}, {"0-2-6", "0-1-5", true}, {"0-1-4", "0-1-5", false}, {"1-1-9", "0-1-5", false},
		{"0-1-5,1-1-3", "1-1-3", true}, {"0-1-5,1-1-3", "1-1-4", false},
		{uuid + ":1-5", uuid + ":1-5", true}, {uuid + ":1-5", uuid + ":3", true}, {uuid + ":1-5", uuid + ":6", false},
		{uuid + ":1-3:5-9", uuid + ":4", false}, {uuid + ":1-3:4-9", uuid + ":2-8", true},
		{uuid + ":1-5", other + ":1", false}, {uuid + ":1-5,\n" + other + ":7", other + ":7", true},
		{uuid + ":1-5:tag:1-2", uuid + ":tag:2", true}, {uuid + ":1-5", uuid + ":tag:1", false},
	} {
		has, wants := position(t, tt.has), position(t, tt.wants)
		if got := has.Contains(&wants); got != tt.want {
			t.Errorf("%q contains %q: %v", tt.has, tt.wants, got)
		}
	}
}

func TestPositionFaults(t *testing.T) {
	for _, text := range []string{"x", "0-1", "0-1-x", "1-2-3-4", uuid + ":5-1", uuid + ":0", uuid + ":1,0-1-5", "zz11fa47-71ca-11e1-9e33-c80aa9429562:1"} {
		if p, err := ParsePosition(text); err == nil {
			t.Errorf("%q reads as %v", text, p)
		}
	}
}

func TestMergeIsUnion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) Position {
			var p Position
			for range rapid.IntRange(0, 6).Draw(t, name) {
				first := rapid.Uint64Range(1, 30).Draw(t, "first")
				p.setInterval(uuid, interval{first, first + rapid.Uint64Range(0, 5).Draw(t, "more")})
			}
			return p
		}
		a, b := draw("a"), draw("b")
		m := a.Merge(b)
		if !m.Contains(&a) || !m.Contains(&b) {
			t.Fatalf("%v and %v make %v", a, b, m)
		}
		for n := uint64(1); n < 40; n++ {
			one := Position{sources: []source{{uuid, []interval{{n, n}}}}}
			if m.Contains(&one) != (a.Contains(&one) || b.Contains(&one)) {
				t.Fatalf("%d in %v and %v, but %v", n, a, b, m)
			}
		}
		again, err := ParsePosition(m.String())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(m) {
			t.Fatalf("%v reads as %v (%v)", m, again, err)
		}
	})
}

func TestRaise(t *testing.T) {
	for _, tt := range []struct{ from, report, want string }{
		{"", "0-1-5", "0-1-5"}, {"0-1-5", "0-2-6", "0-2-6"}, {"0-1-5", "0-1-4", "0-1-5"}, {"0-1-5", "1-1-1", "0-1-5,1-1-1"},
		{"0-1-5,1-1-3", "1-1-4", "0-1-5,1-1-4"}, {"0-1-5", "0-1-6,1-1-1", "0-1-6,1-1-1"},
		{"", uuid + ":7", uuid + ":7"}, {uuid + ":5", uuid + ":9", uuid + ":5-9"}, {uuid + ":5-9", uuid + ":2", uuid + ":2-9"},
		{uuid + ":5-9", uuid + ":11-12:15", uuid + ":5-15"}, {uuid + ":5", uuid + ":tag:3", uuid + ":5," + uuid + ":tag:3"},
	} {
		p := position(t, tt.from)
		if err := p.Raise([]byte(tt.report)); err != nil || p.String() != tt.want {
			t.Errorf("%q and %q make %q, want %q (%v)", tt.from, tt.report, p.String(), tt.want, err)
		}
		before := position(t, tt.from)
		if report := position(t, tt.report); !p.Contains(&before) || !p.Contains(&report) {
			t.Errorf("%q does not contain %q and %q", p.String(), tt.from, tt.report)
		}
	}
	var p Position
	if err := p.Raise([]byte("nonsense")); err == nil || !p.Empty() {
		t.Errorf("nonsense makes %q", p.String())
	}
}

// What a session raises in place must not change what it was made from.
func TestRaiseChangesNoOther(t *testing.T) {
	for _, text := range []string{"0-1-5,1-1-3", uuid + ":1-5"} {
		shared := position(t, text)
		mine := Position{}.Merge(shared)
		other := mine.Merge(Position{})
		for _, report := range []string{"0-1-9", uuid + ":9"} {
			if text[0] != report[0] {
				continue
			}
			if err := mine.Raise([]byte(report)); err != nil {
				t.Fatal(err)
			}
		}
		if shared.String() != text || other.String() != text || mine.String() == text {
			t.Errorf("shared %q, other %q, mine %q", shared.String(), other.String(), mine.String())
		}
	}
}

func TestRaiseAllocatesNothing(t *testing.T) {
	for _, report := range []string{"0-1-900", uuid + ":900"} {
		var p Position
		if err := p.Raise([]byte(report)); err != nil {
			t.Fatal(err)
		}
		text := []byte(report[:len(report)-1] + "1")
		if n := testing.AllocsPerRun(100, func() { _ = p.Raise(text) }); n != 0 {
			t.Errorf("%s: %v allocations", report, n)
		}
	}
}

func TestAhead(t *testing.T) {
	mine, other := uuid, "4e11fa47-71ca-11e1-9e33-c80aa9429562"
	for _, tt := range []struct {
		replica, writer string
		want            bool
	}{
		{"", "0-1-5", false}, {"0-1-5", "", false}, {"0-1-5", "0-1-5", false}, {"0-1-4", "0-1-5", false}, {"0-1-6", "0-1-5", true},
		{"0-1-6", "0-2-5", true}, {"0-1-5,1-1-9", "0-1-5", false}, {"0-1-5,1-1-9", "0-1-9,1-1-8", true},
		{mine + ":1-5", mine + ":1-9", false}, {mine + ":1-10", mine + ":1-9", true}, {mine + ":1-5," + other + ":1-3", mine + ":1-9", false},
		{mine + ":1-5," + other + ":1-3", mine + ":1-9," + other + ":1-2", true},
	} {
		replica, writer := position(t, tt.replica), position(t, tt.writer)
		if got := replica.Ahead(&writer); got != tt.want {
			t.Errorf("%q ahead of %q: %v", tt.replica, tt.writer, got)
		}
	}
}

func FuzzRaise(f *testing.F) {
	f.Add("0-1-5", "0-1-6")
	f.Add(uuid+":1-5:7", uuid+":9")
	f.Fuzz(func(t *testing.T, from, report string) {
		p, err := ParsePosition(from)
		q, err2 := ParsePosition(report)
		if err != nil || err2 != nil || p.MariaDB() != q.MariaDB() {
			return
		}
		raised := p.Merge(Position{})
		if err := raised.Raise([]byte(report)); err != nil || !raised.Contains(&p) || !raised.Contains(&q) {
			t.Fatalf("%q and %q make %q (%v)", from, report, raised.String(), err)
		}
	})
}

func FuzzParsePosition(f *testing.F) {
	f.Add("0-1-5,1-1-3")
	f.Add(uuid + ":1-5:7:tag:1-2, " + uuid + ":9")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePosition(text)
		if err != nil {
			return
		}
		again, err := ParsePosition(p.String())
		if err != nil || again.String() != p.String() || !again.Contains(&p) {
			t.Fatalf("%q: %q reads as %q (%v)", text, p.String(), again.String(), err)
		}
	})
}
