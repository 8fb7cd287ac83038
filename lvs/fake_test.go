package lvs

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
)

// memory is a kernel's table in memory with the real one's errors (LVS on 6.1):
// EEXIST for what is there, ENOENT for what is not or for a scheduler that is not
// loaded, EINVAL without netmask, ERANGE for thresholds the wrong way round.
type memory struct {
	mu         sync.Mutex
	table      Table
	schedulers []string
	calls      []string
	writes     int
	fail       func(Operation) error // before it is carried out
	seen       func(Table)           // after every write
}

func newMemory() *memory {
	return &memory{table: make(Table), schedulers: []string{"rr", "wrr", "lc", "wlc", "sh", "mh", "fo"}}
}

func (m *memory) close() error { return nil }

func (m *memory) dump(only []Key) (Table, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, "dump")
	t := make(Table)
	for k, s := range m.table {
		if only == nil || slices.Contains(only, k) {
			s.Destinations, s.Loads = maps.Clone(s.Destinations), maps.Clone(s.Loads)
			s.Owned = false
			t[k] = s
		}
	}
	return t, nil
}

func (m *memory) apply(o Operation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(o); err != nil {
			return err
		}
	}
	if o.Kind == Adopt || o.Kind == Expire {
		m.calls = append(m.calls, o.String())
		return nil
	}
	if err := m.check(o); err != nil {
		return fmt.Errorf("%s: %w", o, err)
	}
	m.calls = append(m.calls, o.String())
	m.writes++
	m.table.after(o)
	if m.seen != nil {
		m.seen(m.table)
	}
	return nil
}

func (m *memory) check(o Operation) error {
	s, exists := m.table[o.Service]
	_, there := s.Destinations[o.Destination.Address]
	switch {
	case o.Kind == AddService && exists:
		return os.ErrExist
	case o.Kind != AddService && !exists:
		return syscall.ESRCH
	case (o.Kind == AddService || o.Kind == SetService) && o.Settings.Netmask <= 0:
		return syscall.EINVAL
	case (o.Kind == AddService || o.Kind == SetService) && !slices.Contains(m.schedulers, o.Settings.Scheduler):
		return os.ErrNotExist
	case o.Kind == AddDestination && there:
		return os.ErrExist
	case (o.Kind == SetDestination || o.Kind == RemoveDestination) && !there:
		return os.ErrNotExist
	case (o.Kind == AddDestination || o.Kind == SetDestination) && o.Destination.Lower > o.Destination.Upper:
		return syscall.ERANGE
	}
	return nil
}

// by hand does what ipvsadm would.
func (m *memory) byHand(list ...Operation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range list {
		if err := m.check(o); err != nil {
			panic(fmt.Sprintf("%s: %v", o, err))
		}
		m.table.after(o)
	}
}

func (m *memory) load(k Key, a netip.AddrPort, active uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.table[k].Loads[a] = Load{Active: active}
}

func (m *memory) service(k Key) (Service, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.table[k]
	s.Destinations = maps.Clone(s.Destinations)
	return s, ok
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes
}

// ownerOf is an Owner over a kernel's table in memory.
func ownerOf(m *memory, dir string, exclusive func(Key) bool) *Owner {
	if exclusive == nil {
		exclusive = func(Key) bool { return false }
	}
	l, err := loadLedger(dir, "a kernel")
	if err != nil {
		panic(err)
	}
	return &Owner{open: func() (raw, error) { return m, nil }, exclusive: exclusive, ledger: l, epochs: make(map[Key]uint64)}
}

func addr(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

func key(text string) Key {
	k, err := ParseKey(text)
	if err != nil {
		panic(err)
	}
	return k
}

var wlc = Settings{Scheduler: "wlc", Netmask: 32}

// svc is a service with these destinations: ADDRESS or ADDRESS=WEIGHT.
func svc(s Settings, dests ...Destination) Service {
	v := Service{Settings: s, Destinations: make(map[netip.AddrPort]Destination), Loads: make(map[netip.AddrPort]Load)}
	for _, d := range dests {
		v.Destinations[d.Address] = d
	}
	return v
}

func dst(a string, weight uint32) Destination {
	return Destination{Address: addr(a), Weight: weight}
}

func owned(s Service) Service { s.Owned = true; return s }

func exclusive(s Service, epoch uint64) Service {
	s.Exclusive, s.Epoch = true, epoch
	return s
}
