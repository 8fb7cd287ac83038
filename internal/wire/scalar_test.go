package wire

import (
	"testing"
)

// question is an answer of one column with the rows given; a row of nil is NULL.
func question(deprecateEOF bool, rows ...[]byte) []byte {
	b, seq := AppendPacket(nil, 1, []byte{1})
	add := func(p []byte) { b, seq = AppendPacket(b, seq, p) }
	add([]byte("\x03def\x00\x00\x00\x01x\x00\x0c\x3f\x00\x15\x00\x00\x00\x08\x81\x00\x00\x00\x00"))
	end := []byte{0xfe, 0, 0, 2, 0}
	if !deprecateEOF {
		add(end)
	} else {
		end = []byte{0xfe, 0, 0, 2, 0, 0, 0}
	}
	for _, r := range rows {
		if r == nil {
			add([]byte{0xfb})
			continue
		}
		add(AppendLenencString(nil, string(r)))
	}
	add(end)
	return b
}

func TestScalar(t *testing.T) {
	for _, deprecateEOF := range []bool{false, true} {
		cases := []struct {
			name, value string
			answer      []byte
			null        bool
			rows        int
			code        uint16
		}{
			{name: "value", answer: question(deprecateEOF, []byte("-1")), value: "-1", rows: 1},
			{name: "empty", answer: question(deprecateEOF, []byte("")), rows: 1},
			{name: "null", answer: question(deprecateEOF, nil), null: true, rows: 1},
			{name: "no row", answer: question(deprecateEOF)},
			{name: "error", answer: AppendErr(nil, 1, 1969, "70100", "too long"), code: 1969},
		}
		for _, c := range cases {
			whole := append(c.answer, "next"...)
			for step := 1; step <= len(whole); step++ {
				a := Scalar{DeprecateEOF: deprecateEOF}
				a.Reset()
				from, have := 0, 0
				for done := false; !done; {
					have = min(have+step, len(whole))
					used, d, err := a.Scan(whole[from:have])
					if err != nil {
						t.Fatalf("%s: %v", c.name, err)
					}
					from, done = from+used, d
					if !d && have == len(whole) {
						t.Fatalf("%s: no end", c.name)
					}
				}
				if string(whole[from:]) != "next" || string(a.Value) != c.value || a.Null != c.null || a.Rows != c.rows || a.Code != c.code {
					t.Fatalf("%s, EOF %v, by %d: %+v, then %q", c.name, !deprecateEOF, step, a, whole[from:])
				}
			}
		}
	}
}

func TestScalarRefusesOtherAnswers(t *testing.T) {
	for name, b := range map[string][]byte{
		"an OK":        AppendOK(nil, 1, 0, &Result{Status: 2}, false),
		"two columns":  {1, 0, 0, 1, 2},
		"an empty one": {0, 0, 0, 1},
	} {
		var a Scalar
		if _, _, err := a.Scan(b); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func FuzzScalar(f *testing.F) {
	f.Add(question(false, []byte("0")), false)
	f.Add(question(true, nil), true)
	f.Add(AppendErr(nil, 1, 1193, "HY000", "no"), true)
	f.Fuzz(func(t *testing.T, b []byte, deprecateEOF bool) {
		a := Scalar{DeprecateEOF: deprecateEOF}
		a.Reset()
		used, done, err := a.Scan(b)
		if used > len(b) || done && err != nil {
			t.Fatalf("used %d of %d, done %v, %v", used, len(b), done, err)
		}
	})
}
