package router

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// part is one statement of a packet: its tokens, without the semicolon.
type part struct {
	*scan
	tokens []token
}

func (p part) kind(i int) tokenKind {
	if i >= 0 && i < len(p.tokens) {
		return p.tokens[i].kind
	}
	return tokenEnd
}

func (p part) raw(i int) []byte {
	if i >= 0 && i < len(p.tokens) {
		return p.text[p.tokens[i].start:p.tokens[i].end]
	}
	return nil
}

// is tells whether token i is one of the keywords.
func (p part) is(i int, keywords ...string) bool {
	if p.kind(i) != tokenWord {
		return false
	}
	for _, k := range keywords {
		if equalFold(p.raw(i), k) {
			return true
		}
	}
	return false
}

// are tells whether the tokens from i on are the keywords, in order.
func (p part) are(i int, keywords ...string) bool {
	for k, w := range keywords {
		if !p.is(i+k, w) {
			return false
		}
	}
	return true
}

func (p part) punct(i int, c byte) bool {
	return p.kind(i) == tokenPunct && p.raw(i)[0] == c
}

// from returns the part without its first i tokens.
func (p part) from(i int) part { return part{p.scan, p.tokens[min(i, len(p.tokens)):]} }

// name returns the identifier at i in lower case, without quotes and schema,
// and the index after it.
func (p part) name(i int) (string, int) {
	for p.punct(i+1, '.') {
		i += 2
	}
	return unquote(p.raw(i)), i + 1
}

func unquote(b []byte) string {
	if len(b) > 1 && (b[0] == '`' || b[0] == '"' || b[0] == '\'') {
		b = b[1 : len(b)-1]
	}
	return strings.ToLower(string(b))
}

// build classifies what s has read.
func (c *Classifier) build(s *scan) *Statement {
	parts := s.split()
	var st *Statement
	switch {
	case s.broken && !s.cut:
		st = &Statement{Kind: KindUnknown, target: Primary, reason: ReasonUnparsed, IsWrite: true, mayBind: true}
	case len(parts) == 0:
		st = &Statement{Kind: KindEmpty, target: Primary, reason: ReasonEmpty}
	case len(parts) == 1:
		st = c.part(parts[0])
	default:
		st = c.several(parts)
	}
	if s.cut {
		tooLong(st)
	}
	if s.exec {
		c.bothReadings(s, st)
	}
	s.hints(st)
	st.Digest = strings.TrimSpace(string(s.print[1:]))
	st.ID = digestID(st.Digest)
	return st
}

// tooLong: the rest of the text may hold anything but a change of the first
// statement's nature.
func tooLong(st *Statement) {
	st.mayBind = true
	if st.target != Primary {
		st.target, st.reason = Primary, ReasonTooLong
	}
	st.IsRead, st.IsWrite, st.Local, st.Kill = false, true, nil, nil
}

// bothReadings treats a text with executable comments: servers differ in
// whether they execute them, so it is a read only if it is one either way.
func (c *Classifier) bothReadings(s *scan, st *Statement) {
	st.Local = nil
	if !st.IsRead {
		return
	}
	plain := &scan{text: s.text}
	for _, t := range s.tokens {
		if !t.exec {
			plain.tokens = append(plain.tokens, t)
		}
	}
	parts := plain.split()
	if len(parts) == 1 {
		if r := c.readTokens(parts[0]); r == nil || r.target == Replica {
			return
		}
	}
	st.IsRead, st.IsWrite, st.target, st.reason, st.mayBind = false, true, Primary, ReasonUnparsed, true
}

