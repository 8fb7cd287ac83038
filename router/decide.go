package router

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"signalbox/config"
)

// Decision is where one statement goes, and why.
type Decision struct {
	Target Target
	Pin    Pin // why the session keeps the connection afterwards
	Reason Reason
	Deny   string        // not empty: the client gets this error instead
	Rule   string        // name of the rule that decided, if one did
	MaxLag time.Duration // how far behind a replica may be; 0: as configured for all
	server string

	Consistency Consistency // of a read; never unset
}

// Server is the server that a hint asks for, empty for any.
func (d Decision) Server() string { return d.server }

// Decide is the routing table: strongest first an open pin, a hint, the rules,
// and the statement's own nature. It is pure and allocates nothing.
func Decide(s *Session, st *Statement, rules *Rules) Decision {
	d := Decision{Target: st.target, Reason: st.reason, Pin: s.pins | pinsOf(st), MaxLag: s.MaxLag, Consistency: s.Consistency}
	if rules != nil {
		if r := rules.match(s, st); r != nil {
			r.apply(&d, st)
			if d.Deny != "" {
				return d
			}
		}
	}
	if st.Hint != nil {
		st.Hint.apply(&d, st)
	}
	d.Consistency = d.Consistency.resolve()
	if st.demoted.Load() && d.Target == Replica {
		d.Target, d.Reason = Primary, ReasonDemoted
	}
	s.transactionBegins(&d, st)
	if hard := s.pins &^ softPins; hard != 0 {
		return s.keep(d, st)
	}
	if !s.Autocommit() && d.Target == Replica && st.begins != beginReadOnly {
		d.Target, d.Reason = Primary, ReasonAutocommitOff
		d.Pin |= PinTransaction
	}
	return d
}

// transactionBegins sends a BEGIN to a replica when the transaction will be
// read only.
func (s *Session) transactionBegins(d *Decision, st *Statement) {
	switch st.begins {
	case beginDefault:
		if s.readOnly && s.pins&PinNextTransaction == 0 {
			d.Target, d.Reason = Replica, ReasonReadOnlyTransaction
		}
		d.Pin |= PinTransaction
	case beginReadOnly, beginReadWrite:
		d.Pin |= PinTransaction
	case beginEnd:
		d.Pin &^= PinsOfTransaction
	}
}

// keep sends a statement to the connection that the session is pinned to.
func (s *Session) keep(d Decision, st *Statement) Decision {
	if d.Target == Local && (st.Kill != nil || len(st.Local) > 0) {
		return d
	}
	if d.Target == Same {
		d.Target = s.side
		return d
	}
	d.Target = s.side
	switch {
	case s.pins&PinTransaction != 0:
		d.Reason = ReasonTransaction
		if s.side == Replica {
			d.Reason = ReasonReadOnlyTransaction
		}
	case st.reason == ReasonRead || st.target == Replica:
		d.Reason = ReasonPinned
	}
	return d
}

// pinsOf says what a statement will pin if it succeeds.
func pinsOf(st *Statement) (p Pin) {
	for i := range st.effects {
		switch st.effects[i].do {
		case effectTempCreate:
			p |= PinTemporaryTable
		case effectGetLock:
			p |= PinUserLock
		case effectHandlerOpen:
			p |= PinHandler
		case effectLockTables:
			p |= PinLockTables
		case effectUserVariable:
			p |= PinUserVariable
		case effectPreparedFromVariable:
			p |= PinPrepared
		case effectXABegin:
			p |= PinXA
		case effectNextTransaction:
			p |= PinNextTransaction
		case effectFoundRows:
			p |= PinFoundRows
		}
	}
	if st.reason == ReasonUnparsed {
		p |= PinUnknownState
	}
	return p
}

// apply follows a hint as far as it is safe: a hint never sends a write to a
// replica.
func (h *Hint) apply(d *Decision, st *Statement) {
	if h.Consistency != ConsistencyUnset {
		d.Consistency = h.Consistency
	} else if h.After && d.Consistency == ConsistencyEventual {
		d.Consistency = ConsistencySession
	}
	if h.MaxLag > 0 {
		d.MaxLag = h.MaxLag
	}
	switch {
	case h.Target == Primary:
		d.Target, d.Reason = Primary, ReasonHint
	case st.IsRead && !st.IsWrite && (h.Target == Replica || h.Server != ""):
		d.Target, d.Reason, d.server = Replica, ReasonHint, h.Server
	}
}

// Rules are the configuration's overrides, compiled.
type Rules struct{ list []rule }

type rule struct {
	config.Rule
	match       *regexp.Regexp
	consistency Consistency
}

// NewRules compiles the rules. The error names the rule at fault.
func NewRules(cfg config.Router) (*Rules, error) {
	r := new(Rules)
	for _, c := range cfg.Rules {
		compiled := rule{Rule: c, consistency: ConsistencyOf(c.Consistency)}
		if c.Match != "" {
			var err error
			if compiled.match, err = regexp.Compile(c.Match); err != nil {
				return nil, fmt.Errorf("rule %s: match: %w", c.Name, err)
			}
		}
		if c.Kind != "" && !knownKind(c.Kind) {
			return nil, fmt.Errorf("rule %s: kind %q is none of %s", c.Name, c.Kind, strings.Join(kindNames[:], ", "))
		}
		r.list = append(r.list, compiled)
	}
	return r, nil
}

func knownKind(name string) bool {
	for _, k := range kindNames {
		if k == name {
			return true
		}
	}
	return false
}

// match returns the first rule whose conditions all hold, nil for none.
func (r *Rules) match(s *Session, st *Statement) *rule {
	for i := range r.list {
		c := &r.list[i]
		if (c.User == "" || c.User == s.User) && (c.Schema == "" || c.Schema == s.Schema) &&
			(c.Kind == "" || c.Kind == st.Kind.String()) && (c.Digest == "" || c.Digest == st.ID) &&
			(c.match == nil || c.match.MatchString(st.Digest)) {
			return c
		}
	}
	return nil
}

func (c *rule) apply(d *Decision, st *Statement) {
	if c.consistency != ConsistencyUnset {
		d.Consistency = c.consistency
	}
	if c.MaxLag > 0 {
		d.MaxLag = c.MaxLag
	}
	switch c.Target {
	case "":
		d.Rule = c.Name
		return
	case "deny":
		d.Deny = c.Message
		if d.Deny == "" {
			d.Deny = "denied by rule " + c.Name
		}
	case "primary":
		d.Target = Primary
	case "replica":
		if !st.IsRead || st.IsWrite {
			return
		}
		d.Target = Replica
	}
	d.Reason, d.Rule = ReasonRule, c.Name
}
