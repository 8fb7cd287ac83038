package lvs

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Kind is what an Operation does.
type Kind string

// The kinds. Expire waits until the kernel holds no connection to a destination
// that was removed; Adopt changes only who owns the service.
const (
	AddService        Kind = "add-service"
	SetService        Kind = "set-service"
	RemoveService     Kind = "remove-service"
	Adopt             Kind = "adopt"
	AddDestination    Kind = "add-destination"
	SetDestination    Kind = "set-destination"
	RemoveDestination Kind = "remove-destination"
	Expire            Kind = "expire"
)

// Operation is one change of the kernel's table.
type Operation struct {
	Kind        Kind        `json:"kind"`
	Service     Key         `json:"service"`
	Settings    Settings    `json:"settings,omitzero"`    // of AddService and SetService
	Destination Destination `json:"destination,omitzero"` // of the destinations' kinds
	Why         string      `json:"why"`
	// Epoch is not 0 when the operation lets connections in to the writer of that
	// epoch. It must not be carried out under another.
	Epoch uint64 `json:"epoch,omitempty"`
}

// String is one line for people.
func (o Operation) String() string {
	switch o.Kind {
	case AddService, SetService:
		return fmt.Sprintf("%s %s %s (%s)", o.Kind, o.Service, o.Settings, o.Why)
	case AddDestination, SetDestination:
		return fmt.Sprintf("%s %s -> %s (%s)", o.Kind, o.Service, o.Destination, o.Why)
	case RemoveDestination, Expire:
		return fmt.Sprintf("%s %s -> %s (%s)", o.Kind, o.Service, o.Destination.Address, o.Why)
	}
	return fmt.Sprintf("%s %s (%s)", o.Kind, o.Service, o.Why)
}

// Conflict is a service that is wanted and cannot be had: its address is taken
// by a service that is not ours.
type Conflict struct {
	Service Key    `json:"service"`
	Found   string `json:"found"`
	Advice  string `json:"advice"`
}

// Planned is the way from the table found to the one wanted.
type Planned struct {
	Operations []Operation `json:"operations"`
	Conflicts  []Conflict  `json:"conflicts"`
}

// Plan is what makes actual, as far as it is ours, equal to desired. What others
// made stays as it is. The order matters: services that are wanted no more go
// first, then the writer's services, then the rest. Carried out in part, a plan
// leaves a table from which the next one goes on.
func Plan(desired, actual Table) Planned {
	var p Planned
	for _, k := range actual.keys() {
		if _, wanted := desired[k]; !wanted && actual[k].Owned {
			p.add(Operation{Kind: RemoveService, Service: k, Why: "it is not configured any more"})
		}
	}
	keys := desired.keys()
	slices.SortStableFunc(keys, func(a, b Key) int { return compareBool(desired[b].Exclusive, desired[a].Exclusive) })
	for _, k := range keys {
		want := desired[k]
		found, exists := actual[k]
		switch {
		case exists && found.Owned && found.Settings == want.Settings && maps.Equal(found.Destinations, want.Destinations):
			continue // nearly always
		case !exists:
			p.add(Operation{Kind: AddService, Service: k, Settings: want.Settings, Why: "it is missing"})
		case !found.Owned && !want.Adopt:
			p.Conflicts = append(p.Conflicts, Conflict{Service: k, Found: fmt.Sprintf("%s with %d real servers", found.Settings, len(found.Destinations)),
				Advice: "another program made this service: remove it there, give ours another address, or set lvs.adopt"})
			continue
		case !found.Owned:
			p.add(Operation{Kind: Adopt, Service: k, Why: "lvs.adopt is set"})
		}
		if exists && found.Settings != want.Settings {
			p.add(Operation{Kind: SetService, Service: k, Settings: want.Settings, Why: fmt.Sprintf("it is %s", found.Settings)})
		}
		if want.Exclusive {
			p.exclusive(k, want, found)
		} else {
			p.shared(k, want, found)
		}
	}
	return p
}

func (p *Planned) add(o Operation) { p.Operations = append(p.Operations, o) }

// exclusive moves a service of which at most one destination may exist: the old
// one goes and its connections with it before the new one comes.
func (p *Planned) exclusive(k Key, want, found Service) {
	for _, a := range found.addresses() {
		if _, stays := want.Destinations[a]; stays {
			continue
		}
		old := found.Destinations[a]
		p.add(Operation{Kind: RemoveDestination, Service: k, Destination: old, Why: "it is not the writer"})
		p.add(Operation{Kind: Expire, Service: k, Destination: old, Why: "it is not the writer"})
	}
	for _, o := range changes(k, want, found) {
		if o.Destination.Weight > 0 {
			o.Epoch = want.Epoch
		}
		p.add(o)
	}
}

// shared changes a service so that there is always somebody to serve, and nobody
// new is sent to a server that has failed: weights to 0, then additions, then
// other changes, then removals.
func (p *Planned) shared(k Key, want, found Service) {
	for _, o := range changes(k, want, found) {
		p.add(o)
	}
	for _, a := range found.addresses() {
		if _, stays := want.Destinations[a]; !stays {
			p.add(Operation{Kind: RemoveDestination, Service: k, Destination: found.Destinations[a], Why: "it is not wanted"})
		}
	}
}

// changes are the additions and changes of destinations, the most urgent first.
func changes(k Key, want, found Service) []Operation {
	var list []Operation
	for _, a := range want.addresses() {
		d := want.Destinations[a]
		switch now, exists := found.Destinations[a]; {
		case !exists:
			list = append(list, Operation{Kind: AddDestination, Service: k, Destination: d, Why: "it is missing"})
		case now != d:
			list = append(list, Operation{Kind: SetDestination, Service: k, Destination: d, Why: difference(now, d)})
		}
	}
	slices.SortStableFunc(list, func(a, b Operation) int { return cmp.Compare(a.urgency(), b.urgency()) })
	return list
}

func (o Operation) urgency() int {
	switch {
	case o.Kind == SetDestination && o.Destination.Weight == 0:
		return 0
	case o.Kind == AddDestination:
		return 1
	}
	return 2
}

// difference says what is not as it should be.
func difference(now, want Destination) string {
	now.Address = netip.AddrPort{}
	want.Address = netip.AddrPort{}
	if weight := now.Weight; weight != want.Weight {
		if now.Weight = want.Weight; now == want {
			return fmt.Sprintf("its weight is %d", weight)
		}
	}
	return "it is not as configured"
}
