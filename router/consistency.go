package router

import "bytes"

// Consistency is what a read must see.
type Consistency uint8

// The levels, from weak to strong.
const (
	ConsistencyUnset    Consistency = iota // as the level above says: hint, rule, user, configuration
	ConsistencyEventual                    // whatever the server has
	ConsistencySession                     // the session's own writes
	ConsistencyGlobal                      // every write that was acknowledged before the read arrived
)

var consistencyNames = [...]string{"", "eventual", "session", "global"}

// String is the level's word in the configuration, empty for unset.
func (c Consistency) String() string { return consistencyNames[c] }

// ConsistencyOf is the level of that name, unset for an unknown one.
func ConsistencyOf(name string) Consistency {
	for i, n := range consistencyNames {
		if n == name {
			return Consistency(i)
		}
	}
	return ConsistencyUnset
}

// resolve is the level that counts: session where nothing else was said.
func (c Consistency) resolve() Consistency {
	if c == ConsistencyUnset {
		return ConsistencySession
	}
	return c
}

// consistency reads the value of a hint. What cannot be understood is sent
// where every level holds.
func (h *Hint) consistency(value string) {
	if h.Consistency = ConsistencyOf(value); h.Consistency == ConsistencyUnset {
		h.Target = Primary
	}
}

// hintAfter begins the word of a hint that carries a position. Its value is no
// part of the fingerprint: it is another one in nearly every statement.
const hintAfter = "after="

// appendHint appends a hint to a fingerprint.
func appendHint(p, hint []byte) []byte {
	for {
		i := bytes.Index(hint, []byte(hintAfter))
		if i < 0 || i > 0 && !isSpace(hint[i-1]) {
			return append(p, hint...)
		}
		i += len(hintAfter)
		p = append(append(p, hint[:i]...), '?')
		for hint = hint[i:]; len(hint) > 0 && !isSpace(hint[0]); {
			hint = hint[1:]
		}
	}
}

// After returns the value of after= in the hints of a text whose statement has
// Hint.After, the last if there are several: nil where it cannot be found. It
// points into the text.
func After(sql []byte, mode Mode) (value []byte) {
	l := lexer{text: sql[:min(len(sql), maxText)], mode: mode}
	for {
		switch t := l.next(); t.kind {
		case tokenEnd:
			return value
		case tokenHint:
			for _, word := range bytes.Fields(l.text[t.start:t.end]) {
				if v, ok := bytes.CutPrefix(word, []byte(hintAfter)); ok {
					value = v
				}
			}
		}
	}
}