// split cuts the tokens at semicolons. Bodies of stored programs hold
// semicolons of their own: from their beginning on all is one part.
func (s *scan) split() []part {
	var parts []part
	begin := 0
	add := func(end int) {
		if end > begin {
			parts = append(parts, part{s, s.tokens[begin:end]})
		}
		begin = end + 1
	}
	clean := s.tokens[:0]
	for _, t := range s.tokens {
		if t.kind != tokenHint {
			clean = append(clean, t)
		} else {
			s.hinted = append(s.hinted, t)
		}
	}
	s.tokens = clean
	for i := range s.tokens {
		p := part{s, s.tokens[begin:]}
		if i > begin && p.program() {
			break
		}
		if s.tokens[i].kind == tokenPunct && s.text[s.tokens[i].start] == ';' {
			add(i)
		}
	}
	add(len(s.tokens))
	return parts
}

// program tells whether a stored program, or a compound statement, begins here.
func (p part) program() bool {
	switch {
	case p.are(0, "BEGIN", "NOT"), p.is(0, "IF", "CASE", "LOOP", "REPEAT", "WHILE", "FOR", "DECLARE"):
		return true
	case p.is(0, "CREATE", "ALTER"):
		for i := 1; i < min(len(p.tokens), 16); i++ {
			if p.is(i, "PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE") {
				return true
			}
			if p.is(i, "TABLE", "VIEW", "INDEX", "DATABASE", "SCHEMA", "USER") {
				return false
			}
		}
	}
	return false
}

// several combines the statements of one packet: one that needs the primary
// takes all there.
func (c *Classifier) several(parts []part) *Statement {
	all := &Statement{Kind: KindMulti, target: Replica, reason: ReasonMulti, IsRead: true, Multi: true}
	for _, p := range parts {
		st := c.part(p)
		if st.target != Replica || !st.IsRead {
			all.target, all.IsRead = Primary, false
		}
		all.IsWrite = all.IsWrite || st.IsWrite
		all.mayBind = all.mayBind || st.mayBind
		all.effects = append(all.effects, st.effects...)
		if st.begins != beginNone {
			all.begins = st.begins
		}
	}
	return all
}

// part classifies one statement by its first keyword.
func (c *Classifier) part(p part) *Statement {
	at := 0
	for p.punct(at, '(') {
		at++
	}
	if p.is(at, "SELECT", "WITH", "TABLE", "VALUES") {
		return c.read(p)
	}
	if p.kind(0) == tokenWord {
		if f := firstWords[strings.ToUpper(string(p.raw(0)))]; f != nil {
			return f(c, p)
		}
	}
	return unparsed()
}

func unparsed() *Statement {
	return &Statement{Kind: KindUnknown, target: Primary, reason: ReasonUnparsed, IsWrite: true, mayBind: true}
}

func primary(k Kind, r Reason, effects ...effect) *Statement {
	return &Statement{Kind: k, target: Primary, reason: r, effects: effects}
}

func write(k Kind, r Reason, effects ...effect) *Statement {
	st := primary(k, r, effects...)
	st.IsWrite, st.mayBind = true, true
	return st
}

func reads(k Kind, r Reason) *Statement {
	return &Statement{Kind: k, target: Replica, reason: r, IsRead: true}
}

type classifyFunc func(*Classifier, part) *Statement

func writes(k Kind, r Reason) classifyFunc {
	return func(*Classifier, part) *Statement { return write(k, r) }
}

func to(k Kind, r Reason) classifyFunc {
	return func(*Classifier, part) *Statement { return primary(k, r) }
}

// firstWords says what a statement is by its first keyword.
var firstWords map[string]classifyFunc

