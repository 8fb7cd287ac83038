package backend

import "time"

// lagFollower keeps a replica's lag known while it has lost its source. With
// nobody writing it does not grow, so that reads go on through a failover; with
// a writer it grows by the second.
type lagFollower struct {
	lag    time.Duration // last known
	known  bool
	lostAt time.Time // since when the lag grows unseen
}

func (f *lagFollower) follow(st *Status, writing bool) {
	switch {
	case st.LagKnown:
		f.lag, f.known, f.lostAt = st.Lag, true, time.Time{}
		return
	case !f.known:
		return
	case f.lostAt.IsZero() || !writing:
		f.lostAt = st.LastProbe
	}
	st.Lag, st.LagKnown = f.lag+st.LastProbe.Sub(f.lostAt), true
}

// lagHold turns a lag into the value that is compared with every max_lag. It
// rises at once and falls late: a replica is out as soon as it is behind by more
// than max_lag, and back when it has been below ret per cent of that for settle.
// As this holds for any max_lag at once, one value serves those of users, rules
// and hints (the play of a hysteresis, Krasnosel'skii and Pokrovskii).
type lagHold struct {
	ret    int // per cent, 1 to 100
	settle time.Duration

	held   time.Duration
	recent []lagAt // of the last settle, the greater ones later than which none was greater
}

type lagAt struct{ at, lag time.Duration }

func (h *lagHold) take(now, lag time.Duration) time.Duration {
	for len(h.recent) > 0 && h.recent[len(h.recent)-1].lag <= lag {
		h.recent = h.recent[:len(h.recent)-1]
	}
	h.recent = append(h.recent, lagAt{now, lag})
	for now-h.recent[0].at > h.settle {
		h.recent = append(h.recent[:0], h.recent[1:]...)
	}
	h.held = max(lag, min(h.held, h.recent[0].lag*100/time.Duration(h.ret)))
	return h.held
}

// beatFresh is how old the primary's last heartbeat may be, while there is a
// primary, for lags to be told by it.
const beatFresh = 5 * time.Second

// beats is the newest heartbeat known of the primary.
type beats struct {
	newest int64         // in microseconds, by the primary's clock
	seen   time.Duration // when it was first seen, by Now
}

func (b *beats) note(now time.Duration, beat int64) {
	if beat > b.newest {
		b.newest, b.seen = beat, now
	}
}

// lag is how far a server that has the heartbeat beat is behind. Both are by the
// primary's clock, so that no other clock matters. It is known while the primary
// writes heartbeats, or while there is none.
func (b *beats) lag(now time.Duration, beat int64, writing bool) (time.Duration, bool) {
	if beat == 0 || b.newest == 0 || writing && now-b.seen > beatFresh {
		return 0, false
	}
	return time.Duration(max(0, b.newest-beat)) * time.Microsecond, true
}
