package proxy

import (
	"fmt"
	"sync/atomic"
	"time"

	"signalbox/backend"
	"signalbox/config"
)

// hold is the waiting room of statements that need the primary while there is
// none: bounded in number, bytes and time, given up when the client goes, and
// left a few at a time, so that a new primary is not met by all at once.
type hold struct {
	cfg     config.Hold
	waiting atomic.Int64
	bytes   atomic.Int64
	leaving chan struct{} // has a place for each statement that may leave at once
	dry     atomic.Pointer[backend.Writer]
}

func newHold(cfg config.Hold) *hold {
	return &hold{cfg: cfg, leaving: make(chan struct{}, cfg.Release)}
}

// hangupPoll is how often a waiting session looks whether its client is there.
const hangupPoll = 200 * time.Millisecond

// wait returns when the writer is no longer w, or after retry if that is not 0
// and comes first. Otherwise it returns what the client is told. size is what
// the statement keeps in memory, in bytes.
func (h *hold) wait(s *session, w *backend.Writer, size int, deadline time.Time, retry time.Duration) *Fault {
	h.leave(s)
	switch h.cfg.Mode {
	case "fail":
		return faultNoPrimary(w.Sentence)
	case "dry-run":
		s.p.metrics.holdDry.Inc()
		if h.dry.Swap(w) != w {
			s.p.log.Warn("statements would be held now (hold.mode dry-run)", "why", w.Sentence)
		}
		return faultNoPrimary(w.Sentence)
	}
	defer h.waiting.Add(-1)
	defer h.bytes.Add(-int64(size))
	switch n, b := h.waiting.Add(1), h.bytes.Add(int64(size)); {
	case n > int64(h.cfg.MaxWaiting):
		s.p.metrics.holdRefused.Inc()
		return faultNoPrimary(w.Sentence + "; hold.max_waiting statements wait already")
	case b > int64(h.cfg.MaxBytes):
		s.p.metrics.holdRefused.Inc()
		return faultNoPrimary(w.Sentence + "; statements of hold.max_bytes wait already")
	}
	s.p.metrics.held.Inc()
	began := time.Now()
	defer func() { s.p.metrics.holdSeconds.Observe(time.Since(began).Seconds()) }()
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
	var door chan struct{} // nil until there is a writer to leave to
	for {
		select {
		case <-changed:
			if s.p.cluster.Gate().Current().Server == nil {
				return nil
			}
			changed, door = nil, h.leaving
		case door <- struct{}{}:
			s.releasing = true
			return nil
		case <-again:
			return nil
		case <-over.C:
			s.p.metrics.holdExpired.Inc()
			return faultNoPrimary(fmt.Sprintf("%s; waited for hold.timeout, %s", w.Sentence, h.cfg.Timeout))
		case <-look.C:
			if s.sock.Hungup() {
				return &Fault{1317, "70100", "signalbox: the client left while its statement waited for a primary"}
			}
		case <-s.ctx.Done():
			return &Fault{1053, "08S01", "Server shutdown in progress"}
		}
	}
}

// leave gives up the place that a statement took when it left the waiting room.
func (h *hold) leave(s *session) {
	if s.releasing {
		s.releasing = false
		<-h.leaving
	}
}
