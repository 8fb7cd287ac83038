package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"

	"signalbox/config"
	"signalbox/router"
)

// explained is one line of explain's JSON.
type explained struct {
	SQL    string `json:"sql"`
	Target string `json:"target"`
	Pin    string `json:"pin"`
	Reason string `json:"reason"`
	Kind   string `json:"kind"`
	Digest string `json:"digest"`
	Deny   string `json:"deny,omitempty"`
	Rule   string `json:"rule,omitempty"`
	MaxLag string `json:"max_lag,omitempty"` // of a rule, a hint or the account
	// Consistency is what the read must see, where it may go to a replica.
	Consistency string `json:"consistency,omitempty"`
}

// runExplain shows where statements go and why.
func runExplain(args []string, std stdio) int {
	flags := flag.NewFlagSet("explain", flag.ContinueOnError)
	flags.SetOutput(std.err)
	file := flags.String("config", "", "configuration `file` whose rules and levels apply")
	user := flags.String("user", "", "`account` of the configuration whose session it is")
	asJSON := flags.Bool("json", false, "print one JSON object a line")
	script := flags.Bool("script", false, "carry the session's state from one statement to the next")
	if flags.Parse(args) != nil {
		return 2
	}
	cfg := config.Router{SystemSchemas: "primary", CacheSize: 1 << 20}
	session := router.Session{User: *user}
	if *file != "" {
		c, err := config.Load(*file)
		if err == nil {
			err = settle(&session, c)
		}
		if err != nil {
			fmt.Fprintln(std.err, err)
			return 1
		}
		cfg = c.Router
	}
	rules, err := router.NewRules(cfg)
	if err != nil {
		fmt.Fprintln(std.err, "signalbox explain:", err)
		return 1
	}
	e := explainer{classifier: router.NewClassifier(cfg), rules: rules, session: session, script: *script, json: *asJSON, out: std.out}
	e.session.Reset()
	for _, sql := range flags.Args() {
		e.explain(sql)
	}
	if flags.NArg() == 0 {
		return e.lines(std)
	}
	return 0
}

// settle gives the session the levels of its account, or of the configuration.
func settle(s *router.Session, c *config.Config) error {
	var account *config.User
	for i := range c.Users {
		if c.Users[i].Name == s.User {
			account = &c.Users[i]
			s.MaxLag = account.MaxLag
		}
	}
	if account == nil && s.User != "" {
		return fmt.Errorf("signalbox explain: the configuration has no user %q", s.User)
	}
	s.Consistency = router.ConsistencyOf(c.ConsistencyOf(account))
	return nil
}

type explainer struct {
	classifier   *router.Classifier
	rules        *router.Rules
	session      router.Session
	script, json bool
	out          io.Writer
}

// maxLine is the longest statement, in bytes, read from standard input.
const maxLine = 16 << 20

func (e *explainer) lines(std stdio) int {
	lines := bufio.NewScanner(std.in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) != "" {
			e.explain(lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(std.err, "signalbox explain:", err)
		return 1
	}
	return 0
}

func (e *explainer) explain(sql string) {
	st := e.classifier.Classify([]byte(sql), 0)
	d := router.Decide(&e.session, st, e.rules)
	if e.script {
		a := e.session.Predict(st)
		if st.Kind == router.KindSet {
			predictAutocommit(&a, sql)
		}
		e.session.Observe(st, d, a)
		d.Pin = e.session.Pinned() | d.Pin&(router.PinFoundRows|router.PinDiagnostics)
	} else {
		e.session.Reset()
	}
	x := explained{SQL: sql, Target: d.Target.String(), Pin: d.Pin.String(), Reason: d.Reason.String(),
		Kind: st.Kind.String(), Digest: st.ID, Deny: d.Deny, Rule: d.Rule}
	if d.MaxLag > 0 {
		x.MaxLag = d.MaxLag.String()
	}
	if d.Target == router.Replica {
		x.Consistency = d.Consistency.String()
	}
	if e.json {
		enc := json.NewEncoder(e.out)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(x)
		return
	}
	fmt.Fprintf(e.out, "%-8s %-22s %-11s %s\n", x.Target, x.Reason, x.Kind, sql)
	if x.Pin != "" {
		fmt.Fprintf(e.out, "         pinned %s\n", x.Pin)
	}
	if x.MaxLag != "" && d.Target == router.Replica {
		fmt.Fprintf(e.out, "         from a replica at most %s behind\n", x.MaxLag)
	}
	if x.Consistency != "" && d.Consistency != router.ConsistencySession {
		fmt.Fprintf(e.out, "         consistency %s\n", x.Consistency)
	}
	if x.Deny != "" {
		fmt.Fprintf(e.out, "         denied: %s\n", x.Deny)
	}
}

// predictAutocommit follows SET autocommit, which explain has no server to ask
// about.
func predictAutocommit(a *router.Answer, sql string) {
	_, value, found := strings.Cut(strings.ToLower(strings.ReplaceAll(sql, " ", "")), "autocommit=")
	if found && value != "" {
		a.PredictAutocommit(value[0] == '1' || strings.HasPrefix(value, "on") || strings.HasPrefix(value, "true"))
	}
}
