package lvs

import (
	"fmt"
	"slices"
	"time"
)

// shown is how many operations of one pass become events; more are summed up.
const shown = 20

// count tells of the operations of a pass, and which of them correct what
// somebody else changed.
func (r *Reconciler) count(list []Operation, table Table) {
	now := r.now()
	for i, o := range list {
		kind := "change"
		was, known := r.desired[o.Service]
		is, wanted := table[o.Service]
		if known && wanted && was.equal(is) && !r.first {
			kind = "drift"
			r.metrics.drift.WithLabelValues(string(o.Kind)).Inc()
		}
		r.metrics.operations.WithLabelValues(string(o.Kind)).Inc()
		if i < shown {
			r.events.add(Event{Time: now, Kind: kind, Service: r.name(o.Service), Text: o.String()})
		}
	}
	if n := len(list) - shown; n > 0 {
		r.events.add(Event{Time: now, Kind: "change", Text: fmt.Sprintf("and %d operations more", n)})
	}
}

// name is the configuration's name of a key, or the key.
func (r *Reconciler) name(k Key) string {
	for i := range r.virtuals {
		if slices.Contains(r.virtuals[i].keys, k) {
			return r.virtuals[i].Name
		}
	}
	return k.String()
}

// transitions tells which servers and services changed their state.
func (r *Reconciler) transitions(now time.Time, was, is State) {
	for i := range r.virtuals {
		v, s := &r.virtuals[i], &is.Services[i]
		old := ServiceState{Quorate: true, Reals: make([]Member, len(v.reals))}
		if i < len(was.Services) {
			old = was.Services[i]
		}
		for j, m := range s.Reals {
			if o := old.Reals[j]; o.Phase != m.Phase {
				r.events.add(Event{Time: now, Kind: "server", Service: v.Name, Server: v.reals[j].name, Text: fmt.Sprintf("%s -> %s: %s", o.Phase, m.Phase, m.Why)})
			}
		}
		if old.Quorate != s.Quorate {
			text := "too few servers serve"
			if s.Quorate {
				text = "enough servers serve again"
			}
			r.events.add(Event{Time: now, Kind: "quorum", Service: v.Name, Text: text})
		}
	}
}

// conflict tells of conflicts that are new and of those that are over.
func (r *Reconciler) conflict(list []Conflict) {
	for _, c := range list {
		if !slices.Contains(r.conflicts, c) {
			r.events.add(Event{Time: r.now(), Kind: "conflict", Service: r.name(c.Service), Text: fmt.Sprintf("%s is taken: %s; %s", c.Service, c.Found, c.Advice)})
		}
	}
	for _, c := range r.conflicts {
		if !slices.Contains(list, c) {
			r.events.add(Event{Time: r.now(), Kind: "conflict", Service: r.name(c.Service), Text: c.Service.String() + " is free again"})
		}
	}
	r.conflicts = list
}

// failed tells of an error once, until it is another or over.
func (r *Reconciler) failed(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case text == r.lastError:
	case text == "":
		r.events.add(Event{Time: r.now(), Kind: "change", Text: "the kernel's table is right again"})
	default:
		r.events.add(Event{Time: r.now(), Kind: "error", Text: text})
	}
	r.lastError = text
}
