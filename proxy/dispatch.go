package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"signalbox/backend"
	"signalbox/config"
	"signalbox/internal/wire"
	"signalbox/router"
)

// work is one statement on its way: what was decided and what is sent.
type work struct {
	st      *router.Statement
	d       router.Decision
	kind    wire.AnswerKind
	request []byte     // the packet to send, statement number not yet set
	prep    *statement // for COM_STMT_EXECUTE and COM_STMT_PREPARE
	started time.Time
	waits   time.Time // until when it may be held
	failed  uint64    // bit i: server i was lost under it
	tries   int
	sends   int         // how often it was sent and its server lost
	on      *serverConn // the only connection it can run on, nil for any
	placed  bool        // it has one of reads.primary_cap places
	waited  bool        // for such a place

	demanded    bool             // what follows is set, see demand
	want        backend.Position // what it must find on a replica
	since       time.Duration    // when the last write in it began, by backend.Now
	wait        bool             // the replica is to wait for it first
	late        bool             // that was in vain, or is not to be tried
	interrupted bool             // KILL QUERY ended the wait
}

// begun decides where a statement goes.
func (s *session) begun(st *router.Statement, request []byte, kind wire.AnswerKind) work {
	w := work{st: st, kind: kind, request: request, started: time.Now(), d: router.Decide(&s.route, st, s.p.rules)}
	if st.Hint != nil && st.Hint.After && (request[wire.HeaderLen] == wire.ComQuery || request[wire.HeaderLen] == wire.ComStmtPrepare) {
		s.after(&w, request[wire.HeaderLen+1:])
	}
	return w
}

// run1 routes one statement, runs it and relays its answer. request is the
// client's packet as it came. An error ends the session.
func (s *session) run1(st *router.Statement, request []byte, kind wire.AnswerKind) error {
	w := s.begun(st, request, kind)
	switch {
	case w.d.Deny != "":
		s.observed(&w)
		return s.fault(faultDenied(w.d.Deny))
	case st.Kill != nil:
		s.observed(&w)
		return s.kill(st.Kill.ID, st.Kill.QueryOnly)
	case w.d.Target == router.Local:
		if done, err := s.local(st); done {
			s.observed(&w)
			return err
		}
	}
	return s.dispatch(&w)
}

// dispatch finds the server for w, sends it there and relays the answer,
// elsewhere again where that is safe.
func (s *session) dispatch(w *work) error {
	defer s.p.reads.leave(w)
	for {
		c, err := s.connect(w)
		if err != nil {
			return s.refuse(w, err)
		}
		request, err := s.requestFor(c, w)
		if err != nil {
			if c.broken != nil && s.again(w, c) {
				continue
			}
			return s.refuse(w, err)
		}
		s.running.Store(c)
		result := s.send(c, w, request)
		s.running.Store(nil)
		switch result {
		case delivered:
			return s.finish(w, c)
		case declined:
			w.d.Target = router.Primary
			s.p.metrics.declined.Inc()
			w.st.Demote()
		case wantsFile:
			s.sendFileNext(*w, c)
			return nil
		case clientGone:
			return s.lost
		case lostEarly:
			if !s.again(w, c) {
				return s.serverLost(w, c)
			}
		case tooLate:
			if w.interrupted {
				return s.refuse(w, faultInterrupted())
			}
		case lostMidway:
			s.drop(c)
			return fmt.Errorf("server %s was lost in the middle of an answer: %w", c.Server.Name, c.broken)
		}
	}
}

// send sends the request of w to c, after a wait where there is to be one.
func (s *session) send(c *serverConn, w *work, request []byte) outcome {
	mayDecline := c != s.primary && s.movable(w)
	if w.wait {
		return s.exchangeAfter(c, w, request, mayDecline)
	}
	return s.exchange(c, request, w.kind, mayDecline)
}

// sendFileNext goes on with LOAD DATA LOCAL when the client's bytes may be
// waited for. It takes a copy, so that no other statement's work is allocated.
func (s *session) sendFileNext(w work, c *serverConn) {
	s.resume = func() error { return s.sendFile(&w, c) }
}

// movable tells whether w can run on another server just as well.
func (s *session) movable(w *work) bool {
	return w.st.IsRead && s.route.Pinned() == 0 && w.on == nil
}

// maxTries is how many servers are tried for a connection; maxSends is how often
// a read is sent before its failure is told: once more, to another server.
const (
	maxTries = 3
	maxSends = 2
)

