package router

// Mode is how a session's servers read SQL text: bits that change where a
// string or an identifier ends.
type Mode uint8

// The mode bits.
const (
	// ModeAnsiQuotes: "x" is an identifier (sql_mode ANSI_QUOTES).
	ModeAnsiQuotes Mode = 1 << iota
	// ModeNoBackslashEscapes: \ is an ordinary character in strings.
	ModeNoBackslashEscapes
	// ModeMultibyte: the client's character set has characters whose second
	// byte may be a backslash or a quote (gbk, sjis, big5, cp932, gb18030).
	ModeMultibyte
)

// tokenKind is what the lexer found.
type tokenKind uint8

const (
	tokenEnd    tokenKind = iota
	tokenWord             // keyword or bare identifier
	tokenQuoted           // quoted identifier
	tokenString
	tokenNumber
	tokenUserVariable   // @x, also @'x'
	tokenSystemVariable // @@x
	tokenMark           // ? placeholder
	tokenAssign         // :=
	tokenPunct          // any other character
	tokenHint           // a comment addressed to Signalbox
	tokenBroken         // a string, identifier or comment that does not end
)

// token is a piece of the text, from start to end.
type token struct {
	kind       tokenKind
	exec       bool // inside an executable comment
	start, end int32
}

// lexer splits SQL text as MySQL and MariaDB do (sql_lex.cc). The content of
// executable comments, /*! and /*M!, comes out as tokens marked exec, whatever
// the version in it: servers differ in whether they execute it.
type lexer struct {
	text []byte
	mode Mode
	at   int
	exec bool
	seen bool // an executable comment was met
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isWord tells what an unquoted identifier consists of.
func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || isDigit(c) || c == '_' || c == '$' || c >= 0x80
}

// peek returns the byte at offset i from here, 0 past the end.
func (l *lexer) peek(i int) byte {
	if l.at+i < len(l.text) {
		return l.text[l.at+i]
	}
	return 0
}

// next returns the next token; plain comments and white space are skipped.
func (l *lexer) next() token {
	for l.at < len(l.text) {
		c := l.text[l.at]
		switch {
		case isSpace(c):
			l.at++
			continue
		case c == '#':
			l.line()
			continue
		case c == '-' && l.peek(1) == '-' && (l.at+2 >= len(l.text) || isSpace(l.peek(2)) || l.peek(2) < ' '):
			l.line()
			continue
		case c == '/' && l.peek(1) == '*':
			if t, stop := l.comment(); stop {
				return t
			}
			continue
		case c == '*' && l.exec && l.peek(1) == '/':
			l.at += 2
			l.exec = false
			continue
		}
		return l.token(c)
	}
	if l.exec {
		l.exec = false
		return token{kind: tokenBroken, start: int32(l.at), end: int32(l.at)}
	}
	return token{kind: tokenEnd, start: int32(l.at), end: int32(l.at)}
}

func (l *lexer) line() {
	for l.at < len(l.text) && l.text[l.at] != '\n' {
		l.at++
	}
}

// hintWord begins a comment addressed to Signalbox.
const hintWord = "signalbox:"

// comment skips a comment. An executable one is entered instead, and one
// addressed to Signalbox is a token.
func (l *lexer) comment() (token, bool) {
	start := l.at
	body := l.at + 2
	if l.peek(2) == '!' || l.peek(2) == 'M' && l.peek(3) == '!' {
		if l.exec { // nested: servers disagree about these
			l.at = len(l.text)
			return token{kind: tokenBroken, start: int32(start), end: int32(l.at)}, true
		}
		l.at += 3
		if l.text[body] == 'M' {
			l.at++
		}
		for n := 0; n < 6 && isDigit(l.peek(0)); n++ {
			l.at++
		}
		l.exec, l.seen = true, true
		return token{}, false
	}
	end := body
	for end+1 < len(l.text) && (l.text[end] != '*' || l.text[end+1] != '/') {
		end++
	}
	if end+1 >= len(l.text) {
		l.at = len(l.text)
		return token{kind: tokenBroken, start: int32(start), end: int32(l.at)}, true
	}
	l.at = end + 2
	for body < end && isSpace(l.text[body]) {
		body++
	}
	if end-body > len(hintWord) && string(l.text[body:body+len(hintWord)]) == hintWord {
		return token{kind: tokenHint, exec: l.exec, start: int32(body + len(hintWord)), end: int32(end)}, true
	}
	return token{}, false
}

