package backend

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// Fresh is what is known of a replica's position beside its last probe. Times
// are by Now. Every method may be called from any goroutine.
type Fresh struct {
	learnt  atomic.Pointer[learnt]
	doubted atomic.Int64 // what was known before this may have been lost in a crash
	late    atomic.Int64 // until when waiting there is no use; 0 for never
	parted  atomic.Bool  // it has another history than the writer
	noted   bool         // of the taker: that was told
}

// learnt is a position that the replica was seen to have.
type learnt struct {
	position Position
	at       time.Duration
}

// Learn notes that the replica had p at the time at: it answered a wait for it.
func (f *Fresh) Learn(p *Position, at time.Duration) {
	f.late.Store(0)
	for {
		old := f.learnt.Load()
		next := &learnt{at: at}
		if old != nil {
			if old.position.Contains(p) {
				return
			}
			next.position = old.position
		}
		next.position = next.position.Merge(*p)
		if f.learnt.CompareAndSwap(old, next) {
			return
		}
	}
}

// settle forgets what was learnt before a probe that began at asked: the probe
// knows it too, unless the replica was set up anew from an older state.
func (f *Fresh) settle(asked time.Duration) {
	if old := f.learnt.Load(); old != nil && old.at < asked {
		f.learnt.CompareAndSwap(old, nil)
	}
}

// doubt notes that a connection to the replica failed. It may have crashed and
// come back without the last it had; its next probe tells.
func (f *Fresh) doubt(now time.Duration) { f.doubted.Store(int64(now)) }

// forget is for a server that was away.
func (f *Fresh) forget() {
	f.learnt.Store(nil)
	f.late.Store(0)
	f.parted.Store(false)
	f.noted = false
}

// lateFor is how long nobody waits on a replica after a wait in vain; then one
// read does, to see.
const lateFor = time.Second

// Late notes that a read waited in vain.
func (f *Fresh) Late(now time.Duration) { f.late.Store(int64(now + lateFor)) }

// Turn tells whether a read may wait on the replica now. After a wait in vain
// one may every lateFor, until one has found what it waited for.
func (f *Fresh) Turn(now time.Duration) bool {
	late := f.late.Load()
	return late == 0 || int64(now) >= late && f.late.CompareAndSwap(late, int64(now+lateFor))
}

// believes tells whether knowledge from the time at may be believed to contain
// writes the last of which began at since. It cannot be older than they are:
// a replica that had such a number before it was given out has another history,
// see Position.Ahead, and its numbers mean nothing from then on.
func (f *Fresh) believes(at, since time.Duration) bool {
	if at < since {
		f.parted.Store(true)
		return false
	}
	return true
}

// has tells whether the replica is known to have what need asks for.
func (st *Status) has(need *Need) bool {
	if need.Position.Empty() {
		return true
	}
	f := &st.Server.Fresh
	if f.parted.Load() {
		return false
	}
	doubted := time.Duration(f.doubted.Load())
	if st.asked >= doubted && st.Position.Contains(&need.Position) {
		return f.believes(st.asked+st.answered, need.Since)
	}
	l := f.learnt.Load()
	return l != nil && l.at >= doubted && l.position.Contains(&need.Position) && f.believes(l.at, need.Since)
}

// lagGrain is how exactly a replica itself knows its lag.
const lagGrain = time.Second

// promising tells whether it may have it within need.Wait.
func (st *Status) promising(need *Need) bool {
	f := &st.Server.Fresh
	return need.Wait > 0 && st.Replicates && !f.parted.Load() && int64(need.Now) >= f.late.Load() && (st.Lag < lagGrain || st.Lag <= need.Wait) &&
		st.Position.MariaDB() == need.Position.MariaDB() && st.waits()
}

// waits tells whether the server can be asked to wait for less than a second:
// MySQL 5.7 reads whole seconds, and 0 as for ever.
func (st *Status) waits() bool { return st.MariaDB || !strings.HasPrefix(st.Version, "5.") }

// compare looks, with a fresh sample of the writer, for replicas that have what
// the writer never had.
func (c *Cluster) compare(writer *Status, servers []Status) {
	if c.gate.Current().Server != writer.Server {
		return
	}
	for i := range servers {
		st := &servers[i]
		if st.Server != writer.Server && st.Up && st.asked+st.answered <= writer.asked && st.Position.Ahead(&writer.Position) {
			st.Server.Fresh.parted.Store(true)
		}
	}
}

// notePart tells of a replica that parted, once.
func (t *taker) notePart(st *Status) {
	if f := &t.s.Fresh; f.parted.Load() && !f.noted {
		f.noted = true
		t.c.note("parted", t.s, fmt.Sprintf("has transactions that the primary does not have (it is at %s): "+
			"its position is not believed, set it up anew from the primary", clip(st.Position.String())))
	}
}