// again drops the lost connection c and tells whether w, of whose answer the
// client has seen nothing, may be sent elsewhere.
func (s *session) again(w *work, c *serverConn) bool {
	w.tries++
	w.sends++
	w.failed |= 1 << (uint(c.Server.Index) & 63)
	if !s.movable(w) || w.sends >= maxSends || time.Since(w.started) > s.p.cfg.Reads.RetryWithin {
		return false
	}
	s.p.metrics.retried.Inc()
	s.drop(c)
	return true
}

// refuse tells the client why its statement did not run.
func (s *session) refuse(w *work, err error) error {
	s.observed(w)
	var f *Fault
	if !errors.As(err, &f) {
		return err
	}
	if err := s.fault(f); err != nil {
		return err
	}
	if f.endsSession() {
		return f
	}
	return nil
}

// serverLost tells the client that its statement, or what its session had on
// the connection, is lost.
func (s *session) serverLost(w *work, c *serverConn) error {
	cause := s.causeOf(c)
	s.trail.unknown = s.trail.unknown || !w.st.IsRead
	s.log().Info("server connection lost", "server", c.Server.Name, "error", c.broken)
	if f := s.forget(s.loss(c, cause)); f != nil {
		if !f.endsSession() && w.st.MayCommit() {
			f = faultOutcomeUnknown(c.Server.Name, cause) // a retry might do it all twice
		}
		return s.refuse(w, f)
	}
	s.drop(c)
	return s.refuse(w, faultOutcomeUnknown(c.Server.Name, cause))
}

// causeOf is why the connection c was lost, in words.
func (s *session) causeOf(c *serverConn) string {
	switch {
	case !c.Cut():
		return c.broken.Error()
	case c == s.primary:
		return "it may no longer take writes: " + s.p.cluster.Gate().Current().Sentence
	}
	return "it was taken out of reads"
}

// loss tells what the session loses with the connection c, nil for nothing.
func (s *session) loss(c *serverConn, cause string) *Fault {
	if s.pinned() != c && !(c == s.primary && s.route.Bound() != 0) {
		return nil
	}
	if s.route.InTransaction() && s.route.Pinned()&^router.PinsOfTransaction == 0 && s.route.Bound() == 0 {
		return faultTransactionLost(c.Server.Name, cause)
	}
	if pins := s.route.Pinned(); pins != 0 {
		return faultSessionLost(c.Server.Name, pins.String())
	}
	return faultSessionLost(c.Server.Name, s.route.Bound().String())
}

// forget makes the session as it is without what f says was lost. A client
// whose transaction was lost can restart it.
func (s *session) forget(f *Fault) *Fault {
	if f != nil && !f.endsSession() {
		s.route.TransactionLost()
		s.got.Status &^= wire.StatusInTrans | wire.StatusInTransReadOnly
		s.anchor = nil
		s.dropBroken()
	}
	return f
}

func (s *session) dropBroken() {
	if s.primary != nil && s.primary.broken != nil {
		s.drop(s.primary)
	}
	for i := len(s.others) - 1; i >= 0; i-- {
		if s.others[i].broken != nil {
			s.drop(s.others[i])
		}
	}
}

// finish keeps what the answer said about the session.
func (s *session) finish(w *work, c *serverConn) error {
	s.learned(c)
	if w.prep != nil {
		w.prep.on = nil
		if s.got.Status&wire.StatusCursorExists != 0 {
			w.prep.on = c
		}
	}
	wasOpen := s.route.InTransaction()
	s.route.Observe(w.st, w.d, s.got)
	s.last = c
	c.used = time.Now()
	s.p.metrics.answered[c.Server.Index&63].Add(1)
	if s.route.Pinned() != 0 && c != s.primary {
		s.anchor = c
	} else {
		s.anchor = nil
	}
	c.Keep(s.anchor == c || w.prep != nil && w.prep.on == c)
	if c == s.primary && !w.st.IsRead {
		s.place(w, c, wasOpen)
	}
	if held := s.route.Pinned() != 0; held != s.inTransaction.Load() {
		s.inTransaction.Store(held)
	}
	s.observed(w)
	if s.ending.Load() && s.route.Pinned() == 0 {
		return errDraining
	}
	return nil
}

// learned makes what session tracking reported the session's state.
func (s *session) learned(c *serverConn) {
	if s.learnt != s.state {
		s.state = s.learnt
		c.told = s.learnt
		s.textMode = textMode(s.state)
		s.route.Schema = s.state.schema
	}
}

var errDraining = errors.New("the proxy is shutting down")

