package proxy

import (
	"sync/atomic"
	"time"

	"signalbox/backend"
	"signalbox/config"
)

// hold is the waiting room of statements that need the primary while there is
// none: bounded in number and time, given up when the client goes.
type hold struct {
	cfg     config.Hold
	waiting atomic.Int64
}

// hangupPoll is how often a waiting session looks whether its client is there.
const hangupPoll = 200 * time.Millisecond

// wait returns when the writer is no longer w, or after retry if that is not 0
// and comes first. Otherwise it returns what the client is told.
func (h *hold) wait(s *session, w *backend.Writer, deadline time.Time, retry time.Duration) *Fault {
	if h.cfg.Mode == "fail" {
		return faultNoPrimary(w.Sentence)
	}
	if h.waiting.Add(1) > int64(h.cfg.MaxWaiting) {
		h.waiting.Add(-1)
		s.p.metrics.holdRefused.Inc()
		return faultNoPrimary(w.Sentence + "; hold.max_waiting statements wait already")
	}
	defer h.waiting.Add(-1)
	s.p.metrics.held.Inc()
	gate := s.p.cluster.Gate()
	changed := gate.Changed()
	if gate.Current() != w {
		return nil
	}
	return h.sleep(s, w, changed, deadline, retry)
}

func (h *hold) sleep(s *session, w *backend.Writer, changed <-chan struct{}, deadline time.Time, retry time.Duration) *Fault {
	over := time.NewTimer(time.Until(deadline))
	defer over.Stop()
	look := time.NewTicker(hangupPoll)
	defer look.Stop()
	var again <-chan time.Time
	if retry > 0 {
		t := time.NewTimer(retry)
		defer t.Stop()
		again = t.C
	}
	for {
		select {
		case <-changed:
			return nil
		case <-again:
			return nil
		case <-over.C:
			s.p.metrics.holdExpired.Inc()
			return faultNoPrimary(w.Sentence + "; waited for hold.timeout, " + h.cfg.Timeout.String())
		case <-look.C:
			if s.sock.Hungup() {
				return &Fault{1317, "70100", "signalbox: the client left while its statement waited for a primary"}
			}
		case <-s.ctx.Done():
			return &Fault{1053, "08S01", "Server shutdown in progress"}
		}
	}
}
