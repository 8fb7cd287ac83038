package lvs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// stage is a reconciler over a kernel in memory and a cluster that the test sets.
type stage struct {
	t      *testing.T
	kernel *memory
	dir    string
	text   string

	mu      sync.Mutex
	cluster Cluster
	changed chan struct{}

	r    *Reconciler
	reg  *prometheus.Registry
	stop func()
}

var well = map[string]Verdict{"r1": {true, "answers"}, "r2": {true, "answers"}, "db1": {true, "answers"}, "db2": {true, "answers"}}

// onStage runs f in a bubble of its own time.
func onStage(t *testing.T, f func(*stage)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, kernel: newMemory(), dir: dir, changed: make(chan struct{}),
			text: strings.Replace(desiredConfig, `state_dir: ""`, `state_dir: `+dir+"\n  flap: {failures: 0}", 1)}
		s.cluster = Cluster{Servers: well, Settled: true, Writer: "db1", Epoch: 1}
		f(s)
		s.end()
	})
}

func (s *stage) start() {
	cfg := parseConfig(s.t, s.text)
	s.reg = prometheus.NewRegistry()
	owner := ownerOf(s.kernel, s.dir, Exclusive(Virtuals(cfg)))
	var err error
	s.r, err = New(cfg, Sources{Cluster: s.now, Changed: []func() <-chan struct{}{s.change}}, owner, slog.New(slog.DiscardHandler), s.reg)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.r.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
		s.stop = nil
	}
	synctest.Wait()
}

func (s *stage) end() {
	if s.stop != nil {
		s.stop()
	}
}

func (s *stage) now() Cluster { s.mu.Lock(); defer s.mu.Unlock(); return s.cluster }

func (s *stage) change() <-chan struct{} { s.mu.Lock(); defer s.mu.Unlock(); return s.changed }

// set changes the cluster and waits for what follows.
func (s *stage) set(change func(*Cluster)) {
	s.mu.Lock()
	change(&s.cluster)
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	synctest.Wait()
}

func (s *stage) pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

