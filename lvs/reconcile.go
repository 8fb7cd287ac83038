package lvs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox/config"
)

// Cluster is what the database cluster knows, a value.
type Cluster struct {
	Servers map[string]Verdict // those that have been asked
	Settled bool               // it is known who may write, or that nobody may
	Writer  string
	Leaving string
	Epoch   uint64
	Why     string
}

// Sources are where the reconciler reads the cluster.
type Sources struct {
	Cluster func() Cluster
	// Changed return channels that are closed when Cluster may have changed.
	Changed []func() <-chan struct{}
}

const (
	// settleBy is how long after the start the writer's services stay as found
	// while the authority is not known.
	settleBy = 3 * time.Second
	// evaluate is how often time alone is looked at: slow starts, deadlines.
	evaluate = time.Second
	// retry is how soon a pass with an error is followed by a whole one.
	retry = time.Second
)

// Reconciler keeps the kernel's table as it should be. Create it with New and
// start it with Run.
type Reconciler struct {
	cfg      *config.LVS
	virtuals []Virtual
	sources  Sources
	kernel   Kernel
	health   *health
	drains   *drains
	events   *events
	metrics  *metrics

	kick  chan struct{}
	now   func() time.Time
	start time.Time
	whole atomic.Bool // the next pass compares everything
	view  atomic.Pointer[view]

	// Run's goroutine only.
	actual    Table // as last read or changed; nil before
	desired   Table
	state     State
	nextWhole time.Time
	settled   bool
	first     bool // no whole pass has succeeded yet
	conflicts []Conflict
	lastError string
}

// view is what others may see of the last pass. It is immutable.
type view struct {
	actual    Table
	desired   Table
	state     State
	conflicts []Conflict
	err       error     // of the last pass
	read      time.Time // when the whole table was last read
}

// New prepares a reconciler; kernel is closed by Run.
func New(cfg *config.Config, sources Sources, kernel Kernel, log *slog.Logger, reg prometheus.Registerer) (*Reconciler, error) {
	r := &Reconciler{cfg: &cfg.LVS, virtuals: Virtuals(cfg), sources: sources, kernel: kernel, events: &events{log: log},
		kick: make(chan struct{}, 1), now: time.Now, first: true}
	r.health = newHealth(cfg, r.wake)
	var err error
	if r.drains, err = loadDrains(cfg.LVS.StateDir); err != nil {
		return nil, err
	}
	r.view.Store(&view{})
	r.register(reg)
	return r, nil
}

func (r *Reconciler) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// Run keeps the table until ctx ends. It waits for everything it started.
func (r *Reconciler) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { r.health.run(ctx) })
	for _, source := range r.sources.Changed {
		group.Go(func() { r.watch(ctx, source) })
	}
	r.start = r.now()
	tick := time.NewTicker(min(evaluate, r.cfg.Interval))
	defer tick.Stop()
	for {
		r.pass(ctx)
		select {
		case <-ctx.Done():
			return r.end(context.WithoutCancel(ctx))
		case <-r.kick:
		case <-tick.C:
		}
	}
}

