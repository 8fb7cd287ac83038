package drbdwatch

import (
	"sync"
	"time"

	"signalbox/config"
)

// feed is the latest that is known of one node, from a source on this host or
// from the node's agent.
type feed struct {
	node   string
	minors []int
	fresh  time.Duration // an older view is not believed
	remote bool
	kick   func() // tells the Watch that something changed

	mu       sync.Mutex // guards what follows
	sample   Sample     // At: a moment at which the state was surely so, or later
	heard    time.Time  // when it came in
	claimed  time.Time  // since when, at the earliest, it claims to be Primary
	serial   uint64     // counts samples
	counted  uint64     // serial in the round of samples that was counted last
	database *Database  // what the agent says of its mysqld
	leaving  bool       // its cluster manager is about to demote it
	weighed  bool       // leaving, as the last decision had it
	answered bool       // the agent was pinged after that
	boot     string     // the agent's
	fences   []Fence    // what it knows of other nodes
	using    bool       // this proxy has connections that may write there

	failure   string          // why the agent is not heard, as last seen
	void      map[string]bool // fences that this proxy knows to be void
	answerNow chan struct{}   // closed when a ping should be sent at once
}

func newFeed(s *config.Server, a *config.Authority, kick func()) *feed {
	f := &feed{node: s.Name, minors: s.DRBD.Minors, fresh: a.LocalFresh, kick: kick}
	if s.DRBD.Agent != "" {
		f.remote, f.fresh = true, a.RemoteFresh
	}
	return f
}

// take keeps a sample; changed tells whether it says anything new.
func (f *feed) take(s Sample, changed bool) {
	f.mu.Lock()
	f.set(s)
	f.serial++
	f.mu.Unlock()
	if changed {
		f.kick()
	}
}

// set keeps a sample; the caller holds f.mu.
func (f *feed) set(s Sample) {
	claims := func(s *Sample) bool { return s.State != nil && s.State.claims(f.minors) }
	if claims(&s) && !claims(&f.sample) {
		f.claimed = s.At
	}
	f.sample, f.heard = s, time.Now()
}

// report keeps what an agent said; at is a moment at which it was surely so.
func (f *feed) report(r *Report, at time.Time) {
	f.mu.Lock()
	changed := !sameReport(f, r)
	if r.Samples != 0 || changed {
		f.serial++
	}
	f.set(Sample{State: r.State, Err: r.Err, Source: "agent, " + r.Source, At: at})
	f.database, f.leaving, f.boot, f.fences = r.Database, r.Leaving, r.Boot, r.Fences
	f.mu.Unlock()
	if changed {
		f.kick()
	}
}

// fail records that the agent cannot be heard. The view before stays until it
// is too old.
func (f *feed) fail(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failure = why
}

func (f *feed) view(now time.Time) View {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.weighed = f.leaving
	v := View{Node: f.node, State: f.sample.State, Err: f.sample.Err, Age: now.Sub(f.sample.At), Fresh: f.fresh,
		Heard: now.Sub(f.heard), Claimed: now.Sub(f.claimed), Minors: f.minors, Database: f.database, Leaving: f.leaving, Boot: f.boot}
	if v.Err == "" && f.failure != "" && (v.State == nil || v.Age > v.Fresh) {
		v.Err = f.failure
	}
	return v
}

// decided comes after a decision that had the view: an announced demotion waits
// for a ping from after it.
func (f *feed) decided() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.weighed && !f.answered {
		f.answer()
	}
	f.answered = f.weighed
}

// newer tells whether there is a sample that no round has counted; count makes
// it counted.
func (f *feed) newer() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.serial != f.counted
}

func (f *feed) count() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counted = f.serial
}

func (f *feed) evidence() []Fence {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fences
}

func (f *feed) status(v *View, row *Row) NodeStatus {
	f.mu.Lock()
	source := f.sample.Source
	f.mu.Unlock()
	s := NodeStatus{Node: v.Node, Source: source, Verdict: row.Verdict, Reason: row.Reason, Sentence: row.Sentence}
	if !v.trusted() {
		s.Summary = v.whyNot()
		if v.Err == "" && v.State != nil {
			s.Summary = "stale" // without the age, which would make every snapshot differ
		}
		return s
	}
	s.Version = v.State.Version
	for i := range v.State.Devices {
		if d := &v.State.Devices[i]; d.Configured {
			if s.Summary != "" {
				s.Summary += "; "
			}
			s.Summary += d.String()
		}
	}
	return s
}