func (s *stage) want(what, want string) {
	s.t.Helper()
	s.kernel.mu.Lock()
	defer s.kernel.mu.Unlock()
	if got := show(s.kernel.table); got != want {
		s.t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

func (s *stage) event(kind, text string) {
	s.t.Helper()
	if !slices.ContainsFunc(s.r.Events(), func(e Event) bool { return e.Kind == kind && strings.Contains(e.Text, text) }) {
		s.t.Errorf("no event %s %q in %v", kind, text, s.r.Events())
	}
}

const healthy = "10.9.0.1: 10.0.0.21=100 10.0.0.22=200; 10.9.0.2: 10.0.0.11=100"

var (
	reads, writes = key("tcp/10.9.0.1:3306"), key("tcp/10.9.0.2:3306")
	toR1          = Destination{Address: addr("10.0.0.21:3306"), Forward: DirectRoute, Weight: 100}
)

func TestReconcilerMakesAndKeepsTheTable(t *testing.T) {
	onStage(t, func(s *stage) {
		s.start()
		s.want("made", healthy)
		made := s.kernel.count()
		s.pass(time.Minute)
		if n := s.kernel.count() - made; n != 0 {
			t.Errorf("%d writes to an unchanged table", n)
		}
		heavy := toR1
		heavy.Weight = 7
		s.kernel.byHand(Operation{Kind: SetDestination, Service: reads, Destination: heavy},
			Operation{Kind: SetService, Service: reads, Settings: Settings{Scheduler: "rr", Netmask: 32}},
			Operation{Kind: AddDestination, Service: reads, Destination: dst("10.0.0.66:3306", 1)},
			Operation{Kind: RemoveService, Service: writes})
		s.pass(2 * time.Second)
		s.want("repaired", healthy)
		if v, _ := s.kernel.service(reads); v.Settings != wlc {
			t.Errorf("settings %v", v.Settings)
		}
		s.event("drift", "its weight is 7")
		if n := testutil.ToFloat64(s.r.metrics.drift.WithLabelValues("set-destination")); n != 1 {
			t.Errorf("drift counted: %v", n)
		}
	})
}

func TestReconcilerLeavesOthersAlone(t *testing.T) {
	onStage(t, func(s *stage) {
		foreign := key("tcp/10.9.0.77:80")
		s.kernel.byHand(Operation{Kind: AddService, Service: reads, Settings: Settings{Scheduler: "rr", Netmask: 32}}, makeService(foreign),
			Operation{Kind: AddDestination, Service: reads, Destination: dst("10.0.0.66:3306", 1)})
		s.start()
		s.want("one is taken, the other made", "10.9.0.1: 10.0.0.66=1; 10.9.0.2: 10.0.0.11=100; 10.9.0.77: ")
		st := s.r.Status()
		if len(st.Conflicts) != 1 || !strings.Contains(st.Conflicts[0].Advice, "lvs.adopt") || len(st.Foreign) != 2 || st.Services[0].Present || !st.Services[1].Present {
			t.Errorf("status: %+v", st)
		}
		s.event("conflict", "tcp/10.9.0.1:3306 is taken: rr with 1 real servers")
		s.kernel.byHand(Operation{Kind: RemoveService, Service: reads})
		s.pass(2 * time.Second)
		s.want("made when it is free", healthy+"; 10.9.0.77: ")
		s.event("conflict", "tcp/10.9.0.1:3306 is free again")
	})
}

func TestReconcilerAdoptsOnlyWhenAsked(t *testing.T) {
	onStage(t, func(s *stage) {
		s.text = strings.Replace(s.text, "mode: kernel", "mode: kernel\n  adopt: true", 1)
		s.kernel.byHand(makeService(reads), Operation{Kind: AddDestination, Service: reads, Destination: toR1})
		s.start()
		s.want("taken over", healthy)
		s.kernel.byHand(Operation{Kind: RemoveService, Service: writes})
		s.kernel.mu.Lock()
		s.kernel.table[writes] = svc(Settings{Scheduler: "rr", Netmask: 32})
		s.kernel.mu.Unlock()
	})
}

func TestKernelErrorHalfWayIsCompleted(t *testing.T) {
	onStage(t, func(s *stage) {
		n := 0
		s.kernel.fail = func(o Operation) error {
			if n++; n == 2 || n == 4 {
				return fmt.Errorf("%s: %w", o, syscall.ENOMEM)
			}
			return nil
		}
		s.start()
		if st := s.r.Status(); !strings.Contains(st.Error, "cannot allocate memory") {
			t.Errorf("status: %q", st.Error)
		}
		s.event("error", "cannot allocate memory")
		s.pass(time.Second)
		s.want("completed", healthy)
		if st := s.r.Status(); st.Error != "" {
			t.Errorf("status: %q", st.Error)
		}
	})
}

func TestUnknownSchedulerHurtsOnlyItsService(t *testing.T) {
	onStage(t, func(s *stage) {
		s.kernel.schedulers = []string{"wlc"}
		s.text = strings.Replace(s.text, "servers: replicas,", "servers: replicas, scheduler: mh,", 1)
		s.start()
		s.want("the other is made", "10.9.0.2: 10.0.0.11=100")
		if st := s.r.Status(); st.Services[0].Present || !st.Services[1].Present || st.Error == "" {
			t.Errorf("status: %+v", st)
		}
	})
}

// A restart, or a crash, changes nothing while it is not known who is healthy and
// who may write, and nothing after if they are the same.
func TestRestartTouchesNothing(t *testing.T) {
	onStage(t, func(s *stage) {
		s.start()
		s.want("before", healthy)
		s.stop()
		made := s.kernel.count()
		s.cluster = Cluster{Epoch: 0}
		s.start()
		s.pass(2 * time.Second)
		s.want("nothing known", healthy)
		s.set(func(c *Cluster) { *c = Cluster{Servers: well, Settled: true, Writer: "db1", Epoch: 9} })
		s.pass(10 * time.Second)
		s.want("after", healthy)
		if n := s.kernel.count() - made; n != 0 {
			t.Errorf("%d writes: %v", n, s.kernel.calls)
		}
	})
}

func TestRestartIntoNobodyEmptiesTheWritersService(t *testing.T) {
	onStage(t, func(s *stage) {
		s.text = strings.Replace(s.text, ", sorry_server: {address: 10.0.0.98, forward: masq}", "", 1)
		s.start()
		s.stop()
		s.cluster = Cluster{Servers: well}
		s.start()
		s.want("for a while", healthy)
		s.pass(settleBy + time.Second)
		s.want("not for long", "10.9.0.1: 10.0.0.21=100 10.0.0.22=200; 10.9.0.2: ")
	})
}

func TestSwitchoverOfTheWriter(t *testing.T) {
	onStage(t, func(s *stage) {
		s.text = strings.Replace(s.text, ", sorry_server: {address: 10.0.0.98, forward: masq}", "", 1)
		s.kernel.seen = func(table Table) {
			if n := len(table[writes].Destinations); n > 1 {
				t.Errorf("%d servers in the writer's service", n)
			}
		}
		s.start()
		s.set(func(c *Cluster) { c.Writer, c.Leaving = "", "db1" })
		s.want("leaving", "10.9.0.1: 10.0.0.21=100 10.0.0.22=200; 10.9.0.2: 10.0.0.11=0")
		s.set(func(c *Cluster) { c.Leaving = "" })
		s.want("nobody", "10.9.0.1: 10.0.0.21=100 10.0.0.22=200; 10.9.0.2: ")
		s.set(func(c *Cluster) { c.Writer, c.Epoch = "db2", 2 })
		s.want("the new one", "10.9.0.1: 10.0.0.21=100 10.0.0.22=200; 10.9.0.2: 10.0.0.12=100")
		s.set(func(c *Cluster) { c.Writer, c.Epoch = "db1", 3 })
		s.want("back, without a pause", healthy)
		var got []string
		for _, c := range s.kernel.calls {
			if strings.Contains(c, "10.9.0.2") {
				got = append(got, strings.Fields(c)[0]+" "+strings.Fields(c)[len(strings.Fields(c))-1])
			}
		}
		if i := slices.IndexFunc(s.kernel.calls, func(c string) bool { return strings.HasPrefix(c, "remove-destination tcp/10.9.0.2:3306 -> 10.0.0.12") }); i < 0 ||
			!strings.HasPrefix(s.kernel.calls[i+1], "expire") {
			t.Errorf("no expiry between removal and addition: %v", got)
		}
	})
}

// The authority is lost between the decision and the addition of the new writer.
func TestAuthorityThatChangesMeanwhileStopsTheAddition(t *testing.T) {
	onStage(t, func(s *stage) {
		s.text = strings.Replace(s.text, ", sorry_server: {address: 10.0.0.98, forward: masq}", "", 1)
		s.start()
		s.kernel.fail = func(o Operation) error {
			if o.Kind == RemoveDestination {
				s.mu.Lock()
				s.cluster.Writer = ""
				s.mu.Unlock()
			}
			if o.Kind == AddDestination {
				t.Errorf("%s was carried out", o)
			}
			return nil
		}
		s.set(func(c *Cluster) { c.Writer, c.Epoch = "db2", 2 })
		s.pass(5 * time.Second)
		s.want("nobody", "10.9.0.1: 10.0.0.21=100 10.0.0.22=200; 10.9.0.2: ")
	})
}

func TestFailedReplicaIsQuiescedThenRemoved(t *testing.T) {
	onStage(t, func(s *stage) {
		s.start()
		s.kernel.load(reads, toR1.Address, 3)
		s.set(func(c *Cluster) { c.Servers = map[string]Verdict{"r1": {false, "gone"}, "r2": {true, ""}} })
		s.want("at once", "10.9.0.1: 10.0.0.21=0 10.0.0.22=200; 10.9.0.2: 10.0.0.11=100")
		s.pass(29 * time.Second)
		s.want("its connections may end", "10.9.0.1: 10.0.0.21=0 10.0.0.22=200; 10.9.0.2: 10.0.0.11=100")
		s.pass(2 * time.Second)
		s.want("too late", "10.9.0.1: 10.0.0.22=200; 10.9.0.2: 10.0.0.11=100")
		s.set(func(c *Cluster) { c.Servers = well })
		s.want("a slow start", "10.9.0.1: 10.0.0.21=10 10.0.0.22=200; 10.9.0.2: 10.0.0.11=100")
		s.pass(31 * time.Second)
		s.want("full", healthy)
		s.event("server", "up -> failed: gone")
	})
}

func TestDrainsPersist(t *testing.T) {
	onStage(t, func(s *stage) {
		s.start()
		if err := s.r.Drain("nobody", "", 0); err == nil || !strings.Contains(err.Error(), `no real server "nobody"`) {
			t.Errorf("%v", err)
		}
		if err := s.r.Drain("r1", "elsewhere", 0); err == nil || !strings.Contains(err.Error(), `no virtual service "elsewhere"`) {
			t.Errorf("%v", err)
		}
		s.kernel.load(reads, toR1.Address, 3)
		if err := s.r.Drain("r1", "", 20*time.Second); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.want("drained", "10.9.0.1: 10.0.0.21=0 10.0.0.22=200; 10.9.0.2: 10.0.0.11=100")
		s.stop()
		s.start()
		s.want("after a restart", "10.9.0.1: 10.0.0.21=0 10.0.0.22=200; 10.9.0.2: 10.0.0.11=100")
		s.pass(21 * time.Second)
		s.want("at the deadline", "10.9.0.1: 10.0.0.22=200; 10.9.0.2: 10.0.0.11=100")
		if err := s.r.Undrain("r2", ""); err == nil || !strings.Contains(err.Error(), "r2 is not drained in all services") {
			t.Errorf("%v", err)
		}
		if err := s.r.Undrain("r1", ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.pass(31 * time.Second)
		s.want("back", healthy)
	})
}

func TestPlanShowsAndChangesNothing(t *testing.T) {
	onStage(t, func(s *stage) {
		s.start()
		made := s.kernel.count()
		s.kernel.byHand(Operation{Kind: RemoveDestination, Service: reads, Destination: toR1})
		p, err := s.r.Plan(t.Context())
		if err != nil || len(p.Operations) != 1 || p.Operations[0].Kind != AddDestination || s.kernel.count() != made {
			t.Errorf("%v %v", p, err)
		}
		s.r.Now()
		synctest.Wait()
		s.want("compared now", healthy)
	})
}

func TestLeaveOnExit(t *testing.T) {
	for leave, want := range map[string]string{"true": healthy, "false": "10.9.0.77: "} {
		onStage(t, func(s *stage) {
			s.text = strings.Replace(s.text, "mode: kernel", "mode: kernel\n  leave_on_exit: "+leave, 1)
			if leave == "false" {
				s.kernel.byHand(makeService(key("tcp/10.9.0.77:80")))
			}
			s.start()
			s.stop()
			s.want("after leave_on_exit "+leave, want)
		})
	}
}

func TestNoKernelIsASentence(t *testing.T) {
	onStage(t, func(s *stage) {
		s.start()
		owner := s.r.kernel.(*Owner)
		owner.mu.Lock()
		owner.table, owner.open = nil, func() (raw, error) { return nil, fmt.Errorf("open IPVS: %w", explain(os.ErrNotExist)) }
		owner.mu.Unlock()
		s.pass(2 * time.Second)
		if st := s.r.Status(); !strings.Contains(st.Error, "modprobe ip_vs") {
			t.Errorf("%q", st.Error)
		}
		owner.mu.Lock()
		owner.open = func() (raw, error) { return s.kernel, nil }
		owner.mu.Unlock()
		s.pass(2 * time.Second)
		if st := s.r.Status(); st.Error != "" {
			t.Errorf("%q", st.Error)
		}
	})
}

func TestMetricsAreSound(t *testing.T) {
	onStage(t, func(s *stage) {
		s.start()
		s.kernel.load(reads, toR1.Address, 3)
		s.pass(3 * time.Second)
		problems, err := testutil.GatherAndLint(s.reg)
		if err != nil || len(problems) > 0 {
			t.Errorf("%v %v", problems, err)
		}
		want := `# HELP signalbox_lvs_server_active_connections Established connections.
# TYPE signalbox_lvs_server_active_connections gauge
signalbox_lvs_server_active_connections{address="10.0.0.11:3306",server="db1",service="writes",virtual="tcp/10.9.0.2:3306"} 0
signalbox_lvs_server_active_connections{address="10.0.0.21:3306",server="r1",service="reads",virtual="tcp/10.9.0.1:3306"} 3
signalbox_lvs_server_active_connections{address="10.0.0.22:3306",server="r2",service="reads",virtual="tcp/10.9.0.1:3306"} 0
`
		if err := testutil.GatherAndCompare(s.reg, strings.NewReader(want), "signalbox_lvs_server_active_connections"); err != nil {
			t.Error(err)
		}
	})
}

func TestLedgerIsWrittenOnlyForChanges(t *testing.T) {
	onStage(t, func(s *stage) {
		s.start()
		path := filepath.Join(s.dir, ledgerName)
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		s.pass(time.Minute)
		after, err := os.Stat(path)
		if err != nil || !os.SameFile(before, after) {
			t.Errorf("written without a change: %v", err)
		}
	})
}

// A fault of many services makes an error that can be read.
func TestManyFailedServicesAreCounted(t *testing.T) {
	var errs []error
	if err := first(errs); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		errs = append(errs, fmt.Errorf("service %03d: no scheduler", 999-i))
	}
	if one := first(errs[999:]); one.Error() != "service 000: no scheduler" {
		t.Errorf("one: %v", one)
	}
	lines := strings.Split(first(errs).Error(), "\n")
	if len(lines) != mostTold+1 || lines[0] != "service 000: no scheduler" || !strings.HasPrefix(lines[mostTold], "and 992 other services failed") {
		t.Errorf("%q", lines)
	}
}
