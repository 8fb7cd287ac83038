package router

import (
	"os"
	"strings"
	"testing"
	"time"

	"signalbox/config"
)

// statements are the golden file's.
func statements(t testing.TB) []string {
	b, err := os.ReadFile("testdata/statements.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(b), "\n")
}

// FuzzLex checks that tokens cover the text in order, in every mode, and that
// more white space between them changes neither them nor the fingerprint.
func FuzzLex(f *testing.F) {
	for _, s := range statements(f) {
		f.Add([]byte(s), byte(0))
	}
	f.Add([]byte("SELECT '\xd5\x5c' OR 1 -- '"), byte(ModeMultibyte))
	f.Fuzz(func(t *testing.T, text []byte, mode byte) {
		m := Mode(mode) & 7
		var a, b scan
		a.read(text, m)
		var spaced []byte
		end := int32(0)
		for _, tok := range a.tokens {
			if tok.start < end || tok.end < tok.start || int(tok.end) > len(text) {
				t.Fatalf("token %+v after %d of %d bytes", tok, end, len(text))
			}
			end = tok.end
			if tok.kind == tokenBroken || tok.kind == tokenHint || tok.exec || tok.kind == tokenString {
				return // their surroundings matter
			}
			spaced = append(append(spaced, text[tok.start:tok.end]...), ' ', '\n')
		}
		if strings.Contains(string(text), "/*") || strings.ContainsAny(string(text), ".@") {
			return // 1 .5 and 1.5 are not the same
		}
		b.read(spaced, m)
		if len(a.tokens) != len(b.tokens) {
			t.Fatalf("%q: %d tokens, spaced %q: %d", text, len(a.tokens), spaced, len(b.tokens))
		}
	})
}

// FuzzClassify checks the law: what begins with the keyword of a write, or locks,
// never goes to a replica, with or without the cache.
func FuzzClassify(f *testing.F) {
	for _, s := range statements(f) {
		f.Add([]byte(s), byte(0))
	}
	c := NewClassifier(config.Router{})
	f.Fuzz(func(t *testing.T, text []byte, mode byte) {
		m := Mode(mode) & 7
		st := c.Classify(text, m)
		fresh := NewClassifier(config.Router{}).Classify(text, m)
		// The parser may refuse one form of a literal and take another of the same
		// fingerprint: then one is a read and the other only might be.
		doubt := st.reason == ReasonFunction || fresh.reason == ReasonFunction
		if (st.target != fresh.target || st.reason != fresh.reason || st.Kind != fresh.Kind) && !doubt {
			t.Fatalf("%q: %v %v from the cache, %v %v anew", text, st.target, st.reason, fresh.target, fresh.reason)
		}
		if st.target != Replica || st.Multi || st.Kind == KindExplain || st.begins != beginNone || len(st.effects) > 0 && st.effects[0].do == effectNextTransaction {
			return
		}
		var s scan
		s.read(text, m)
		p := part{&s, s.tokens}
		if p.is(0, "INSERT", "UPDATE", "DELETE", "REPLACE", "CALL", "CREATE", "DROP", "ALTER", "GRANT", "LOAD", "DO") || s.broken {
			t.Fatalf("%q goes to a replica", text)
		}
		for i := range p.tokens {
			if p.are(i, "FOR", "UPDATE") && p.kind(i-1) != tokenPunct && p.kind(i-1) != tokenEnd {
				t.Fatalf("%q locks and goes to a replica", text)
			}
		}
	})
}

func TestClassifyHitAllocatesNothing(t *testing.T) {
	if underRace {
		t.Skip("allocations are counted without the race detector")
	}
	c := NewClassifier(config.Router{})
	text := []byte("SELECT c FROM sbtest1 WHERE id=5")
	var s Session
	s.Reset()
	rules := new(Rules)
	if n := testing.AllocsPerRun(100, func() { Decide(&s, c.Classify(text, 0), rules) }); n != 0 {
		t.Fatalf("%v allocations, want 0", n)
	}
}

func TestFingerprint(t *testing.T) {
	print := func(text string, m Mode) string {
		var s scan
		s.read([]byte(text), m)
		return string(s.print[1:])
	}
	alike := [][]string{
		{"SELECT a FROM t WHERE id=1", "SELECT  a\nFROM t /* x */ WHERE id = 22 -- y", "SELECT a FROM t WHERE id='x'"},
		{"INSERT INTO t VALUES (1,2),(3,4)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES ('a', 'b', 'c'), (1, 2, 3), (4, 5, 6)"},
		{"SELECT a FROM t WHERE id IN (1,2,3)", "SELECT a FROM t WHERE id IN (4)"},
	}
	seen := make(map[string]string)
	for _, group := range alike {
		want := print(group[0], 0)
		for _, text := range group {
			if got := print(text, 0); got != want {
				t.Errorf("%q: %q, want %q", text, got, want)
			}
		}
		seen[want] = group[0]
	}
	for _, text := range []string{"SELECT a FROM t WHERE id=@v", "SELECT a FROM T WHERE id=1", "SELECT a FROM t WHERE id=f(1)",
		"SELECT a FROM t WHERE id=1 /*! FOR UPDATE */", "SELECT a FROM t WHERE id=1 FOR UPDATE", "SELECT a FROM t WHERE id='x",
		"KILL 1", "KILL 2", "SELECT GET_LOCK('a',1)", "SELECT GET_LOCK('b',1)", "SET a=1", "SET a=2",
		"/* signalbox: primary */ SELECT a FROM t WHERE id=1"} {
		if other, dup := seen[print(text, 0)]; dup {
			t.Errorf("%q shares its fingerprint with %q", text, other)
		}
		seen[print(text, 0)] = text
	}
}

// TestCacheIsBounded fills the cache far beyond its size.
func TestCacheIsBounded(t *testing.T) {
	c := NewClassifier(config.Router{CacheSize: 1 << 20})
	for i := range 20000 {
		c.Classify([]byte("SELECT a"+strings.Repeat("b", i%50)+string(rune('a'+i%26))+strings.Repeat("c", i%300)), 0)
	}
	total := int64(0)
	for i := range c.shards {
		sum := int64(0)
		for _, e := range c.shards[i].byKey {
			sum += e.cost()
		}
		if sum != c.shards[i].bytes {
			t.Errorf("shard %d counts %d bytes and has %d", i, c.shards[i].bytes, sum)
		}
		total += sum
	}
	if total > 1<<20 || c.Stats().Evicted == 0 {
		t.Errorf("%d bytes kept, %d evicted", total, c.Stats().Evicted)
	}
}

func TestRulesAndHints(t *testing.T) {
	rules, err := NewRules(config.Router{Rules: []config.Rule{
		{Name: "no-drop", Kind: "ddl", Match: "^DROP", Target: "deny", Message: "ask first"},
		{Name: "reports", User: "report", Target: "replica"},
		{Name: "audit", Schema: "audit", Target: "primary"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := NewClassifier(config.Router{})
	for _, tt := range []struct {
		user, schema, sql, rule, deny string
		target                        Target
	}{
		{"app", "", "DROP TABLE t", "no-drop", "ask first", Primary},
		{"report", "", "SELECT 1", "reports", "", Replica},
		{"report", "", "DELETE FROM t", "", "", Primary},
		{"report", "", "SELECT a FROM t FOR UPDATE", "", "", Primary},
		{"app", "audit", "SELECT 1", "audit", "", Primary},
	} {
		s := Session{User: tt.user, Schema: tt.schema}
		s.Reset()
		d := Decide(&s, c.Classify([]byte(tt.sql), 0), rules)
		if d.Target != tt.target || d.Rule != tt.rule || d.Deny != tt.deny {
			t.Errorf("%s %s: %+v", tt.user, tt.sql, d)
		}
	}
	if _, err := NewRules(config.Router{Rules: []config.Rule{{Name: "x", Match: "("}}}); err == nil {
		t.Error("a bad expression was taken")
	}
}

// The lag that a replica may have: a hint's before a rule's before the user's.
func TestMaxLag(t *testing.T) {
	rules, err := NewRules(config.Router{Rules: []config.Rule{
		{Name: "quick", Match: "^SELECT b", MaxLag: 2 * time.Second},
		{Name: "reports", Match: "^SELECT c", Target: "replica", MaxLag: time.Hour},
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := NewClassifier(config.Router{})
	for _, tt := range []struct {
		sql    string
		target Target
		lag    time.Duration
	}{
		{"SELECT a", Replica, 7 * time.Second},
		{"SELECT b", Replica, 2 * time.Second},
		{"SELECT c", Replica, time.Hour},
		{"/* signalbox: max_lag=500ms */ SELECT a", Replica, 500 * time.Millisecond},
		{"/* signalbox: max_lag=500ms */ SELECT b", Replica, 500 * time.Millisecond},
		{"SELECT b /* signalbox: server=r1 max_lag=1m */", Replica, time.Minute},
		{"/* signalbox: max_lag=0 */ SELECT a", Primary, 7 * time.Second},
		{"/* signalbox: max_lag=-1s */ SELECT a", Primary, 7 * time.Second},
		{"/* signalbox: max_lag=soon */ SELECT a", Replica, 7 * time.Second},
		{"/* signalbox: max_lag=1h */ DELETE FROM t", Primary, time.Hour},
		{"/* signalbox: max_lag=1h */ SELECT a FROM t FOR UPDATE", Primary, time.Hour},
	} {
		s := Session{User: "app", MaxLag: 7 * time.Second}
		s.Reset()
		d := Decide(&s, c.Classify([]byte(tt.sql), 0), rules)
		if d.Target != tt.target || d.MaxLag != tt.lag {
			t.Errorf("%s: %v, %v; want %v, %v", tt.sql, d.Target, d.MaxLag, tt.target, tt.lag)
		}
	}
}

// A statement that failed changes nothing, but for several in one packet.
func TestObserveFailures(t *testing.T) {
	c := NewClassifier(config.Router{})
	var s Session
	s.Reset()
	run := func(sql string, a Answer) {
		st := c.Classify([]byte(sql), 0)
		s.Observe(st, Decide(&s, st, nil), a)
	}
	on := Answer{Status: statusAutocommit}
	failed := Answer{Status: statusAutocommit, Failed: true, Code: 1050}
	run("CREATE TEMPORARY TABLE t (a INT)", failed)
	if s.Pinned() != 0 {
		t.Fatalf("pinned %s by a failure", s.Pinned())
	}
	run("SELECT 1; SET @v = 1; SELECT x", failed)
	if s.Pinned()&PinUserVariable == 0 {
		t.Fatal("half of a packet may have run")
	}
	s.Reset()
	run("CALL p()", Answer{Status: statusAutocommit, StateChanged: true})
	if s.Pinned()&PinUnknownState == 0 {
		t.Fatal("a procedure changed state and nothing is pinned")
	}
	s.Reset()
	run("CALL p()", Answer{Status: statusAutocommit | statusInTrans})
	if !s.InTransaction() || s.Pinned() != PinTransaction {
		t.Fatal("the procedure left a transaction open")
	}
	run("COMMIT", on)
	if s.Pinned() != 0 {
		t.Fatalf("pinned %s after COMMIT", s.Pinned())
	}
}
