package backend

import (
	"sync/atomic"
	"time"
)

// Load is what runs on a server and how soon it answers, as the statements that
// pass through this proxy see it. Times are on one monotonic clock, see Now.
// Every method may be called from any goroutine; none locks or allocates.
type Load struct {
	outstanding atomic.Int64
	latency     atomic.Int64 // decaying mean time to an answer's first byte
	measured    atomic.Int64 // when latency was last updated
	life        atomic.Int64 // when the server last said anything
	owed        atomic.Int64 // answers that have not begun
	owes        atomic.Int64 // since when owed is not 0
	excused     atomic.Int64 // owed when a probe was answered: they take long, the server does not

	answered, failed atomic.Uint64
}

var started = time.Now()

// Now is the time on the clock of Load, since the program's start.
func Now() time.Duration { return time.Since(started) }

// At is t on the clock of Load.
func At(t time.Time) time.Duration { return t.Sub(started) }

// Begin counts a statement that is sent.
func (l *Load) Begin(now time.Duration) {
	l.outstanding.Add(1)
	if l.owed.Add(1) == 1 {
		l.owes.Store(int64(now))
	}
}

// Answer notes the first byte of an answer, took after its statement was sent.
func (l *Load) Answer(now, took time.Duration) {
	l.settle()
	l.answered.Add(1)
	l.life.Store(int64(now))
	l.measure(now, took)
}

// settle takes one from what the server owes.
func (l *Load) settle() {
	owed := l.owed.Add(-1)
	if e := l.excused.Load(); e > owed {
		l.excused.CompareAndSwap(e, owed)
	}
}

// End counts a statement as over; answered tells whether Answer was called.
func (l *Load) End(answered bool) {
	l.outstanding.Add(-1)
	if !answered {
		l.settle()
	}
}

// Alive notes that the server answered a probe in took. Where no statement has
// measured the server lately the probe does.
func (l *Load) Alive(now, took time.Duration) {
	l.life.Store(int64(now))
	l.excused.Store(l.owed.Load())
	if now-time.Duration(l.measured.Load()) > latencyMemory/2 {
		l.measure(now, took)
	}
}

// Mute is for how long the server has owed an answer and said nothing at all,
// not even to a probe; 0 when it owes none.
func (l *Load) Mute(now time.Duration) time.Duration {
	if l.owed.Load() <= 0 {
		return 0
	}
	return max(0, now-time.Duration(max(l.owes.Load(), l.life.Load())))
}

// latencyMemory is the time after which a latency counts half.
const latencyMemory = time.Second

func (l *Load) measure(now, took time.Duration) {
	old := l.latency.Load()
	before := time.Duration(l.measured.Swap(int64(now)))
	l.latency.CompareAndSwap(old, int64(decayed(time.Duration(old), took, now-before)))
}

// decayed is the mean of latencies after another one, since after the one
// before. A single answer counts at most ten times the mean: a report that takes
// seconds does not make a server slow.
func decayed(mean, took, since time.Duration) time.Duration {
	if mean == 0 {
		return took
	}
	took = min(took, 10*mean+time.Millisecond)
	since = max(since, latencyMemory/256)
	return mean + time.Duration(float64(took-mean)*float64(since)/float64(since+latencyMemory))
}

// Load is what Balance needs to know: how many statements run, how long an
// answer takes, and for how long the server has owed one that was not known to
// take long, and said nothing.
func (l *Load) Load(now time.Duration) (outstanding int, latency, silence time.Duration) {
	outstanding, latency = int(l.outstanding.Load()), time.Duration(l.latency.Load())
	if l.owed.Load() > l.excused.Load() {
		silence = l.Mute(now)
	}
	return outstanding, latency, silence
}

// forget drops what was measured, for a server that was away.
func (l *Load) forget() {
	l.latency.Store(0)
	l.measured.Store(0)
}
