package lvs

import (
	"maps"
	"net/netip"
)

// after carries an operation out on a table in memory, as the kernel would. The
// services it changes are copied first.
func (t Table) after(o Operation) {
	s, exists := t[o.Service]
	switch o.Kind {
	case AddService:
		t[o.Service] = Service{Settings: o.Settings, Owned: true, Destinations: make(map[netip.AddrPort]Destination), Loads: make(map[netip.AddrPort]Load)}
		return
	case RemoveService:
		delete(t, o.Service)
		return
	}
	if !exists {
		return
	}
	switch o.Kind {
	case SetService:
		s.Settings = o.Settings
	case Adopt:
		s.Owned = true
	case AddDestination, SetDestination:
		s.Destinations = maps.Clone(s.Destinations)
		s.Destinations[o.Destination.Address] = o.Destination
	case RemoveDestination:
		s.Destinations = maps.Clone(s.Destinations)
		delete(s.Destinations, o.Destination.Address)
	}
	t[o.Service] = s
}

// equal says whether two wanted services are the same.
func (s Service) equal(o Service) bool {
	return s.Settings == o.Settings && s.Exclusive == o.Exclusive && s.Epoch == o.Epoch && s.Adopt == o.Adopt &&
		maps.Equal(s.Destinations, o.Destinations)
}

// only is the part of the table that has these keys.
func (t Table) only(keys []Key) Table {
	part := make(Table, len(keys))
	for _, k := range keys {
		if s, ok := t[k]; ok {
			part[k] = s
		}
	}
	return part
}

// changed are the keys whose wanted services differ between two tables.
func changed(was, now Table) []Key {
	var list []Key
	for k, s := range now {
		if w, ok := was[k]; !ok || !s.equal(w) {
			list = append(list, k)
		}
	}
	for k := range was {
		if _, ok := now[k]; !ok {
			list = append(list, k)
		}
	}
	return list
}
