package router

import "strings"

// read classifies what may be a plain read: SELECT, WITH, TABLE, VALUES, and
// these in parentheses. The tokens are asked first for what no read contains;
// then the parser gives the tree, and where it fails the tokens decide alone.
func (c *Classifier) read(p part) *Statement {
	if st := p.sessionValues(); st != nil {
		return st
	}
	bar := c.readTokens(p)
	if bar != nil && bar.reason != ReasonFunction {
		return bar
	}
	// Only what the tokens take for an unknown call is left in doubt: the tree
	// tells a call from an alias with a column list, and such.
	if !p.exec && !p.cut {
		if facts, ok := c.parse(p); ok {
			return facts.statement(c, p)
		}
	}
	if bar != nil {
		if p.unknownStart() {
			return unparsed()
		}
		bar.mayBind = true
		return bar
	}
	return reads(KindSelect, ReasonRead)
}

// unknownStart: a WITH that is no query.
func (p part) unknownStart() bool { return p.is(0, "WITH") && !p.has("SELECT") }

func (p part) has(keyword string) bool {
	for i := range p.tokens {
		if p.is(i, keyword) {
			return true
		}
	}
	return false
}

// writeWords begin a statement that is no read; inside of one they follow WITH
// or nothing.
func (p part) isWriteWord(i int) bool {
	return p.is(i, "UPDATE", "DELETE", "INSERT", "REPLACE") && !p.punct(i+1, '(')
}

// readTokens looks for what makes a query more than a read. It returns nil when
// the tokens prove that it is one.
func (c *Classifier) readTokens(p part) *Statement {
	found := (*Statement)(nil)
	worse := func(st *Statement) {
		// A statement that binds the session outweighs one that does not.
		if found == nil || rank(st) > rank(found) {
			if found != nil {
				st.effects = append(st.effects, found.effects...)
			}
			found = st
		} else {
			found.effects = append(found.effects, st.effects...)
		}
	}
	for i := range p.tokens {
		if st := c.barAt(p, i); st != nil {
			worse(st)
		}
	}
	return found
}

// rank orders what a query may be by how much it demands.
func rank(st *Statement) int {
	switch {
	case st.target == Same:
		return 0
	case st.target == Replica:
		return 1
	case st.reason == ReasonSystemSchema:
		return 2
	case len(st.effects) == 0 && !st.IsWrite:
		return 3
	case st.reason == ReasonFunction:
		return 4
	}
	return 5
}

// barAt says what token i means for a query, nil for nothing.
func (c *Classifier) barAt(p part, i int) *Statement {
	switch p.kind(i) {
	case tokenAssign:
		return primaryBinds(ReasonAssignment, effect{do: effectUserVariable})
	case tokenSystemVariable:
		return systemVariable(p.raw(i))
	case tokenQuoted:
		if p.punct(i+1, '(') && !p.is(i-1, "AS") {
			return write(KindSelect, ReasonFunction)
		}
		return c.schemaAt(p, i)
	case tokenWord:
		return c.barWord(p, i)
	case tokenPunct:
		if p.raw(i)[0] < ' ' || p.raw(i)[0] == '\\' || p.raw(i)[0] == '{' {
			return unparsed()
		}
	case tokenBroken:
		return unparsed()
	}
	return nil
}

func primaryBinds(r Reason, effects ...effect) *Statement {
	return &Statement{Kind: KindSelect, target: Primary, reason: r, effects: effects}
}

