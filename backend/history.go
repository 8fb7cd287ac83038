package backend

import (
	"sort"
	"time"
)

// history is where the writer's log was at which times. A replica that lacks
// what the writer had is behind by the time since, whatever it says itself: with
// a connection to its source that is dead and not yet given up it says 0, for as
// long as slave_net_timeout (MySQL manual, "SHOW REPLICA STATUS",
// Seconds_Behind_Source).
type history struct {
	epoch uint64        // a new writer may lack what the one before had
	marks []mark        // ascending
	seen  time.Duration // when the writer was last known to be at the last mark
}

// mark is a position that the writer had reached at the time at, by Now.
type mark struct {
	position Position
	at       time.Duration
}

// mostMarks bounds the history. When it is full its older half loses every
// second mark: the longer ago, the less exactly.
const mostMarks = 256

// note adds where the writer of an epoch was at a time.
func (h *history) note(epoch uint64, p *Position, at time.Duration) {
	n := len(h.marks)
	if epoch != h.epoch || n > 0 && p.Trails(&h.marks[n-1].position) { // or its log was begun anew
		*h, n = history{epoch: epoch, marks: h.marks[:0]}, 0
	}
	h.seen = at
	if n > 0 && !h.marks[n-1].position.Trails(p) {
		return
	}
	if n == mostMarks {
		kept := h.marks[:0]
		for i, m := range h.marks {
			if i >= mostMarks/2 || i%2 == 0 {
				kept = append(kept, m)
			}
		}
		h.marks = kept
	}
	h.marks = append(h.marks, mark{*p, at})
}

// behind is how long at least a replica has been behind that had no more than p
// at the time asked. It is counted in the time for which the writer was seen:
// while there is none it does not grow.
func (h *history) behind(p *Position, asked time.Duration) time.Duration {
	first := sort.Search(len(h.marks), func(i int) bool { return p.Trails(&h.marks[i].position) })
	if first == len(h.marks) {
		return 0
	}
	return max(0, min(asked, h.seen)-h.marks[first].at)
}
