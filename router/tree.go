package router

import (
	"strings"
	"sync"

	"github.com/pingcap/tidb/pkg/parser"
	"github.com/pingcap/tidb/pkg/parser/ast"
	"github.com/pingcap/tidb/pkg/parser/mysql"
	_ "github.com/pingcap/tidb/pkg/parser/test_driver" // literal values
)

// parsers are reused: a new one costs 17 KiB.
var parsers = sync.Pool{New: func() any { return parser.New() }}

// facts are what the tree of a query says.
type facts struct {
	other    bool // not a query
	locking  bool
	into     bool
	assigns  bool
	call     bool // a function that may be stored
	readOnly map[string]bool
}

// parse reads a query into a tree and walks all of it. ok is false when the
// parser does not know the syntax, or fell over it.
func (c *Classifier) parse(p part) (f facts, ok bool) {
	defer func() {
		if recover() != nil { // the parser is not ours; its fault costs one replica read
			ok = false
		}
	}()
	text := string(p.text[p.tokens[0].start:p.tokens[len(p.tokens)-1].end])
	ps := parsers.Get().(*parser.Parser)
	mode := mysql.SQLMode(mysql.ModeNone)
	if c.parsing(p, ModeAnsiQuotes) {
		mode |= mysql.ModeANSIQuotes
	}
	if c.parsing(p, ModeNoBackslashEscapes) {
		mode |= mysql.ModeNoBackslashEscapes
	}
	ps.SetSQLMode(mode)
	nodes, _, err := ps.ParseSQL(text)
	if err != nil || len(nodes) != 1 {
		ps.Reset()
		parsers.Put(ps)
		return f, false
	}
	f.readOnly = c.readOnly
	switch nodes[0].(type) {
	case *ast.SelectStmt, *ast.SetOprStmt:
		nodes[0].Accept(&f)
	default:
		f.other = true
	}
	ps.Reset()
	parsers.Put(ps)
	return f, true
}

func (c *Classifier) parsing(p part, m Mode) bool { return Mode(p.print[0]-'0')&m != 0 }

// Enter notes what a node means. It never stops the walk: a lock may hide
// anywhere below.
func (f *facts) Enter(n ast.Node) (ast.Node, bool) {
	switch n := n.(type) {
	case *ast.SelectStmt:
		f.locking = f.locking || n.LockInfo != nil && n.LockInfo.LockType != ast.SelectLockNone
		f.into = f.into || n.SelectIntoOpt != nil
	case *ast.VariableExpr:
		f.assigns = f.assigns || n.Value != nil
	case *ast.FuncCallExpr:
		f.function(n)
	case *ast.InsertStmt, *ast.UpdateStmt, *ast.DeleteStmt:
		f.other = true
	}
	return n, false
}

// Leave is ast.Visitor's.
func (f *facts) Leave(n ast.Node) (ast.Node, bool) { return n, true }

func (f *facts) function(n *ast.FuncCallExpr) {
	name := n.FnName.L
	switch {
	case f.readOnly[name]:
	case n.Schema.L != "":
		f.call = true
	case pureFunctions[name]:
	default:
		if _, special := specialFunctions[name]; !special { // the tokens saw to the special ones
			f.call = true
		}
	}
}

// statement is the verdict of the tree. The tokens found nothing but, perhaps,
// calls that the tree may explain away.
func (f *facts) statement(c *Classifier, p part) *Statement {
	switch {
	case f.other:
		return unparsed()
	case f.locking:
		return write(KindSelect, ReasonLockingRead)
	case f.into:
		return write(KindSelect, ReasonInto)
	case f.assigns:
		return primaryBinds(ReasonAssignment, effect{do: effectUserVariable})
	case f.call || p.quotedCall():
		return write(KindSelect, ReasonFunction)
	}
	if bar := c.withoutCalls(p); bar != nil {
		return bar
	}
	return reads(KindSelect, ReasonRead)
}

// quotedCall finds a quoted name that is called: always a stored function, even
// if a built-in one has the same name. The tree does not tell them apart.
func (p part) quotedCall() bool {
	for i := range p.tokens {
		if p.punct(i+1, '(') && (p.kind(i) == tokenQuoted && !p.is(i-1, "AS") || p.spaced(i)) {
			return true
		}
	}
	return false
}

// withoutCalls is readTokens for a query whose calls the tree has cleared.
func (c *Classifier) withoutCalls(p part) *Statement {
	var found *Statement
	for i := range p.tokens {
		if st := c.barAt(p, i); st != nil && st.reason != ReasonFunction && (found == nil || rank(st) > rank(found)) {
			found = st
		}
	}
	return found
}

// lower is a set of lower-case names.
func lower(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[strings.ToLower(n)] = true
	}
	return set
}