// pinned is the connection that the session is pinned to, nil for none.
func (s *session) pinned() *serverConn {
	switch {
	case s.route.Pinned() == 0:
		return nil
	case s.anchor != nil:
		return s.anchor
	}
	return s.primary
}

// connect returns the connection on which w runs, with the session's state.
func (s *session) connect(w *work) (*serverConn, error) {
	c, err := s.choose(w)
	if err != nil {
		return nil, err
	}
	if w.wait && s.waitsAlone(c, w) {
		switch s.await(c, w) {
		case waitFailed:
			s.drop(c)
			fallthrough
		case waitLate:
			if w.interrupted {
				return nil, faultInterrupted()
			}
			return s.connect(w)
		}
	}
	if err := c.bring(s.state); err != nil {
		if c.broken == nil {
			return nil, err
		}
		if f := s.loss(c, err.Error()); f != nil {
			return nil, s.forget(f)
		}
		s.drop(c)
		if w.tries++; w.tries < maxTries {
			return s.connect(w)
		}
		return nil, faultNoServer(c.Server.Name, err)
	}
	return c, nil
}

func (s *session) choose(w *work) (c *serverConn, err error) {
	if w.on != nil {
		return w.on, nil
	}
	target := w.d.Target
	if target == router.Same || target == router.Local {
		if c := s.last; c != nil && s.usable(c) {
			c.Busy.Store(c == s.primary)
			return c, nil
		}
		target = router.Primary
		if now := s.p.cluster.Gate().Current(); now.Server == nil && !s.paused(now) {
			target = router.Replica
		}
	}
	if s.route.Pinned() != 0 && s.anchor != nil {
		return s.anchor, nil
	}
	if target == router.Replica {
		c, why := s.replica(w)
		if c == nil {
			c, why, err = s.readPrimary(w, why)
		}
		if c != nil || err != nil {
			return c, err
		}
		if c, err = s.writer(w); err == nil {
			s.p.reads.count(c.Server, why)
		}
		return c, err
	}
	return s.writer(w)
}

// usable tells whether an open connection may take another statement.
func (s *session) usable(c *serverConn) bool {
	if c.broken != nil {
		return false
	}
	if c == s.primary {
		now := s.p.cluster.Gate().Current()
		return c.Epoch == now.Epoch && now.Paused == nil
	}
	return c.settle() && s.p.cluster.Snapshot().Servers[c.Server.Index].Up
}

// replica returns a connection to a replica that has the session's writes. With
// none it says why the read goes to the primary.
func (s *session) replica(w *work) (*serverConn, router.Why) {
	w.wait = false
	if !s.demand(w) {
		return nil, router.WhyUnplaced
	}
	need := backend.Need{Position: w.want, Since: w.since, Server: w.d.Server(), MaxLag: w.d.MaxLag}
	if need.MaxLag == 0 {
		need.MaxLag = s.p.cfg.Reads.MaxLag
	}
	for _, c := range s.others {
		if c.broken == nil {
			need.Open |= 1 << (uint(c.Server.Index) & 63)
		}
	}
	now := backend.At(w.started)
	if w.tries > 0 || w.waited { // w.started is long ago
		now = backend.Now()
	}
	for range maxTries {
		need.Exclude = w.failed
		srv, why := s.p.reads.choose(&need, now)
		if srv == nil && why == router.WhyBehind {
			srv, why = s.waitFor(w, &need, now)
		}
		if srv == nil || srv.Role != config.RoleReplica {
			w.wait = false
			return nil, why
		}
		c, err := s.toReplica(srv)
		if err == nil {
			if !w.wait && !w.want.Empty() {
				s.p.fresh.counts[freshKnown].Add(1)
			}
			s.p.reads.count(srv, why)
			return c, why
		}
		s.log().Info("replica could not be reached", "server", srv.Name, "error", err)
		w.failed |= 1 << (uint(srv.Index) & 63)
		now = backend.Now()
	}
	w.wait = false
	return nil, router.WhyNoReplica
}

// toReplica returns the session's connection to srv, a new one where it has none.
func (s *session) toReplica(srv *backend.Server) (*serverConn, error) {
	if c := s.open(srv); c != nil {
		return c, nil
	}
	c, err := s.dial(srv, 0)
	if err == nil {
		s.others = append(s.others, c)
	}
	return c, err
}

