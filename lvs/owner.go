package lvs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Kernel is the kernel's table with the notion of which services are ours.
type Kernel interface {
	// Dump reads the services named, or all with nil, and says which are ours.
	Dump(ctx context.Context, only []Key) (Table, error)
	// Apply carries operations out in order. An error is of the operation at its
	// index; those that follow for the same service are not tried.
	Apply(ctx context.Context, list []Operation) ([]error, error)
	// Close releases what it holds; the table stays as it is.
	Close() error
}

// Owner is the Kernel of this process's network namespace. Whatever it is asked
// for, it changes no service that it has not made, and never lets two
// destinations into an exclusive one. Its methods may be called concurrently.
type Owner struct {
	open      func() (raw, error)
	exclusive func(Key) bool
	calls     atomic.Uint64

	mu     sync.Mutex // guards what follows
	table  raw        // nil until the kernel answers
	ledger *ledger
	epochs map[Key]uint64 // highest that opened each exclusive service
}

var errSkipped = errors.New("not tried after the failure before it")

// NewOwner keeps the list of own services in stateDir, which must exist; empty
// for in memory only. exclusive names the writer's services.
func NewOwner(stateDir string, exclusive func(Key) bool) (*Owner, error) {
	o := &Owner{exclusive: exclusive, epochs: make(map[Key]uint64)}
	o.open = func() (raw, error) { return openKernel(&o.calls) }
	var err error
	o.ledger, err = loadLedger(stateDir, thisKernel())
	return o, err
}

// Calls is how many requests the kernel got.
func (o *Owner) Calls() uint64 { return o.calls.Load() }

// Close is Kernel's.
func (o *Owner) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.drop()
}

// drop forgets the connection; the next use opens a new one.
func (o *Owner) drop() error {
	if o.table == nil {
		return nil
	}
	err := o.table.close()
	o.table = nil
	return err
}

func (o *Owner) connect() (err error) {
	if o.table == nil {
		o.table, err = o.open()
		if err != nil {
			o.table = nil
		}
	}
	return err
}

// Dump is Kernel's.
func (o *Owner) Dump(ctx context.Context, only []Key) (Table, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := o.connect(); err != nil {
		return nil, err
	}
	t, err := o.table.dump(only)
	if err == nil {
		err = o.forget(t, only)
	}
	if err != nil {
		_ = o.drop()
		return nil, err
	}
	for k, s := range t {
		if s.Owned = o.ledger.owns(k, s.Settings); s.Owned {
			o.ledger.set(k, entry{Made: true})
		}
		t[k] = s
	}
	return t, o.ledger.save()
}

// forget strikes services that somebody has removed off the list, lest one that
// another program makes there later is taken for ours. A dump is not atomic, so
// what seems to be missing is read again by itself.
func (o *Owner) forget(t Table, only []Key) error {
	if only == nil {
		only = slices.Collect(maps.Keys(o.ledger.entries))
	}
	var gone []Key
	for _, k := range only {
		if _, ok := t[k]; !ok && o.ledger.entries[k] != (entry{}) {
			gone = append(gone, k)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	again, err := o.table.dump(gone)
	if err != nil {
		return err
	}
	for _, k := range gone {
		if s, ok := again[k]; ok {
			t[k] = s
		} else {
			o.ledger.drop(k)
		}
	}
	return nil
}

// Apply is Kernel's.
func (o *Owner) Apply(ctx context.Context, list []Operation) ([]error, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.connect(); err != nil {
		return nil, err
	}
	for _, op := range list {
		if _, ours := o.ledger.entries[op.Service]; op.Kind == AddService && !ours {
			o.ledger.set(op.Service, entry{Settings: op.Settings})
		}
	}
	if err := o.ledger.save(); err != nil {
		return nil, err
	}
	errs := make([]error, len(list))
	failed := make(map[Key]bool)
	for i, op := range list {
		switch {
		case failed[op.Service]:
			errs[i] = errSkipped
		case ctx.Err() != nil:
			errs[i] = ctx.Err()
		default:
			errs[i] = o.one(op)
		}
		failed[op.Service] = errs[i] != nil
	}
	return errs, o.ledger.save()
}

// one carries out an operation that is allowed.
func (o *Owner) one(op Operation) error {
	e, ours := o.ledger.entries[op.Service]
	if op.Kind != AddService && op.Kind != Adopt && !(ours && e.Made) {
		return fmt.Errorf("%s: refused: this service was not made by Signalbox", op)
	}
	if err := o.interlock(op); err != nil {
		return err
	}
	err := o.table.apply(op)
	switch {
	case op.Kind == AddService && err != nil:
		if !e.Made { // somebody else's, or none
			o.ledger.drop(op.Service)
		}
	case op.Kind == AddService || op.Kind == Adopt:
		o.ledger.set(op.Service, entry{Made: true})
	case op.Kind == RemoveService && err == nil:
		o.ledger.drop(op.Service)
	}
	return err
}

// interlock refuses what would let two destinations into the writer's service,
// or a writer of the past.
func (o *Owner) interlock(op Operation) error {
	opens := op.Kind == AddDestination || op.Kind == SetDestination && op.Destination.Weight > 0
	if !opens || !o.exclusive(op.Service) {
		return nil
	}
	if last := o.epochs[op.Service]; op.Epoch != 0 && op.Epoch < last {
		return fmt.Errorf("%s: refused: epoch %d is over, %d has begun", op, op.Epoch, last)
	}
	now, err := o.table.dump([]Key{op.Service})
	if err != nil {
		return err
	}
	for a := range now[op.Service].Destinations {
		if a != op.Destination.Address {
			return fmt.Errorf("%s: refused: %s is still in the writer's service", op, a)
		}
	}
	o.epochs[op.Service] = max(o.epochs[op.Service], op.Epoch)
	return nil
}
