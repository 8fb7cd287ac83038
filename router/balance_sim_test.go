package router_test

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"signalbox/backend"
	"signalbox/router"
)

// world is servers and closed-loop sessions in virtual time: Balance decides,
// backend.Load counts, and nothing else is real.
type world struct {
	now     time.Duration
	random  *rand.Rand
	how     router.Balancing
	servers []*simServer
	events  events
	seq     int
	think   time.Duration // mean pause of a session between reads
	reads   []read        // that have ended
}

// simServer answers with some workers, each read in an exponential time.
type simServer struct {
	load    backend.Load
	weight  int
	mean    time.Duration // of a read's time on a worker
	delay   time.Duration // network, added to each
	workers int
	busy    int
	queue   []func()
	down    bool
	stalled bool
	since   time.Duration // of its return, 0 for it was always there
	stuck   []*simRead
}

type simRead struct {
	began  time.Duration
	server int
	client *simClient
}

type simClient struct{ open uint64 }

// read is one that has ended.
type read struct {
	began, took time.Duration
	server      int
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any     { last := (*e)[len(*e)-1]; *e = (*e)[:len(*e)-1]; return last }

func newWorld(policy router.Policy, servers ...*simServer) *world {
	w := &world{random: rand.New(rand.NewPCG(1, 2)), how: router.Balancing{Policy: policy}, servers: servers, think: 3 * time.Millisecond, now: time.Second}
	for _, s := range servers {
		s.weight, s.workers = max(s.weight, 1), max(s.workers, 4)
		if s.mean == 0 {
			s.mean = 500 * time.Microsecond
		}
		w.probe(s)
	}
	for range 32 {
		c := &simClient{}
		w.in(w.exp(w.think), func() { w.begin(c, w.now) })
	}
	return w
}

func (w *world) in(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + d, w.seq, do})
}

func (w *world) exp(mean time.Duration) time.Duration {
	return time.Duration(w.random.ExpFloat64() * float64(mean))
}

// probe answers once a second, as a server that lives does.
func (w *world) probe(s *simServer) {
	if !s.down && !s.stalled {
		s.load.Alive(w.now, s.delay+s.mean)
	}
	w.in(time.Second, func() { w.probe(s) })
}

const slowStart = 10 * time.Second

func (w *world) begin(c *simClient, began time.Duration) {
	var list []router.Candidate
	for i, s := range w.servers {
		if s.down {
			continue
		}
		warm := (&backend.Status{Since: s.since}).Warmth(w.now, slowStart)
		x := router.Candidate{Index: i, Weight: s.weight, Warmth: warm, Open: c.open>>i&1 != 0}
		x.Outstanding, x.Latency, x.Silence = s.load.Load(w.now)
		list = append(list, x)
	}
	at, _ := router.Balance(list, w.how, w.random.Uint64())
	if at < 0 {
		panic("no server")
	}
	i := list[at].Index
	c.open |= 1 << i
	w.send(&simRead{began, i, c})
}

func (w *world) send(r *simRead) {
	s := w.servers[r.server]
	s.load.Begin(w.now)
	if s.stalled {
		s.stuck = append(s.stuck, r)
		return
	}
	sent := w.now
	run := func() {
		w.in(w.exp(s.mean), func() {
			s.release()
			w.in(s.delay, func() { w.end(r, sent) })
		})
	}
	if s.busy < s.workers {
		s.busy++
		run()
	} else {
		s.queue = append(s.queue, run)
	}
}

func (w *world) end(r *simRead, sent time.Duration) {
	s := w.servers[r.server]
	if s.stalled {
		s.stuck = append(s.stuck, r)
		return
	}
	s.load.Answer(w.now, w.now-sent)
	s.load.End(true)
	w.reads = append(w.reads, read{r.began, w.now - r.began, r.server})
	w.in(w.exp(w.think), func() { w.begin(r.client, w.now) })
}

// release lets the next read have the worker.
func (s *simServer) release() {
	if len(s.queue) == 0 {
		s.busy--
		return
	}
	next := s.queue[0]
	s.queue = s.queue[1:]
	next()
}

// remove takes a stalled server out: what waits there is read elsewhere.
func (w *world) remove(s *simServer) {
	s.down = true
	for _, r := range s.stuck {
		s.load.End(false)
		r.client.open &^= 1 << r.server
		w.begin(r.client, r.began)
	}
	s.stuck, s.queue, s.busy = nil, nil, 0
}