func (l *lexer) token(c byte) token {
	t := token{kind: tokenPunct, exec: l.exec, start: int32(l.at)}
	switch {
	case c == '\'' || c == '"' && l.mode&ModeAnsiQuotes == 0:
		t.kind = tokenString
		l.quoted(c, &t)
	case c == '"' || c == '`':
		t.kind = tokenQuoted
		l.quoted(c, &t)
	case isDigit(c) || c == '.' && isDigit(l.peek(1)) && !l.afterWord():
		t.kind = tokenNumber
		l.number(&t)
	case isWord(c):
		t.kind = tokenWord
		l.word(&t)
	case c == '@':
		l.variable(&t)
	case c == '?':
		t.kind = tokenMark
		l.at++
	case c == ':' && l.peek(1) == '=':
		t.kind = tokenAssign
		l.at += 2
	default:
		l.at++
	}
	t.end = int32(l.at)
	return t
}

// afterWord tells whether the byte before belongs to an identifier, so that
// t.1a is a qualified name and not a number.
func (l *lexer) afterWord() bool {
	return l.at > 0 && (isWord(l.text[l.at-1]) || l.text[l.at-1] == '`')
}

// quoted passes a string or quoted identifier. In identifiers a backslash is an
// ordinary character.
func (l *lexer) quoted(quote byte, t *token) {
	escapes := t.kind == tokenString && l.mode&ModeNoBackslashEscapes == 0
	for l.at++; l.at < len(l.text); l.at++ {
		switch c := l.text[l.at]; {
		case l.mode&ModeMultibyte != 0 && c >= 0x80:
			l.at++ // the second byte is part of the character
		case c == '\\' && escapes:
			l.at++
		case c == quote:
			if l.peek(1) != quote {
				l.at++
				return
			}
			l.at++
		}
	}
	l.at = len(l.text)
	t.kind = tokenBroken
}

// number passes a number; an identifier may begin with digits too.
func (l *lexer) number(t *token) {
	plain := true
	for ; l.at < len(l.text); l.at++ {
		c := l.text[l.at]
		if (c == '+' || c == '-') && plain && l.at > int(t.start) && (l.text[l.at-1]|0x20) == 'e' && isDigit(l.peek(1)) && !isHex(l.text[t.start:l.at]) {
			continue
		}
		if !isWord(c) && c != '.' {
			break
		}
		if c >= 0x80 || c == '_' || c == '$' {
			plain = false
		}
	}
	if !isNumber(l.text[t.start:l.at]) {
		t.kind = tokenWord
	}
}

// isHex: 0X41 with a capital is an identifier.
func isHex(b []byte) bool { return len(b) > 1 && b[0] == '0' && b[1] == 'x' }

// isNumber tells 12, 1.5e3, 0xff and 0b01 from an identifier such as 2fa.
func isNumber(b []byte) bool {
	if isHex(b) || len(b) > 1 && b[0] == '0' && b[1] == 'b' {
		return true
	}
	for i, c := range b {
		switch {
		case isDigit(c) || c == '.':
		case c|0x20 == 'e' && i > 0:
			rest := b[i+1:]
			if len(rest) > 0 && (rest[0] == '+' || rest[0] == '-') {
				rest = rest[1:]
			}
			for _, d := range rest {
				if !isDigit(d) {
					return false
				}
			}
			return len(rest) > 0
		default:
			return false
		}
	}
	return true
}

// word passes an identifier or keyword. x'41', b'1' and n'text' are strings.
func (l *lexer) word(t *token) {
	for l.at < len(l.text) && isWord(l.text[l.at]) {
		l.at++
	}
	if l.at-int(t.start) == 1 && l.peek(0) == '\'' {
		switch l.text[t.start] | 0x20 {
		case 'x', 'b', 'n':
			t.kind = tokenString
			l.quoted('\'', t)
		}
	}
}

func (l *lexer) variable(t *token) {
	t.kind = tokenUserVariable
	l.at++
	if l.peek(0) == '@' {
		t.kind = tokenSystemVariable
		l.at++
	}
	if c := l.peek(0); c == '`' || (c == '\'' || c == '"') && t.kind == tokenUserVariable {
		kind := t.kind
		l.quoted(c, t)
		if t.kind != tokenBroken {
			t.kind = kind
		}
		return
	}
	for l.at < len(l.text) && (isWord(l.text[l.at]) || l.text[l.at] == '.') {
		l.at++
	}
}
