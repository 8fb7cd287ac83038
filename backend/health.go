package backend

import (
	"fmt"
	"time"
)

// sample is the outcome of one probe.
type sample struct {
	ok      bool
	refused bool   // nothing listens there: down for certain
	mute    bool   // no answer at all: it may also be the network
	proven  bool   // live traffic fails too: one such sample is enough
	reason  string // why not ok
	status  Status // what a good probe found
}

// health turns samples into up and down by rise and fall counts.
type health struct {
	rise, fall int
	damped     bool // each fall within flapWindow of the one before doubles rise
	up         bool
	run        int  // samples in a row that speak against up
	mute       bool // the last sample
	spared     bool // it would be down if this host's network were not suspected
	reason     string
	seen       bool

	fell  time.Duration // when it last went down
	flaps int           // falls in a row within flapWindow of each other
}

// A server that falls again and again is trusted again later and later, up to
// 2^maxFlaps times as many good samples.
const (
	flapWindow = time.Minute
	maxFlaps   = 4
)

// take is the state machine: the first sample settles it, a refused connection
// means down at once, and everything else takes its count. With ownFault a server
// that does not answer is not taken down.
func (h *health) take(s *sample, now time.Duration, ownFault bool) {
	first := !h.seen
	h.seen, h.mute, h.spared = true, s.mute && !s.ok, false
	if s.ok == h.up {
		h.run = 0
	} else {
		h.run++
	}
	if first || s.ok != h.up && (h.run >= h.need() || s.refused || s.proven && !s.ok) {
		if h.up && s.mute && ownFault {
			h.spared = true
		} else {
			h.turn(s.ok, now)
		}
	}
	switch {
	case !s.ok:
		h.reason = s.reason
	case !h.up:
		h.reason = fmt.Sprintf("answers again, %d of %d", h.run, h.need())
	default:
		h.reason = "answers"
	}
}

// need is how many samples in a row it takes to change.
func (h *health) need() int {
	if h.up {
		return h.fall
	}
	return h.rise << min(h.flaps, maxFlaps)
}

func (h *health) turn(up bool, now time.Duration) {
	if h.up && !up {
		if h.damped && h.fell != 0 && now-h.fell < flapWindow {
			h.flaps++
		} else {
			h.flaps = 0
		}
		h.fell = now
	}
	h.up, h.run = up, 0
}

// ownFault tells whether it is rather this host's network that has failed: two
// or more servers were up, and not one of them answers any more.
func ownFault(all []*health) bool {
	up := 0
	for _, h := range all {
		if h.up && !h.mute {
			return false
		}
		if h.up {
			up++
		}
	}
	return up > 1
}
