package lvs

import (
	"net/netip"
	"time"
)

// Verdict is whether a server is healthy, and why.
type Verdict struct {
	Healthy bool
	Why     string
}

// Inputs are what Desired decides from. Servers that are missing from a map have
// not been judged yet.
type Inputs struct {
	Now     time.Time
	Cluster map[string]Verdict // the cluster's servers, by name
	Checks  map[string]Verdict // own checks, by identity
	// The authority. Settled is false from the start until it is known who may
	// write, if anybody: until then the writer's services stay as found.
	Settled bool
	Writer  string
	Leaving string // the writer before, which may finish what it has begun, or whose I/O is frozen
	Epoch   uint64
	Drains  []Drain
	Adopt   bool
	Actual  Table // as last read; nil before
}

// Drain is an operator's wish to keep a server free.
type Drain struct {
	Server  string    `json:"server"`
	Service string    `json:"service,omitempty"` // empty for all
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until,omitzero"` // zero: as the service says
}

// State is what Desired remembers from one time to the next. It is a value.
type State struct {
	Services []ServiceState // as the Virtuals
}

// ServiceState is the state of one Virtual.
type ServiceState struct {
	Quorate bool
	Reals   []Member
	Sorry   Member
}

// Desired is the table that should be, and the state to remember. was is the
// state that the last call returned, zero at first.
func Desired(list []Virtual, in Inputs, was State) (Table, State) {
	t := make(Table, len(list))
	now := State{Services: make([]ServiceState, len(list))}
	for i := range list {
		v := &list[i]
		s := ServiceState{Quorate: true, Reals: make([]Member, len(v.reals))}
		if i < len(was.Services) {
			s.Quorate, s.Sorry = was.Services[i].Quorate, was.Services[i].Sorry
			copy(s.Reals, was.Services[i].Reals)
		}
		if v.exclusive() {
			v.writer(&in, &s)
		} else {
			v.members(&in, &s)
		}
		for _, k := range v.keys {
			t[k] = v.service(k, &in, &s)
		}
		now.Services[i] = s
	}
	return t, now
}

// members advances the real servers of a shared service.
func (v *Virtual) members(in *Inputs, s *ServiceState) {
	healthy, judged := 0, true
	for j := range v.reals {
		r := &v.reals[j]
		o := v.observe(in, r)
		verdict, known := in.Checks[r.check]
		if r.cluster {
			verdict, known = in.Cluster[r.name]
		}
		o.known, o.healthy, o.why = known, verdict.Healthy, verdict.Why
		s.Reals[j] = s.Reals[j].next(o, v.policy)
		judged = judged && s.Reals[j].Phase != Unknown
		if s.Reals[j].Phase == Up {
			healthy++
		}
	}
	if judged {
		s.Quorate = quorate(s.Quorate, healthy, v.need, v.hyst)
	}
	if v.sorry == nil {
		return
	}
	o := v.observe(in, v.sorry)
	o.known, o.healthy, o.drained = judged, !s.Quorate, false
	if o.why = "too few servers are healthy"; s.Quorate {
		o.why = "enough servers are healthy"
	}
	s.Sorry = s.Sorry.next(o, policy{quiesce: v.policy.quiesce, remove: v.policy.remove})
}

// writer makes the state of the writer's service: the server in authority or
// nobody. One that is leaving finishes what it has, alone.
func (v *Virtual) writer(in *Inputs, s *ServiceState) {
	if !in.Settled {
		for j := range s.Reals {
			s.Reals[j].Why = "it is not known yet who may write"
		}
		return
	}
	serves := false
	for j := range v.reals {
		r := &v.reals[j]
		o := v.observe(in, r)
		m := s.Reals[j]
		m.Healthy, m.Ramp = r.name == in.Writer, time.Time{}
		phase, why := Out, "it may not take writes"
		switch {
		case m.Healthy && o.drained:
			m = m.drain(o)
			phase, why, serves = m.Phase, m.Why, true
		case m.Healthy:
			phase, why, serves = Up, "it may take writes", true
		case r.name == in.Leaving && in.Writer == "" && o.present:
			phase, why, serves = Failed, "it keeps its connections, and gets no more: it is leaving, or its I/O is frozen", true
		}
		if m.Phase != phase {
			m = m.enter(phase, in.Now)
		}
		m.Why = why
		s.Reals[j] = m
	}
	if s.Quorate = serves; v.sorry == nil {
		return
	}
	phase := Up
	if serves {
		phase = Out
	}
	if s.Sorry.Phase != phase {
		s.Sorry = s.Sorry.enter(phase, in.Now)
	}
}

// observe is what the drains and the kernel's table say of a real server.
func (v *Virtual) observe(in *Inputs, r *real) observation {
	o := observation{now: in.Now, idle: true}
	for _, d := range in.Drains {
		if d.Server == r.name && (d.Service == "" || d.Service == v.Name) {
			o.drained = true
			if o.until = d.Until; o.until.IsZero() {
				o.until = d.Since.Add(v.drain)
			}
		}
	}
	for _, k := range v.keys {
		found, a := in.Actual[k], r.at(k).Address
		d, ok := found.Destinations[a]
		o.present = o.present || ok
		load := found.Loads[a]
		o.idle = o.idle && (!ok || d.Weight == 0 && load.Active+load.Inactive == 0)
	}
	o.idle = o.idle && o.present
	return o
}

// service is one key's service as it should be.
func (v *Virtual) service(k Key, in *Inputs, s *ServiceState) Service {
	w := Service{Settings: v.settings, Exclusive: v.exclusive(), Adopt: in.Adopt, Destinations: make(map[netip.AddrPort]Destination, len(v.reals))}
	found := in.Actual[k].Destinations
	if w.Exclusive {
		if w.Epoch = in.Epoch; !in.Settled {
			w.Destinations = v.asFound(k, found)
			return w
		}
	}
	for j := range v.reals {
		w.put(v.reals[j].at(k), s.Reals[j], in.Now, v.policy, found, !s.Quorate && v.sorry != nil)
	}
	if v.sorry != nil {
		w.put(v.sorry.at(k), s.Sorry, in.Now, policy{}, found, false)
	}
	return w
}

// put adds a server as its state says. With quiet it gets no new connections.
func (w *Service) put(d Destination, m Member, now time.Time, p policy, found map[netip.AddrPort]Destination, quiet bool) {
	if m.Phase == Unknown {
		if was, ok := found[d.Address]; ok {
			d.Weight = was.Weight
			w.Destinations[d.Address] = d
		}
		return
	}
	weight, present := m.weight(d.Weight, now, p)
	if quiet && !w.Exclusive {
		weight = 0
	}
	if d.Weight = weight; present {
		w.Destinations[d.Address] = d
	}
}

// asFound is what a writer's service keeps until the authority is known: the one
// server of ours that it has. With two it keeps none.
func (v *Virtual) asFound(k Key, found map[netip.AddrPort]Destination) map[netip.AddrPort]Destination {
	kept := make(map[netip.AddrPort]Destination)
	keep := func(r *real) {
		if was, ok := found[r.at(k).Address]; ok {
			d := r.at(k)
			d.Weight = was.Weight
			kept[d.Address] = d
		}
	}
	for j := range v.reals {
		keep(&v.reals[j])
	}
	if v.sorry != nil {
		keep(v.sorry)
	}
	if len(kept) > 1 {
		clear(kept)
	}
	return kept
}