// run goes on for d and returns the reads that began from then on.
func (w *world) run(d time.Duration) []read {
	from := w.now
	w.reads = nil
	for len(w.events) > 0 && w.events[0].at <= from+d {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	w.now = from + d
	return slices.DeleteFunc(w.reads, func(r read) bool { return r.began < from })
}

type summary struct {
	n        int
	p50, p99 time.Duration
	share    []float64 // per cent
}

func (w *world) summary(reads []read) summary {
	took := make([]time.Duration, len(reads))
	s := summary{n: len(reads), share: make([]float64, len(w.servers))}
	for i, r := range reads {
		took[i] = r.took
		s.share[r.server] += 100 / float64(len(reads))
	}
	slices.Sort(took)
	s.p50, s.p99 = took[len(took)/2], took[len(took)*99/100]
	return s
}

func (s summary) String() string {
	return fmt.Sprintf("%6d reads, p50 %v, p99 %v, shares %.0f %%", s.n, s.p50.Round(10*time.Microsecond), s.p99.Round(10*time.Microsecond), s.share)
}

var policies = []router.Policy{router.LeastTime, router.LeastConnections, router.Weighted, router.First}

// Servers of unequal weight and speed: each policy gives what it promises.
func TestSimulatedSkew(t *testing.T) {
	for _, p := range policies {
		w := newWorld(p, &simServer{}, &simServer{weight: 2, workers: 8}, &simServer{})
		w.run(time.Second)
		equal := w.summary(w.run(4 * time.Second))
		t.Logf("%-17v weights 1 2 1:        %v", p, equal)
		if p != router.First && (equal.share[1] < 40 || equal.share[1] > 60 || equal.share[0] < 17 || equal.share[2] < 17) {
			t.Errorf("%v: shares %.0f per cent for the weights 1 2 1", p, equal.share)
		}
		w = newWorld(p, &simServer{}, &simServer{mean: 2 * time.Millisecond}, &simServer{})
		w.run(time.Second)
		skewed := w.summary(w.run(4 * time.Second))
		t.Logf("%-17v one four times slower: %v", p, skewed)
		if p == router.LeastTime && skewed.share[1] > 20 {
			t.Errorf("the slow one gets %.0f per cent", skewed.share[1])
		}
	}
}

// A replica 20 ms away gets next to nothing, and the p99 stays.
func TestSimulatedSlowReplica(t *testing.T) {
	for _, p := range policies {
		w := newWorld(p, &simServer{}, &simServer{}, &simServer{})
		w.run(time.Second)
		healthy := w.summary(w.run(4 * time.Second))
		w.servers[0].delay = 20 * time.Millisecond
		w.run(2 * time.Second) // it is noticed
		slowed := w.summary(w.run(4 * time.Second))
		w.servers[0].delay = 0
		w.run(10 * time.Second)
		after := w.summary(w.run(4 * time.Second))
		t.Logf("%-17v healthy: %v", p, healthy)
		t.Logf("%-17v slowed:  %v", p, slowed)
		t.Logf("%-17v after:   %v", p, after)
		if p != router.LeastTime {
			continue
		}
		if slowed.p99 > healthy.p99*3/2 || slowed.share[0] > 1 {
			t.Errorf("p99 %v, healthy %v; the slow one gets %.1f per cent", slowed.p99, healthy.p99, slowed.share[0])
		}
		if after.share[0] < 20 {
			t.Errorf("when it is quick again it gets %.0f per cent", after.share[0])
		}
	}
}

// A replica that stalls gets no new reads before any probe can know, and those
// that wait there are read elsewhere when it is taken out.
func TestSimulatedStalledReplica(t *testing.T) {
	for _, p := range policies[:2] { // the others look at no load: they go on until the silence is long enough
		w := newWorld(p, &simServer{}, &simServer{}, &simServer{})
		w.run(time.Second)
		healthy := w.summary(w.run(4 * time.Second))
		w.servers[0].stalled = true
		w.run(150 * time.Millisecond)
		caught := len(w.servers[0].stuck)
		during := w.run(1850 * time.Millisecond)
		more := len(w.servers[0].stuck) - caught
		steered := w.summary(during)
		w.remove(w.servers[0])
		gone := w.summary(w.run(4 * time.Second))
		t.Logf("%-17v healthy: %v", p, healthy)
		t.Logf("%-17v stalled: %v, %d reads were caught, %d later", p, steered, caught, more)
		t.Logf("%-17v out:     %v", p, gone)
		if more > 1 || caught == 32 {
			t.Errorf("%v: %d reads were caught by the stalled replica, and %d more after 150 ms", p, caught, more)
		}
		if p == router.LeastTime && (steered.p99 > healthy.p99*3/2 || gone.p99 > healthy.p99*3/2) {
			t.Errorf("p99 %v before and %v after it was taken out, healthy %v", steered.p99, gone.p99, healthy.p99)
		}
	}
}

// A replica that returns works up to its share.
func TestSimulatedReturningReplica(t *testing.T) {
	for _, p := range policies {
		w := newWorld(p, &simServer{}, &simServer{}, &simServer{})
		w.servers[0].down = true
		w.run(10 * time.Second)
		w.servers[0].down, w.servers[0].since = false, w.now
		first := w.summary(w.run(time.Second))
		w.run(8 * time.Second)
		w.run(2 * time.Second)
		whole := w.summary(w.run(4 * time.Second))
		t.Logf("%-17v first second: %v", p, first)
		t.Logf("%-17v later:        %v", p, whole)
		if first.share[0] > 12 {
			t.Errorf("%v: in the first second it gets %.0f per cent", p, first.share[0])
		}
		if whole.share[0] < 25 {
			t.Errorf("%v: later it gets %.0f per cent", p, whole.share[0])
		}
	}
}