func init() { // not a literal: the functions refer to it again
	firstWords = map[string]classifyFunc{
		"INSERT": writes(KindInsert, ReasonWrite), "REPLACE": writes(KindReplace, ReasonWrite),
		"UPDATE": writes(KindUpdate, ReasonWrite), "DELETE": writes(KindDelete, ReasonWrite),
		"LOAD": writes(KindLoad, ReasonWrite), "IMPORT": writes(KindLoad, ReasonWrite),
		"CALL": (*Classifier).call, "DO": (*Classifier).do,
		"CREATE": (*Classifier).create, "DROP": (*Classifier).drop, "ALTER": writes(KindDDL, ReasonDDL),
		"RENAME": writes(KindDDL, ReasonDDL), "TRUNCATE": writes(KindDDL, ReasonDDL),
		"GRANT": writes(KindDCL, ReasonDDL), "REVOKE": writes(KindDCL, ReasonDDL),
		"BEGIN": (*Classifier).begin, "START": (*Classifier).start, "COMMIT": (*Classifier).end, "ROLLBACK": (*Classifier).end,
		"SAVEPOINT": to(KindSavepoint, ReasonTransaction), "RELEASE": to(KindSavepoint, ReasonTransaction), "XA": (*Classifier).xa,
		"SET": (*Classifier).set, "USE": (*Classifier).use, "SHOW": (*Classifier).show,
		"EXPLAIN": (*Classifier).explain, "DESCRIBE": (*Classifier).explain, "DESC": (*Classifier).explain, "ANALYZE": (*Classifier).analyze,
		"LOCK": (*Classifier).lock, "UNLOCK": (*Classifier).unlock, "BACKUP": (*Classifier).backup, "FLUSH": (*Classifier).flush,
		"PREPARE": (*Classifier).prepare, "EXECUTE": (*Classifier).execute, "DEALLOCATE": to(KindPrepare, ReasonPrepared),
		"HANDLER": (*Classifier).handler, "KILL": (*Classifier).kill, "GET": (*Classifier).diagnostics,
		"SIGNAL": to(KindDiagnostics, ReasonDiagnostics), "RESIGNAL": to(KindDiagnostics, ReasonDiagnostics),
		"CHECKSUM": func(*Classifier, part) *Statement { return reads(KindShow, ReasonRead) },
		"HELP":     func(*Classifier, part) *Statement { return reads(KindShow, ReasonRead) },
		"OPTIMIZE": writes(KindAdmin, ReasonAdmin), "REPAIR": writes(KindAdmin, ReasonAdmin), "CHECK": writes(KindAdmin, ReasonAdmin),
		"RESET": writes(KindAdmin, ReasonAdmin), "CACHE": writes(KindAdmin, ReasonAdmin), "PURGE": writes(KindAdmin, ReasonAdmin),
		"INSTALL": writes(KindAdmin, ReasonAdmin), "UNINSTALL": writes(KindAdmin, ReasonAdmin), "CHANGE": writes(KindAdmin, ReasonAdmin),
		"STOP": writes(KindAdmin, ReasonAdmin), "SHUTDOWN": writes(KindAdmin, ReasonAdmin), "RESTART": writes(KindAdmin, ReasonAdmin),
		"CLONE": writes(KindAdmin, ReasonAdmin), "BINLOG": writes(KindAdmin, ReasonAdmin),
	}
}

// diagnostics is GET DIAGNOSTICS, which answers into user variables.
func (c *Classifier) diagnostics(part) *Statement {
	return &Statement{Kind: KindDiagnostics, target: Same, reason: ReasonDiagnostics, effects: []effect{{do: effectUserVariable}}}
}

// call is CALL. A procedure answers into the user variables that it is given,
// and may set others.
func (c *Classifier) call(p part) *Statement {
	st := write(KindCall, ReasonWrite)
	st.mayBind = true
	for i := range p.tokens {
		if p.kind(i) == tokenUserVariable {
			st.effects = append(st.effects, effect{do: effectUserVariable})
			break
		}
	}
	return st
}

func (c *Classifier) do(p part) *Statement {
	st := write(KindDo, ReasonWrite)
	st.effects = p.callEffects()
	return st
}

// create finds temporary tables; they are known by name.
func (c *Classifier) create(p part) *Statement {
	i := 1
	if p.are(i, "OR", "REPLACE") {
		i += 2
	}
	if !p.is(i, "TEMPORARY") {
		return write(KindDDL, ReasonDDL)
	}
	for i++; p.is(i, "TABLE", "IF", "NOT", "EXISTS", "SEQUENCE"); i++ {
	}
	name, _ := p.name(i)
	return write(KindDDL, ReasonTemporaryTable, effect{effectTempCreate, name})
}

