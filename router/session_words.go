package router

import "strings"

// set classifies SET in all its forms.
func (c *Classifier) set(p part) *Statement {
	switch {
	case p.is(1, "STATEMENT"):
		return c.setStatement(p)
	case p.is(1, "PASSWORD"), p.are(1, "DEFAULT", "ROLE"):
		return write(KindSet, ReasonGlobalState)
	case p.is(1, "TRANSACTION"):
		return c.setTransaction(p, 2, effectNextTransaction)
	case p.is(1, "SESSION", "LOCAL") && p.is(2, "TRANSACTION"):
		return c.setTransaction(p, 3, effectSessionReadWrite)
	case p.is(1, "ROLE"), p.is(1, "NAMES"), p.is(1, "CHARSET"), p.are(1, "CHARACTER", "SET"):
		return &Statement{Kind: KindSet, target: Same, reason: ReasonSessionState}
	}
	return c.setVariables(p)
}

// setVariables: session variables go to the connection at hand and are replayed
// on others; a user variable is known only where it was set.
func (c *Classifier) setVariables(p part) *Statement {
	st := &Statement{Kind: KindSet, target: Same, reason: ReasonSessionState}
	depth := 0
	for i := 1; i < len(p.tokens); i++ {
		starts := i == 1 || p.punct(i-1, ',') && depth == 0
		switch {
		case p.punct(i, '('):
			depth++
		case p.punct(i, ')'):
			depth--
		case starts && (p.is(i, "GLOBAL", "PERSIST", "PERSIST_ONLY") || p.kind(i) == tokenSystemVariable && globalVariable(p.raw(i))):
			return write(KindSet, ReasonGlobalState)
		case (starts || p.is(i-1, "SESSION", "LOCAL") || p.kind(i-1) == tokenSystemVariable) && ofTheWriter(p.raw(i)):
			st.target, st.reason = Primary, ReasonSessionState
		case p.kind(i) == tokenUserVariable && starts:
			st.target, st.reason = Primary, ReasonUserVariable
			st.effects = append(st.effects, effect{do: effectUserVariable})
		case p.is(i, "SELECT"), p.kind(i) == tokenWord && p.punct(i+1, '(') && !pureFunctions[unquote(p.raw(i))]:
			// The value comes from the data or from a function: only the primary's will do.
			if st.reason == ReasonSessionState {
				st.target, st.reason = Primary, ReasonFunction
			}
			st.IsWrite = true
			st.effects = append(st.effects, p.lockEffect(i)...)
		}
	}
	return st
}

// ofTheWriter tells whether a variable is about the writes that follow it: it
// cannot be replayed elsewhere, so it is set where they run.
func ofTheWriter(raw []byte) bool {
	name := strings.ToLower(strings.TrimLeft(string(raw), "@"))
	switch strings.Trim(name[strings.LastIndexByte(name, '.')+1:], "`") {
	case "sql_log_bin", "insert_id", "timestamp", "gtid_next", "gtid_seq_no", "gtid_domain_id", "server_id", "binlog_format",
		"skip_replication", "rand_seed1", "rand_seed2", "pseudo_thread_id", "pseudo_slave_mode", "pseudo_replica_mode":
		return true
	}
	return false
}

func globalVariable(raw []byte) bool {
	name := strings.ToLower(string(raw))
	return strings.HasPrefix(name, "@@global.") || strings.HasPrefix(name, "@@persist")
}

// setTransaction: for the next transaction the statement must go where that
// one will; for the session it is a variable like any other.
func (c *Classifier) setTransaction(p part, i int, do effectKind) *Statement {
	readOnly, readWrite := false, false
	for ; i < len(p.tokens); i++ {
		readOnly = readOnly || p.are(i, "READ", "ONLY")
		readWrite = readWrite || p.are(i, "READ", "WRITE")
	}
	if do == effectNextTransaction {
		st := primary(KindSet, ReasonNextTransaction, effect{do: do})
		if readOnly {
			st.target, st.effects[0].name = Replica, "read only"
		}
		return st
	}
	st := &Statement{Kind: KindSet, target: Same, reason: ReasonSessionState}
	switch {
	case readOnly:
		st.effects = []effect{{do: effectSessionReadOnly}}
	case readWrite:
		st.effects = []effect{{do: effectSessionReadWrite}}
	}
	return st
}

// setStatement is SET STATEMENT x=y FOR statement (MariaDB): as the statement
// inside.
func (c *Classifier) setStatement(p part) *Statement {
	for i := 2; i < len(p.tokens); i++ {
		if p.is(i, "FOR") {
			st := c.part(p.from(i + 1))
			st.Local = nil
			if st.target == Local {
				st.target = Same
			}
			return st
		}
	}
	return unparsed()
}

// showsData are the SHOW statements about schema objects: a replica knows them
// as well as it knows the data.
var showsData = map[string]bool{"CREATE": true, "COLUMNS": true, "FIELDS": true, "INDEX": true, "INDEXES": true, "KEYS": true,
	"TABLES": true, "DATABASES": true, "SCHEMAS": true, "TABLE": true, "FUNCTION": true, "PROCEDURE": true, "TRIGGERS": true,
	"EVENTS": true, "CHARSET": true, "CHARACTER": true, "COLLATION": true, "ENGINES": true, "PLUGINS": true, "PRIVILEGES": true,
	"PACKAGE": true, "STORAGE": true}

func (c *Classifier) show(p part) *Statement {
	i := 1
	for p.is(i, "FULL", "EXTENDED") {
		i++
	}
	word := strings.ToUpper(string(p.raw(i)))
	switch {
	case word == "SIGNALBOX" && p.is(i+1, "POSITION") && len(p.tokens) == i+2:
		return &Statement{Kind: KindShow, target: Local, reason: ReasonSessionValue, Local: []LocalColumn{{LocalPosition, "Position"}}}
	case word == "WARNINGS" || word == "ERRORS" || word == "COUNT" && p.punct(i+1, '('):
		return &Statement{Kind: KindShow, target: Same, reason: ReasonDiagnostics}
	case word == "SESSION" || word == "LOCAL" || word == "VARIABLES":
		return primary(KindShow, ReasonServerState)
	case showsData[word]:
		if c.readTokens(p.from(i+2)) == nil {
			return reads(KindShow, ReasonRead)
		}
		return primary(KindShow, ReasonSystemSchema)
	}
	return primary(KindShow, ReasonServerState)
}
