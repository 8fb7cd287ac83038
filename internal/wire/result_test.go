package wire

import (
	"fmt"
	"testing"
)

func TestOKKeepsItsMeaning(t *testing.T) {
	for _, tracking := range []bool{false, true} {
		in := Result{AffectedRows: 300, LastInsertID: 1 << 40, Status: 2, Warnings: 7, Info: []byte("Rows matched: 1")}
		b := AppendOK(nil, 3, 0, &in, tracking)
		if PayloadLen(b) != len(b)-HeaderLen || b[3] != 3 {
			t.Fatalf("header %v for %d bytes", b[:4], len(b))
		}
		out, err := ParseOK(b[HeaderLen:], tracking)
		if err != nil || fmt.Sprint(in) != fmt.Sprint(out) {
			t.Fatalf("tracking %v: %+v, want %+v (%v)", tracking, out, in, err)
		}
	}
}

func TestErrKeepsItsMeaning(t *testing.T) {
	b := AppendErr(nil, 1, 1290, "HY000", "no")
	r, err := ParseErr(b[HeaderLen:])
	if err != nil || r.Code != 1290 || string(r.SQLState) != "HY000" || string(r.Message) != "no" {
		t.Fatalf("%+v %v", r, err)
	}
}

func TestTrackedState(t *testing.T) {
	variable := AppendLenencString(AppendLenencString(nil, "autocommit"), "OFF")
	two := AppendLenencString(AppendLenencString(variable, "time_zone"), "UTC")
	var data []byte
	add := func(kind TrackKind, entry []byte) { data = AppendLenencString(append(data, byte(kind)), string(entry)) }
	add(TrackVariable, two)
	add(TrackSchema, AppendLenencString(nil, "shop"))
	add(TrackStateChange, AppendLenencString(nil, "1"))
	add(TrackGTIDs, append([]byte{0}, AppendLenencString(nil, "uuid:1-5")...))
	state, got := TrackedState(data), ""
	var e Tracked
	for state.Next(&e) {
		got += fmt.Sprintf("%d %s=%s\n", e.Kind, e.Name, e.Value)
	}
	want := "0 autocommit=OFF\n0 time_zone=UTC\n1 =shop\n2 =1\n3 =uuid:1-5\n"
	if got != want {
		t.Fatalf("got\n%swant\n%s", got, want)
	}
}

func FuzzTrackedState(f *testing.F) {
	f.Add([]byte{0, 4, 1, 'a', 1, 'b', 1, 2, 1, 'x'})
	f.Fuzz(func(t *testing.T, data []byte) {
		state := TrackedState(data)
		var e Tracked
		for n := 0; state.Next(&e); n++ {
			if n > len(data) {
				t.Fatal("more entries than bytes")
			}
		}
	})
}

func FuzzResult(f *testing.F) {
	f.Add([]byte{0, 1, 5, 2, 0, 0, 0}, true)
	f.Add([]byte{0xff, 0x7a, 4, '#', '4', '2', 'S', '0', '2', 'x'}, false)
	f.Fuzz(func(t *testing.T, b []byte, tracking bool) {
		_, _ = ParseOK(b, tracking)
		_, _ = ParseEOF(b)
		_, _ = ParseErr(b)
	})
}