// open returns the session's live connection to srv, nil for none.
func (s *session) open(srv *backend.Server) *serverConn {
	for _, c := range s.others {
		if c.Server == srv {
			if c.broken == nil && c.settle() && !(c.resting(restsLong) && c.sock.Stale()) {
				return c
			}
			s.drop(c)
			return nil
		}
	}
	return nil
}

// dialRetry is the pause before a writer that could not be reached is tried
// again; its probe may not have noticed yet.
const dialRetry = 100 * time.Millisecond

// writer returns the session's connection to the server that may take writes,
// waiting for one as configured.
func (s *session) writer(w *work) (*serverConn, error) {
	gate := s.p.cluster.Gate()
	for {
		now := gate.Current()
		if c := s.primary; c != nil && !s.paused(now) {
			if f := s.forget(s.checkPrimary(w, c, now)); f != nil {
				return nil, f
			}
			if s.primary != nil && s.occupy(c, now) {
				return c, nil
			}
			if s.primary != nil {
				continue
			}
		}
		retry := time.Duration(0)
		why := error(nil)
		if now.Server != nil {
			c, err := s.dial(now.Server, now.Epoch)
			if err == nil {
				c.Busy.Store(true)
				if gate.Admit(c.Conn, now.Epoch) {
					s.primary = c
					return c, nil
				}
				c.Close()
				continue
			}
			if my := (*mysql.MyError)(nil); errors.As(err, &my) && my.Code != 1040 && my.Code != 1053 {
				return nil, &Fault{my.Code, my.State, my.Message}
			}
			why, retry = err, dialRetry
		}
		if f := s.held(w, now, retry, why); f != nil {
			return nil, f
		}
	}
}

// paused tells whether the session's connection to the primary is whole, and
// must wait until the server's I/O is no longer frozen.
func (s *session) paused(now *backend.Writer) bool {
	c := s.primary
	return c != nil && now.Paused == c.Server && now.Epoch == c.Epoch && c.broken == nil
}

// occupy marks c busy for one statement, unless the writer has changed since
// now was read: then whoever changed it may not have seen the mark.
func (s *session) occupy(c *serverConn, now *backend.Writer) bool {
	c.Busy.Store(true)
	if s.p.cluster.Gate().Current() == now {
		return true
	}
	c.Busy.Store(s.route.InTransaction())
	return false
}

// held waits for a change of the writer.
func (s *session) held(w *work, now *backend.Writer, retry time.Duration, why error) *Fault {
	if w.waits.IsZero() {
		w.waits = time.Now().Add(s.p.cfg.Hold.Timeout)
	}
	f := s.p.hold.wait(s, now, len(w.request), w.waits, retry)
	if f != nil && why != nil && f.Code == 1290 {
		return faultNoServer(now.Server.Name, why)
	}
	return f
}

// checkPrimary closes the session's primary connection when it is of an older
// epoch or lost, and tells what the session lost with it.
func (s *session) checkPrimary(w *work, c *serverConn, now *backend.Writer) *Fault {
	cause := ""
	switch {
	case now.Leaving == c.Server && c.Epoch == now.Epoch && c.broken == nil && s.route.InTransaction():
		return nil // it may end, so that it need not be lost
	case now.Server == nil && c.broken == nil && s.p.cfg.Hold.Mode == "hold" && s.loss(c, "") == nil:
		cause = "nobody may take writes"
	case c.Epoch != now.Epoch || now.Server == nil:
		cause = "it may no longer take writes"
	case c.broken != nil:
		cause = s.causeOf(c)
	case (!w.st.IsRead || c.resting(restsLong)) && c.sock.Stale():
		cause = "the server closed it"
	default:
		return nil
	}
	f := s.loss(c, cause)
	if c.broken == nil {
		c.broken = errors.New(cause)
	}
	s.drop(c)
	return f
}

func (s *session) dial(srv *backend.Server, epoch uint64) (*serverConn, error) {
	c, err := s.p.dial(s.ctx, s, srv)
	if err != nil {
		return nil, err
	}
	c.Epoch = epoch
	return newServerConn(c, s.start), nil
}

// requestFor returns what is sent to c for w: the client's packet, with the
// server's number of a prepared statement.
func (s *session) requestFor(c *serverConn, w *work) ([]byte, error) {
	if w.prep == nil || w.kind == wire.AnswerPrepare {
		return w.request, nil
	}
	here, err := s.preparedOn(c, w.prep)
	if err != nil {
		return nil, err
	}
	request := s.withTypes(here, w.prep, w.request)
	binary.LittleEndian.PutUint32(request[wire.HeaderLen+1:], here.id)
	return request, nil
}
