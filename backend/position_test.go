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
