package lvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Status is the role as operators see it.
type Status struct {
	Mode      string          `json:"mode"`
	Error     string          `json:"error,omitempty"` // of the last pass
	Compared  time.Time       `json:"compared,omitzero"`
	Services  []ServiceStatus `json:"services"`
	Foreign   []string        `json:"foreign"` // services that others made
	Conflicts []Conflict      `json:"conflicts"`
	Drains    []Drain         `json:"drains"`
}

// ServiceStatus is one service of the configuration.
type ServiceStatus struct {
	Name     string         `json:"name"`
	Virtual  []string       `json:"virtual"` // as the kernel has it
	Settings string         `json:"settings"`
	Kind     string         `json:"kind"`
	Present  bool           `json:"present"` // all of it is in the kernel and ours
	Quorate  bool           `json:"quorate"`
	Servers  []ServerStatus `json:"servers"`
}

// ServerStatus is one real server in a service, its numbers summed over the
// service's ports.
type ServerStatus struct {
	Name        string     `json:"name"`
	Address     netip.Addr `json:"address"`
	Forward     string     `json:"forward"`
	Phase       Phase      `json:"phase"`
	Since       time.Time  `json:"since,omitzero"`
	Why         string     `json:"why"`
	Present     bool       `json:"present"` // in the kernel
	Weight      uint32     `json:"weight"`
	Active      uint32     `json:"active"`
	Inactive    uint32     `json:"inactive"`
	Connections uint64     `json:"connections"` // since it came
	Bytes       uint64     `json:"bytes"`       // both ways
}

// Status is the state after the last pass.
func (r *Reconciler) Status() Status {
	v := r.view.Load()
	s := Status{Mode: r.cfg.Mode, Compared: v.read, Services: []ServiceStatus{}, Foreign: []string{}, Conflicts: v.conflicts, Drains: r.drains.all()}
	if v.err != nil {
		s.Error = v.err.Error()
	}
	if s.Conflicts == nil {
		s.Conflicts = []Conflict{}
	}
	for _, k := range v.actual.keys() {
		if f := v.actual[k]; !f.Owned {
			s.Foreign = append(s.Foreign, fmt.Sprintf("%s %s, %d real servers", k, f.Settings, len(f.Destinations)))
		}
	}
	for i := range r.virtuals {
		state := ServiceState{Reals: make([]Member, len(r.virtuals[i].reals))}
		if i < len(v.state.Services) {
			state = v.state.Services[i]
		}
		s.Services = append(s.Services, r.virtuals[i].status(&state, v.actual))
	}
	return s
}

func (v *Virtual) status(state *ServiceState, actual Table) ServiceStatus {
	s := ServiceStatus{Name: v.Name, Settings: v.settings.String(), Kind: v.kind, Quorate: state.Quorate, Present: true}
	for _, k := range v.keys {
		s.Virtual = append(s.Virtual, k.String())
		f, ok := actual[k]
		s.Present = s.Present && ok && f.Owned
	}
	for j := range v.reals {
		s.Servers = append(s.Servers, v.server(&v.reals[j], state.Reals[j], actual))
	}
	if v.sorry != nil {
		s.Servers = append(s.Servers, v.server(v.sorry, state.Sorry, actual))
	}
	return s
}

func (v *Virtual) server(r *real, m Member, actual Table) ServerStatus {
	s := ServerStatus{Name: r.name, Address: r.dest.Address.Addr(), Forward: r.dest.Forward.String(), Phase: m.Phase, Since: m.Since, Why: m.Why}
	for _, k := range v.keys {
		f := actual[k]
		d, ok := f.Destinations[r.at(k).Address]
		if !ok || !f.Owned {
			continue
		}
		load := f.Loads[d.Address]
		s.Present, s.Weight = true, d.Weight
		s.Active += load.Active
		s.Inactive += load.Inactive
		s.Connections += load.Counters.Connections
		s.Bytes += load.Counters.BytesIn + load.Counters.BytesOut
	}
	return s
}

// Events are the latest, oldest first.
func (r *Reconciler) Events() []Event { return r.events.list() }

// Plan is what the next pass would do, from a new reading of the kernel's table.
// It changes nothing.
func (r *Reconciler) Plan(ctx context.Context) (Planned, error) {
	v := r.view.Load()
	if v.desired == nil {
		return Planned{}, errors.Join(errors.New("the kernel's table has not been read yet"), v.err)
	}
	t, err := r.kernel.Dump(ctx, nil)
	if err != nil {
		return Planned{}, err
	}
	return Plan(v.desired, t), nil
}

// Now makes the next pass compare everything, at once.
func (r *Reconciler) Now() {
	r.whole.Store(true)
	r.wake()
}

// Drain keeps new connections from a server, in one service or, with an empty
// name, in all. After patience, or as the service says with 0, those it has are
// cut.
func (r *Reconciler) Drain(server, service string, patience time.Duration) error {
	if err := r.known(server, service); err != nil {
		return err
	}
	d := Drain{Server: server, Service: service, Since: r.now()}
	if patience > 0 {
		d.Until = d.Since.Add(patience)
	}
	if err := r.drains.set(d); err != nil {
		return err
	}
	r.events.add(Event{Time: d.Since, Kind: "drain", Service: service, Server: server, Text: "drained by an operator"})
	r.wake()
	return nil
}

// Undrain takes Drain back.
func (r *Reconciler) Undrain(server, service string) error {
	found, err := r.drains.end(Drain{Server: server, Service: service})
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s is not drained%s; signalbox lvs status shows what is", server, in(service))
	}
	r.events.add(Event{Time: r.now(), Kind: "drain", Service: service, Server: server, Text: "back, by an operator"})
	r.wake()
	return nil
}

func in(service string) string {
	if service == "" {
		return " in all services"
	}
	return " in service " + service
}

// known says what is wrong with the names, if anything.
func (r *Reconciler) known(server, service string) error {
	if service != "" && !slices.ContainsFunc(r.virtuals, func(v Virtual) bool { return v.Name == service }) {
		return fmt.Errorf("there is no virtual service %q", service)
	}
	for i := range r.virtuals {
		v := &r.virtuals[i]
		if service != "" && v.Name != service {
			continue
		}
		if slices.ContainsFunc(v.reals, func(x real) bool { return x.name == server }) {
			return nil
		}
	}
	return fmt.Errorf("there is no real server %q%s", server, in(service))
}
