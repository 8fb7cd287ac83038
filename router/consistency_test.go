package router

import (
	"testing"

	"signalbox/config"
)

func TestConsistencyIsTheNearestWord(t *testing.T) {
	rules, err := NewRules(config.Router{Rules: []config.Rule{{Name: "audited", Schema: "audit", Consistency: "global"},
		{Name: "loose", Kind: "show", Target: "replica", Consistency: "eventual"}}})
	if err != nil {
		t.Fatal(err)
	}
	c := NewClassifier(config.Router{})
	for _, tt := range []struct {
		user         Consistency
		schema, sql  string
		want         Consistency
		target       Target
		rule, server string
	}{
		{sql: "SELECT 1", want: ConsistencySession, target: Replica},
		{user: ConsistencyEventual, sql: "SELECT 1", want: ConsistencyEventual, target: Replica},
		{user: ConsistencyEventual, schema: "audit", sql: "SELECT 1", want: ConsistencyGlobal, target: Replica, rule: "audited"},
		{sql: "SHOW TABLES", want: ConsistencyEventual, target: Replica, rule: "loose"},
		{schema: "audit", sql: "SELECT 1 /* signalbox: consistency=eventual */", want: ConsistencyEventual, target: Replica, rule: "audited"},
		{sql: "/* signalbox: consistency=global replica */ SELECT 1", want: ConsistencyGlobal, target: Replica},
		{sql: "/* signalbox: consistency=globl */ SELECT 1", want: ConsistencySession, target: Primary},
		{user: ConsistencyEventual, sql: "/* signalbox: after=0-1-5~x */ SELECT 1", want: ConsistencySession, target: Replica},
		{user: ConsistencyGlobal, sql: "/* signalbox: after=0-1-5~x */ SELECT 1", want: ConsistencyGlobal, target: Replica},
		{sql: "/* signalbox: consistency=eventual */ UPDATE t SET a=1", want: ConsistencyEventual, target: Primary},
	} {
		s := Session{Schema: tt.schema, Consistency: tt.user}
		s.Reset()
		d := Decide(&s, c.Classify([]byte(tt.sql), 0), rules)
		if d.Consistency != tt.want || d.Target != tt.target || d.Rule != tt.rule {
			t.Errorf("%s: %s on %s by %q, want %s on %s by %q", tt.sql, d.Consistency, d.Target, d.Rule, tt.want, tt.target, tt.rule)
		}
	}
}

// A token is another one in nearly every statement: it must not make another
// statement of it, and is found by itself.
func TestAfterIsNoPartOfTheStatement(t *testing.T) {
	c := NewClassifier(config.Router{})
	one, other := "/* signalbox: after=0-1-5~abc server=r1 */ SELECT a FROM t WHERE id=1", "/* signalbox: after=0-1-77~def server=r1 */ SELECT a FROM t WHERE id=22"
	if c.Classify([]byte(one), 0) != c.Classify([]byte(other), 0) {
		t.Error("two tokens make two statements")
	}
	for sql, want := range map[string]string{
		one: "0-1-5~abc", other: "0-1-77~def", "SELECT 1": "",
		"SELECT 'signalbox: after=no' /* signalbox: primary after=yes */": "yes",
		"SELECT 1 /* signalbox: after=a after=b */":                       "b",
		"SELECT 1 /* signalbox: thereafter=a */":                          "",
		"SELECT '/* signalbox: after=no */'":                              "",
	} {
		if got := After([]byte(sql), 0); string(got) != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
		if st := c.Classify([]byte(sql), 0); (st.Hint != nil && st.Hint.After) != (want != "") {
			t.Errorf("%s: hint %+v", sql, st.Hint)
		}
	}
	// Other hints stay part of it.
	if c.Classify([]byte("/* signalbox: server=r1 */ SELECT 1"), 0) == c.Classify([]byte("/* signalbox: server=r2 */ SELECT 1"), 0) {
		t.Error("two hints are one statement")
	}
}

func TestShowPosition(t *testing.T) {
	c := NewClassifier(config.Router{})
	for sql, local := range map[string]bool{"SHOW SIGNALBOX POSITION": true, "show signalbox position": true, "SHOW SIGNALBOX": false, "SHOW SIGNALBOX POSITION x": false} {
		if st := c.Classify([]byte(sql), 0); (len(st.Local) == 1 && st.Local[0].Func == LocalPosition) != local {
			t.Errorf("%s: %+v", sql, st)
		}
	}
}

// What is said about the writes that follow is said where they run.
func TestVariablesOfTheWriter(t *testing.T) {
	c := NewClassifier(config.Router{})
	for sql, want := range map[string]Target{
		"SET sql_log_bin=0": Primary, "SET SESSION sql_log_bin=0": Primary, "SET @@sql_log_bin=0": Primary, "SET @@session.`sql_log_bin`=0": Primary,
		"SET time_zone='UTC', insert_id=5": Primary, "SET timestamp=1": Primary, "SET time_zone='UTC'": Same, "SET @sql_log_bin=0": Primary,
	} {
		if st := c.Classify([]byte(sql), 0); st.target != want {
			t.Errorf("%s goes to %s, want %s", sql, st.target, want)
		}
	}
}

func FuzzAfter(f *testing.F) {
	f.Add("/* signalbox: after=0-1-5~abc */ SELECT 1", byte(0))
	f.Add("SELECT '/* signalbox: after=x */' /* signalbox: after=", byte(3))
	f.Fuzz(func(t *testing.T, sql string, mode byte) {
		After([]byte(sql), Mode(mode&7))
		appendHint(nil, []byte(sql))
	})
}