func (c *Classifier) barWord(p part, i int) *Statement {
	switch {
	case p.punct(i-1, '.'):
		if p.is(i, "NEXTVAL", "CURRVAL", "LASTVAL", "SETVAL") {
			return write(KindSelect, ReasonSequence)
		}
		if p.punct(i+1, '(') {
			if c.readOnly[strings.ToLower(string(p.raw(i)))] {
				return nil
			}
			return write(KindSelect, ReasonFunction)
		}
		return nil
	case p.is(i, "UPDATE") && p.is(i-1, "FOR"), p.is(i, "SHARE") && p.is(i-1, "FOR"), p.are(i, "LOCK", "IN"):
		return write(KindSelect, ReasonLockingRead)
	case p.is(i, "INTO"):
		if p.kind(i+1) == tokenUserVariable {
			return primaryBinds(ReasonInto, effect{do: effectUserVariable})
		}
		return write(KindSelect, ReasonInto)
	case p.are(i, "VALUE", "FOR") && p.is(i-1, "NEXT", "PREVIOUS"):
		return write(KindSelect, ReasonSequence)
	case p.is(i, "SQL_CALC_FOUND_ROWS"):
		return &Statement{Kind: KindSelect, target: Replica, reason: ReasonFoundRows, IsRead: true, effects: []effect{{do: effectFoundRows}}}
	case p.isWriteWord(i) && !p.is(i-1, "FOR", "KEY", "INDEX"):
		return write(writeKind(p, i), ReasonWrite)
	case p.is(i, "PROCEDURE"):
		return write(KindSelect, ReasonFunction)
	case p.punct(i+1, '('):
		if p.is(i-1, "AS") || p.is(i, "COLUMNS") && p.kind(i-1) == tokenString {
			return nil // an alias with its columns, or JSON_TABLE's columns
		}
		return c.callAt(p, i)
	}
	return c.schemaAt(p, i)
}

func writeKind(p part, i int) Kind {
	switch {
	case p.is(i, "UPDATE"):
		return KindUpdate
	case p.is(i, "DELETE"):
		return KindDelete
	case p.is(i, "REPLACE"):
		return KindReplace
	}
	return KindInsert
}

// callAt judges a word before a parenthesis.
func (c *Classifier) callAt(p part, i int) *Statement {
	name := strings.ToLower(string(p.raw(i)))
	if f, ok := specialFunctions[name]; ok {
		return special(p, i, name, f.target, f.reason)
	}
	if pureFunctions[name] && !p.spaced(i) || notFunctions[name] || c.readOnly[name] {
		return nil
	}
	return write(KindSelect, ReasonFunction)
}

// spaced finds NOW () and its like: with a blank before the parenthesis these
// names, and no others, stand for a stored function (MySQL manual, "Function
// Name Parsing and Resolution").
func (p part) spaced(i int) bool {
	if p.tokens[i].end == p.tokens[i+1].start {
		return false
	}
	return p.is(i, "ADDDATE", "BIT_AND", "BIT_OR", "BIT_XOR", "CAST", "COUNT", "CURDATE", "CURTIME", "DATE_ADD", "DATE_SUB",
		"EXTRACT", "GROUP_CONCAT", "MAX", "MID", "MIN", "NOW", "POSITION", "SESSION_USER", "STD", "STDDEV", "STDDEV_POP",
		"STDDEV_SAMP", "SUBDATE", "SUBSTR", "SUBSTRING", "SUM", "SYSDATE", "SYSTEM_USER", "TRIM", "VARIANCE", "VAR_POP", "VAR_SAMP")
}

// special is a query that calls a function bound to one server.
func special(p part, i int, name string, target Target, reason Reason) *Statement {
	st := &Statement{Kind: KindSelect, target: target, reason: reason}
	switch name {
	case "last_insert_id":
		if !p.punct(i+2, ')') {
			return write(KindSelect, ReasonSessionValue)
		}
	case "get_lock", "release_lock", "release_all_locks":
		st.effects = p.lockEffect(i)
	case "nextval", "setval":
		st.IsWrite = true
	}
	return st
}

