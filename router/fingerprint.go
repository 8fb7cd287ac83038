package router

import (
	"bytes"
)

// scan is the work space of one classification, pooled.
type scan struct {
	text   []byte
	tokens []token
	print  []byte  // the fingerprint
	exec   bool    // an executable comment was met
	broken bool    // the text ends inside a string or comment
	hinted []token // comments addressed to Signalbox
	cut    bool    // only the beginning of the text was read
}

// maxText is how much of a text is read, in bytes.
const maxText = 64 << 10

// read splits text into tokens and builds its fingerprint: literals replaced by
// ?, lists of them folded, white space and plain comments gone. Two texts with
// one fingerprint are routed alike; where a literal matters it is kept.
func (s *scan) read(text []byte, mode Mode) {
	s.cut, s.broken = len(text) > maxText, false
	if s.cut {
		text = text[:maxText]
	}
	s.hinted = s.hinted[:0]
	s.text, s.tokens, s.print = text, s.tokens[:0], append(s.print[:0], byte('0'+mode))
	l := lexer{text: text, mode: mode}
	keep := keepUnknown
	for {
		t := l.next()
		if t.kind == tokenEnd {
			break
		}
		if t.kind == tokenBroken {
			s.broken = true
		}
		s.tokens = append(s.tokens, t)
		keep = keep.after(s, t)
		s.emit(t, keep == keepLiterals)
	}
	s.exec = l.seen
	if s.cut {
		s.print = append(s.print, " …"...)
	}
}

// keeping is whether literals are part of the fingerprint.
type keeping uint8

const (
	keepUnknown  keeping = iota // before the first keyword
	keepNot                     // literals do not matter
	keepLiterals                // from here on they do
)

// after settles it: literals matter in every statement but the common ones, and
// in these from a lock function on, whose argument is the lock's name.
func (k keeping) after(s *scan, t token) keeping {
	switch {
	case t.exec:
		return keepLiterals
	case k == keepLiterals || t.kind != tokenWord:
		return k
	}
	word := s.text[t.start:t.end]
	if k == keepNot {
		if len(word) >= 8 && bytes.EqualFold(word[len(word)-5:], []byte("_lock")) {
			return keepLiterals
		}
		return k
	}
	for _, w := range [...]string{"SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES", "TABLE", "CALL"} {
		if equalFold(word, w) {
			return keepNot
		}
	}
	return keepLiterals
}

// emit appends a token to the fingerprint.
func (s *scan) emit(t token, keep bool) {
	p := s.print
	switch {
	case t.kind == tokenBroken:
		s.print = append(p, 2) // never alike to a text that ends well
		return
	case (t.kind == tokenString || t.kind == tokenNumber) && !keep:
		if n := len(p); n > 2 && p[n-1] == ',' && p[n-2] == '?' {
			s.print = p[:n-1]
			return
		}
		s.print = append(s.separate(p), '?')
		return
	case t.kind == tokenPunct && s.text[t.start] == ')' && bytes.HasSuffix(p, []byte("(?),(?")):
		p = p[:len(p)-4]
	case t.kind == tokenHint:
		p = append(p, "/*signalbox:"...)
		p = appendHint(p, s.text[t.start:t.end])
		s.print = append(p, "*/"...)
		return
	case t.kind == tokenUserVariable || t.kind == tokenSystemVariable:
		p = append(p, ' ') // @ @x is not @@x
	case t.kind != tokenPunct:
		p = s.separate(p)
	}
	if t.exec {
		p = append(p, 1) // the same words inside an executable comment are another statement
	}
	s.print = append(p, s.text[t.start:t.end]...)
}

// separate appends a blank where two words would run together.
func (s *scan) separate(p []byte) []byte {
	if c := p[len(p)-1]; isWord(c) || c == '?' || c == '\'' || c == '"' || c == '`' {
		return append(p, ' ')
	}
	return p
}

// equalFold compares a word of the text with an upper-case keyword.
func equalFold(b []byte, keyword string) bool {
	if len(b) != len(keyword) {
		return false
	}
	for i := range b {
		c := b[i]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != keyword[i] {
			return false
		}
	}
	return true
}