func (c *Classifier) drop(p part) *Statement {
	st := write(KindDDL, ReasonDDL)
	i := 1
	if p.is(i, "TEMPORARY") {
		i++
	}
	if !p.is(i, "TABLE", "TABLES", "SEQUENCE") {
		return st
	}
	for i++; p.is(i, "IF", "EXISTS"); i++ {
	}
	for i < len(p.tokens) {
		var name string
		name, i = p.name(i)
		st.effects = append(st.effects, effect{effectTempDrop, name})
		if !p.punct(i, ',') {
			break
		}
		i++
	}
	return st
}

func (c *Classifier) begin(p part) *Statement {
	if p.is(1, "NOT") {
		return unparsed()
	}
	st := primary(KindBegin, ReasonTransaction)
	st.begins = beginDefault
	return st
}

func (c *Classifier) start(p part) *Statement {
	if !p.is(1, "TRANSACTION") {
		return write(KindAdmin, ReasonAdmin)
	}
	st := primary(KindBegin, ReasonTransaction)
	st.begins = beginDefault
	for i := 2; i < len(p.tokens); i++ {
		switch {
		case p.are(i, "READ", "ONLY"):
			st.begins, st.target, st.reason = beginReadOnly, Replica, ReasonReadOnlyTransaction
		case p.are(i, "READ", "WRITE"):
			st.begins = beginReadWrite
		}
	}
	return st
}

func (c *Classifier) end(p part) *Statement {
	st := primary(KindCommit, ReasonTransaction)
	if p.is(0, "ROLLBACK") {
		st.Kind = KindRollback
	}
	for i := 1; i < len(p.tokens); i++ {
		if p.is(i, "TO") {
			return primary(KindSavepoint, ReasonTransaction)
		}
	}
	st.begins = beginEnd
	return st
}

func (c *Classifier) xa(p part) *Statement {
	st := primary(KindXA, ReasonXA)
	st.IsWrite = true
	switch {
	case p.is(1, "START", "BEGIN"):
		st.effects = []effect{{do: effectXABegin}}
	case p.is(1, "PREPARE", "COMMIT", "ROLLBACK"):
		st.effects = []effect{{do: effectXAEnd}}
	}
	return st
}

func (c *Classifier) use(p part) *Statement {
	return &Statement{Kind: KindUse, target: Same, reason: ReasonSessionState}
}

func (c *Classifier) lock(p part) *Statement {
	return primary(KindLock, ReasonLockTables, effect{do: effectLockTables})
}

func (c *Classifier) unlock(p part) *Statement {
	return primary(KindLock, ReasonLockTables, effect{do: effectUnlockTables})
}

func (c *Classifier) backup(p part) *Statement {
	if p.are(1, "STAGE", "END") || p.is(1, "UNLOCK") {
		return c.unlock(p)
	}
	return c.lock(p)
}

func (c *Classifier) flush(p part) *Statement {
	for i := 1; i < len(p.tokens); i++ {
		if p.is(i, "LOCK", "EXPORT") {
			return c.lock(p)
		}
	}
	return write(KindAdmin, ReasonAdmin)
}

func (c *Classifier) prepare(p part) *Statement {
	for i := 1; i < len(p.tokens); i++ {
		if p.is(i, "FROM") && p.kind(i+1) != tokenString {
			return write(KindPrepare, ReasonPrepared, effect{do: effectPreparedFromVariable})
		}
	}
	return write(KindPrepare, ReasonPrepared, effect{do: effectPrepared})
}

func (c *Classifier) execute(p part) *Statement {
	return write(KindExecute, ReasonPrepared)
}