// lockEffect reads a call of a lock function at token i.
func (p part) lockEffect(i int) []effect {
	name := ""
	if p.kind(i+2) == tokenString && (p.punct(i+3, ',') || p.punct(i+3, ')')) {
		name = unquote(p.raw(i + 2))
	}
	switch {
	case p.is(i, "GET_LOCK"):
		return []effect{{effectGetLock, name}}
	case p.is(i, "RELEASE_LOCK"):
		return []effect{{effectReleaseLock, name}}
	case p.is(i, "RELEASE_ALL_LOCKS"):
		return []effect{{do: effectReleaseAll}}
	}
	return nil
}

// callEffects collects what lock functions and assignments in any statement do.
func (p part) callEffects() []effect {
	var all []effect
	for i := range p.tokens {
		if p.kind(i) == tokenAssign {
			all = append(all, effect{do: effectUserVariable})
		}
		if p.punct(i+1, '(') {
			all = append(all, p.lockEffect(i)...)
		}
	}
	return all
}

// systemVariable: most are read where the query runs; a few belong to the
// statement before.
func systemVariable(raw []byte) *Statement {
	name := strings.ToLower(strings.TrimPrefix(string(raw), "@@"))
	name = strings.Trim(name[strings.LastIndexByte(name, '.')+1:], "`")
	switch name {
	case "warning_count", "error_count":
		return &Statement{Kind: KindSelect, target: Same, reason: ReasonDiagnostics}
	case "identity", "last_insert_id", "insert_id", "last_gtid":
		return &Statement{Kind: KindSelect, target: Same, reason: ReasonSessionValue}
	}
	return nil
}

// schemaAt finds a qualified name of a system schema at token i.
func (c *Classifier) schemaAt(p part, i int) *Statement {
	if c.systemReplica || !p.punct(i+1, '.') || p.punct(i-1, '.') {
		return nil
	}
	switch unquote(p.raw(i)) {
	case "information_schema", "performance_schema", "mysql", "sys":
		return &Statement{Kind: KindSelect, target: Primary, reason: ReasonSystemSchema, IsRead: true}
	}
	return nil
}

// sessionValues recognises a query for what the proxy knows, and nothing else.
// The column is named as the server names it: by the text, or by its alias.
func (p part) sessionValues() *Statement {
	if !p.is(0, "SELECT") {
		return nil
	}
	st := &Statement{Kind: KindSelect, target: Local, reason: ReasonSessionValue, IsRead: false}
	for i := 1; ; {
		column, next, ok := p.sessionValue(i)
		if !ok {
			return nil
		}
		st.Local = append(st.Local, column)
		if i = next; i == len(p.tokens) {
			return st
		}
		if !p.punct(i, ',') {
			return nil
		}
		i++
	}
}

func (p part) sessionValue(i int) (c LocalColumn, next int, ok bool) {
	begin := i
	switch {
	case p.is(i, "LAST_INSERT_ID", "ROW_COUNT", "CONNECTION_ID") && p.punct(i+1, '(') && p.punct(i+2, ')'):
		switch p.raw(i)[0] | 0x20 {
		case 'r':
			c.Func = LocalRowCount
		case 'c':
			c.Func = LocalConnectionID
		}
		i += 3
	case p.kind(i) == tokenSystemVariable && (equalFold(p.raw(i), "@@IDENTITY") || equalFold(p.raw(i), "@@LAST_INSERT_ID")):
		i++
	default:
		return c, 0, false
	}
	c.Name = string(p.text[p.tokens[begin].start:p.tokens[i-1].end])
	switch {
	case p.is(i, "AS") && (p.kind(i+1) == tokenWord || p.kind(i+1) == tokenQuoted):
		i++
		fallthrough
	case p.kind(i) == tokenQuoted, p.kind(i) == tokenWord && !p.is(i, "FROM", "LIMIT", "INTO", "WHERE", "ORDER", "UNION", "GROUP", "HAVING", "FOR"):
		c.Name = string(p.raw(i))
		if p.kind(i) == tokenQuoted {
			q := c.Name[:1]
			c.Name = strings.ReplaceAll(c.Name[1:len(c.Name)-1], q+q, q)
		}
		i++
	}
	return c, i, true
}