func (r *Reconciler) watch(ctx context.Context, source func() <-chan struct{}) {
	for {
		changed := source()
		r.wake()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// end leaves the table, or takes own services away.
func (r *Reconciler) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var err error
	if !r.cfg.LeaveOnExit {
		var t Table
		if t, err = r.kernel.Dump(ctx, nil); err == nil {
			r.actual = t
			err = r.carryOut(ctx, Plan(nil, t).Operations, "")
		}
	}
	return errors.Join(err, r.kernel.Close())
}

// inputs gathers what Desired decides from.
func (r *Reconciler) inputs() Inputs {
	c := r.sources.Cluster()
	now := r.now()
	r.settled = r.settled || c.Settled || now.Sub(r.start) >= settleBy
	return Inputs{Now: now, Cluster: c.Servers, Checks: *r.health.verdicts.Load(), Settled: r.settled, Writer: c.Writer, Leaving: c.Leaving,
		Epoch: c.Epoch, Drains: r.drains.all(), Adopt: r.cfg.Adopt && r.first, Actual: r.actual}
}

// pass makes the table as it should be: the whole of it when it is time, and
// otherwise the services whose wanted state has changed.
func (r *Reconciler) pass(ctx context.Context) {
	begin := r.now()
	// The tick that is nearest: one that comes a moment early is not passed over.
	whole := r.whole.Swap(false) || r.actual == nil || !begin.Add(min(evaluate, r.cfg.Interval)/2).Before(r.nextWhole)
	in := r.inputs()
	var keys []Key
	if !whole {
		table, state := Desired(r.virtuals, in, r.state)
		if keys = changed(r.desired, table); len(keys) == 0 {
			r.remember(in.Now, table, state)
			r.publish(r.view.Load().err, false)
			return
		}
	}
	err := r.compare(ctx, in, keys, whole)
	r.metrics.passed(whole, err, r.now().Sub(begin))
	next := r.cfg.Interval
	if r.failed(err); err != nil {
		next = min(next, retry)
	}
	if whole || err != nil {
		r.nextWhole = begin.Add(next)
	}
	if whole && err == nil {
		r.first = false
	}
}

// compare reads the services named, or all, and changes what is not as it should
// be.
func (r *Reconciler) compare(ctx context.Context, in Inputs, keys []Key, whole bool) error {
	if whole {
		keys = nil
	}
	found, err := r.kernel.Dump(ctx, keys)
	if err != nil {
		if ctx.Err() == nil {
			r.publish(err, false)
		}
		return err
	}
	if whole {
		r.actual = found
	} else {
		r.actual = maps.Clone(r.actual)
		for _, k := range keys {
			delete(r.actual, k)
		}
		maps.Copy(r.actual, found)
	}
	in.Actual = r.actual
	table, state := Desired(r.virtuals, in, r.state)
	want, have := table, r.actual
	if !whole {
		want, have = table.only(keys), r.actual.only(keys)
	}
	plan := Plan(want, have)
	r.count(plan.Operations, table)
	r.remember(in.Now, table, state)
	if whole {
		r.conflict(plan.Conflicts)
	}
	err = r.carryOut(ctx, plan.Operations, in.Writer)
	r.publish(err, whole)
	return err
}

// remember keeps a new state and tells what has changed.
func (r *Reconciler) remember(now time.Time, table Table, state State) {
	r.transitions(now, r.state, state)
	r.desired, r.state = table, state
}

// carryOut applies operations: those that let connections in to a writer one by
// one, each only while that writer is the one in authority, the others together.
func (r *Reconciler) carryOut(ctx context.Context, list []Operation, writer string) error {
	if len(list) == 0 {
		return nil
	}
	r.actual = maps.Clone(r.actual)
	failed := make(map[Key]error)
	for len(list) > 0 {
		n := slices.IndexFunc(list, func(o Operation) bool { return o.Epoch != 0 })
		switch {
		case n == 0 && !r.current(list[0], writer):
			failed[list[0].Service] = fmt.Errorf("%s: the authority has changed meanwhile", list[0])
			n = 1
		case n == 0:
			n = 1
			fallthrough
		default:
			if n < 0 {
				n = len(list)
			}
			if err := r.apply(ctx, list[:n], failed); err != nil {
				return err
			}
		}
		list = list[n:]
	}
	return first(slices.Collect(maps.Values(failed)))
}

// mostTold is how many failed services an error names: one fault, such as a
// missing module, may fail them all.
const mostTold = 8

// first joins the errors that come first by their text, and counts the others.
func first(errs []error) error {
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if more := len(errs) - mostTold; more > 0 {
		errs = append(errs[:mostTold], fmt.Errorf("and %d other services failed; signalbox lvs plan shows what is left to do", more))
	}
	return errors.Join(errs...)
}

// current says whether the authority is still the one that an operation was
// planned under.
func (r *Reconciler) current(o Operation, writer string) bool {
	c := r.sources.Cluster()
	return c.Epoch == o.Epoch && c.Writer == writer
}

// apply carries out those operations whose service has not failed before.
func (r *Reconciler) apply(ctx context.Context, list []Operation, failed map[Key]error) error {
	batch := slices.DeleteFunc(slices.Clone(list), func(o Operation) bool { return failed[o.Service] != nil })
	if len(batch) == 0 {
		return nil
	}
	errs, err := r.kernel.Apply(ctx, batch)
	for i, o := range batch {
		switch {
		case i >= len(errs):
		case errs[i] == nil:
			r.actual.after(o)
		case failed[o.Service] == nil:
			failed[o.Service] = errs[i]
		}
	}
	return err
}

func (r *Reconciler) publish(err error, whole bool) {
	v := &view{actual: r.actual, desired: r.desired, state: r.state, conflicts: r.conflicts, err: err, read: r.view.Load().read}
	if whole {
		v.read = r.now()
	}
	r.view.Store(v)
}