func (c *Classifier) handler(p part) *Statement {
	name, i := p.name(1)
	switch {
	case p.is(i, "OPEN"):
		for ; i < len(p.tokens); i++ {
			if j := i + 1; p.is(i, "OPEN") && j < len(p.tokens) {
				if p.is(j, "AS") {
					j++
				}
				name, _ = p.name(j)
			}
		}
		return primary(KindHandler, ReasonHandler, effect{effectHandlerOpen, name})
	case p.is(i, "CLOSE"):
		return primary(KindHandler, ReasonHandler, effect{effectHandlerClose, name})
	}
	return primary(KindHandler, ReasonHandler)
}

func (c *Classifier) kill(p part) *Statement {
	k := &Kill{}
	for i := 1; i < len(p.tokens); i++ {
		switch {
		case p.is(i, "QUERY"):
			k.QueryOnly = true
		case p.is(i, "CONNECTION", "HARD", "SOFT"):
		default:
			id, err := strconv.ParseUint(string(p.raw(i)), 10, 64)
			if err != nil || i != len(p.tokens)-1 {
				return write(KindKill, ReasonKill)
			}
			k.ID = id
			st := primary(KindKill, ReasonKill)
			st.target, st.Kill = Local, k
			return st
		}
	}
	return write(KindKill, ReasonKill)
}

// explain is where the inner statement would go; without one it describes a
// table.
func (c *Classifier) explain(p part) *Statement {
	i := 1
	for {
		switch {
		case p.is(i, "ANALYZE", "EXTENDED", "PARTITIONS"):
			i++
			continue
		case p.is(i, "FORMAT") && p.punct(i+1, '='):
			i += 3
			continue
		case p.is(i, "FOR"):
			return primary(KindExplain, ReasonServerState)
		}
		break
	}
	inner := p.from(i)
	at := 0
	for inner.punct(at, '(') {
		at++
	}
	if inner.is(at, "SELECT", "WITH", "TABLE", "VALUES", "UPDATE", "DELETE", "INSERT", "REPLACE", "CALL") {
		return c.inner(inner)
	}
	if i == 1 && p.kind(1) != tokenEnd {
		return reads(KindExplain, ReasonRead)
	}
	return unparsed()
}

// inner classifies the statement that is explained.
func (c *Classifier) inner(p part) *Statement {
	st := c.part(p)
	return &Statement{Kind: KindExplain, target: st.target, reason: st.reason, IsRead: st.IsRead, IsWrite: st.IsWrite, effects: st.effects, mayBind: st.mayBind}
}

func (c *Classifier) analyze(p part) *Statement {
	i := 1
	if p.is(i, "FORMAT") && p.punct(i+1, '=') {
		i += 3
	}
	inner := p.from(i)
	if inner.is(0, "SELECT", "WITH", "UPDATE", "DELETE", "INSERT", "REPLACE", "TABLE", "VALUES") && !inner.is(1, "PERSISTENT") &&
		!(inner.is(0, "TABLE") && i == 1) || inner.punct(0, '(') {
		return c.inner(inner)
	}
	return write(KindAdmin, ReasonAdmin)
}

// hints reads the comments addressed to Signalbox.
func (s *scan) hints(st *Statement) {
	for _, t := range s.hinted {
		for _, word := range bytes.Fields(s.text[t.start:t.end]) {
			h := st.Hint
			if h == nil {
				h = &Hint{Target: Same}
			}
			key, value, _ := bytes.Cut(word, []byte("="))
			switch string(key) {
			case "primary":
				h.Target = Primary
			case "replica":
				h.Target = Replica
			case "server":
				h.Server = string(value)
			case "consistency":
				h.consistency(string(value))
			case "after":
				h.After = true
			case "max_lag":
				lag, err := time.ParseDuration(string(value))
				if err != nil {
					continue
				}
				if h.MaxLag = lag; lag <= 0 { // no replica is ever known to be that fresh
					h.Target, h.MaxLag = Primary, 0
				}
			default:
				continue
			}
			st.Hint = h
		}
	}
}
