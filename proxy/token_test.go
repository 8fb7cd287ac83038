package proxy

import (
	"bytes"
	"testing"

	"signalbox/backend"
)

const testUUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

func tokenOf(t testing.TB, text string) []byte {
	t.Helper()
	p, err := backend.ParsePosition(text)
	if err != nil {
		t.Fatal(err)
	}
	return appendToken(nil, &p, false)
}

func TestTokenKeepsItsMeaning(t *testing.T) {
	for _, text := range []string{"", "0-1-5", "0-1-5,7-2-9", testUUID + ":1-5", testUUID + ":1-5:9," + testUUID + ":tag:3"} {
		token := tokenOf(t, text)
		p, onPrimary, err := parseToken(token)
		if err != nil || onPrimary || p.String() != text {
			t.Errorf("%s reads as %q (%v)", token, p.String(), err)
		}
	}
	if _, onPrimary, err := parseToken(appendToken(nil, &backend.Position{}, true)); err != nil || !onPrimary {
		t.Errorf("primary: %v %v", onPrimary, err)
	}
}

// Whatever is cut off, added or changed, it is no token any more.
func TestTokenFaults(t *testing.T) {
	token := tokenOf(t, "0-1-12345,1-7-1")
	for cut := 1; cut < len(token); cut++ {
		if p, _, err := parseToken(token[:len(token)-cut]); err == nil {
			t.Errorf("%s reads as %q", token[:len(token)-cut], p.String())
		}
		if p, _, err := parseToken(token[cut:]); err == nil {
			t.Errorf("%s reads as %q", token[cut:], p.String())
		}
	}
	for i := range token {
		for _, c := range []byte("0 9~a-,:") {
			changed := bytes.Clone(token)
			if changed[i] = c; bytes.Equal(changed, token) {
				continue
			}
			if p, _, err := parseToken(changed); err == nil {
				t.Errorf("%s reads as %q", changed, p.String())
			}
		}
	}
	for _, text := range []string{"", "~", "none", "none~", "~00000000", "0-1-5", "NONE~" + string(tokenOf(t, "")[5:]), string(token) + " "} {
		if _, _, err := parseToken([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add([]byte("none~00000000"))
	f.Add(tokenOf(f, "0-1-5,7-2-9"))
	f.Add(tokenOf(f, testUUID+":1-5:9"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, onPrimary, err := parseToken(text)
		if err != nil {
			if !p.Empty() || onPrimary {
				t.Fatalf("%q: an error and a position", text)
			}
			return
		}
		if again := appendToken(nil, &p, onPrimary); !bytes.Equal(again, text) || bytes.ContainsAny(text, "*/ ") {
			t.Fatalf("%q is written %q", text, again)
		}
	})
}
