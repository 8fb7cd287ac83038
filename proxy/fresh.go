package proxy

import (
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"signalbox/backend"
	"signalbox/config"
	"signalbox/internal/wire"
	"signalbox/router"
)

// trail is where a session's writes are in the primary's binary log: what its
// reads must find. It outlives COM_RESET_CONNECTION and COM_CHANGE_USER, as
// connections in an application's pool are reset between requests of one user.
type trail struct {
	at        backend.Position // shares nothing with others: it is raised in place
	since     time.Duration    // when the last write in it began, by backend.Now
	unknown   bool             // something is committed that at may not contain
	onPrimary bool             // something was written that no replica will have
}

// wrote adds the position of a write that began at started.
func (t *trail) wrote(position []byte, started time.Time) error {
	if err := t.at.Raise(position); err != nil {
		return err
	}
	t.since = backend.At(started)
	return nil
}

// asked adds a position of the primary from after the last write.
func (t *trail) asked(p *backend.Position) {
	t.unknown = false
	if t.at = p.Merge(t.at); t.at.Empty() {
		t.onPrimary = true // its server gives no positions
	}
}

// mostParts is of how many replication domains or servers a session's position
// may speak; with more it reads from the primary.
const mostParts = 4 * maxParts

// after is the hint after=TOKEN: from now on the session has seen what the
// token stands for. What is no token is obeyed as if it asked for everything.
func (s *session) after(w *work, sql []byte) {
	p, onPrimary, err := parseToken(router.After(sql, s.mode()))
	if err != nil {
		s.p.fresh.counts[freshBadToken].Add(1)
		if w.d.Target == router.Replica {
			w.d.Target, w.d.Reason = router.Primary, router.ReasonHint
		}
		return
	}
	if !p.Empty() && !s.trail.at.Contains(&p) {
		s.trail.at = s.trail.at.Merge(p)
	}
	s.trail.onPrimary = s.trail.onPrimary || onPrimary || s.trail.at.Parts() > mostParts
}

// freshHow is how it was made sure that a read finds what it must.
type freshHow uint8

const (
	freshAny      freshHow = iota // nothing is asked for
	freshKnown                    // the replica was known to have it
	freshWaited                   // the replica was waited for
	freshLate                     // waited for in vain
	freshAsked                    // the primary was asked for its position first
	freshBadToken                 // after= with what is no token

	freshHows
)

var freshNames = [freshHows]string{"any", "known", "waited", "late", "asked", "bad-token"}

// freshness is the proxy's part of consistency that all sessions share.
type freshness struct {
	asker  asker
	writer writerAsker
	counts [freshHows]atomic.Uint64
	waits  atomic.Int64 // nanoseconds spent in waits that were not in vain
}

func newFreshness(cfg *config.Config, cluster *backend.Cluster) *freshness {
	f := &freshness{writer: writerAsker{cfg: cfg, cluster: cluster}}
	f.asker.question = f.writer.position
	return f
}

// consistencyOf is the level of a user's reads.
func (p *Proxy) consistencyOf(u *config.User) router.Consistency {
	return router.ConsistencyOf(p.cfg.ConsistencyOf(u))
}

// Freshness is how many reads were made sure of in which way.
func (p *Proxy) Freshness() map[string]uint64 {
	all := make(map[string]uint64, freshHows)
	for how, name := range freshNames {
		all[name] = p.fresh.counts[how].Load()
	}
	return all
}

// demand sets what w must find on a replica, asking the primary where that has
// to be. It returns false when only the primary will do.
func (s *session) demand(w *work) bool {
	switch {
	case w.demanded:
		return true
	case w.d.Consistency == router.ConsistencyEventual:
		s.p.fresh.counts[freshAny].Add(1)
	case s.trail.onPrimary:
		return false
	case w.d.Consistency == router.ConsistencyGlobal || s.trail.unknown:
		p, err := s.p.fresh.asker.ask(s.ctx)
		if err != nil {
			return false
		}
		s.p.fresh.counts[freshAsked].Add(1)
		if s.trail.unknown {
			s.trail.asked(&p)
		}
		if w.want = p; s.trail.onPrimary || p.Empty() {
			return false
		}
	default:
		w.want, w.since = s.trail.at, s.trail.since
		if w.want.Empty() {
			s.p.fresh.counts[freshAny].Add(1)
		}
	}
	w.demanded = true
	return true
}

// waitFor looks for a replica on which it is worth waiting for what w must find.
// The wait then goes before the statement.
func (s *session) waitFor(w *work, need *backend.Need, now time.Duration) (*backend.Server, router.Why) {
	if need.Wait != 0 || w.late {
		return nil, router.WhyBehind
	}
	need.Wait, need.Now = s.p.cfg.Reads.Wait, now
	srv, why := s.p.reads.choose(need, now)
	if srv == nil || srv.Role == config.RoleReplica && !srv.Fresh.Turn(now) {
		return nil, router.WhyBehind
	}
	w.wait = true
	return srv, why
}

// waitsAlone tells whether something else must be said to c before the
// statement: that too may need what is waited for, such as a table to prepare
// a statement on or a schema to change to.
func (s *session) waitsAlone(c *serverConn, w *work) bool {
	return c.told != s.state || w.kind == wire.AnswerPrepare || w.prep != nil && c.prepared[w.prep.id] == nil ||
		len(w.request) > wire.BufferLen/2
}

// waitSlack is how much longer than reads.wait an answer to a wait may take,
// before the server is taken to be stalled.
const waitSlack = 500 * time.Millisecond

// appendWait appends the packet that has a server wait for a position. LIMIT
// overrules the session's sql_select_limit.
func appendWait(b []byte, mariaDB bool, p *backend.Position, wait time.Duration) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, wire.ComQuery)
	if mariaDB {
		b = append(b, "SELECT MASTER_GTID_WAIT('"...)
	} else {
		b = append(b, "SELECT WAIT_FOR_EXECUTED_GTID_SET('"...)
	}
	b = append(p.Append(b), "',"...)
	b = appendSeconds(b, wait)
	b = append(b, ") LIMIT 1"...)
	wire.PutHeader(b[start:], len(b)-start-wire.HeaderLen, 0)
	return b
}

// appendSeconds appends d in seconds, at least a millisecond.
func appendSeconds(b []byte, d time.Duration) []byte {
	ms := max(d.Milliseconds(), 1)
	b = strconv.AppendInt(b, ms/1000, 10)
	return append(b, '.', byte('0'+ms/100%10), byte('0'+ms/10%10), byte('0'+ms%10))
}

// exchangeAfter has c wait for what w must find and then run the request, both
// written at once, and relays the answer to the request alone.
//
// The session's state on the server is as without the wait: it is a statement
// that changes nothing, and warnings, ROW_COUNT and FOUND_ROWS are set anew by
// the one that follows. It is never sent within a transaction or between SET
// TRANSACTION and the transaction, because the session is pinned then.
func (s *session) exchangeAfter(c *serverConn, w *work, request []byte, mayDecline bool) outcome {
	buf := wire.GetBuffer()
	defer buf.Free()
	both := append(appendWait(buf[:0], c.MariaDB, &w.want, s.p.cfg.Reads.Wait), request...)
	s.begin(c, w.kind)
	b, n, verdict := s.sendWait(c, w, both, buf[:])
	switch verdict {
	case waitFailed:
		return lostEarly
	case waitLate:
		return s.forgo(c, b[:n])
	}
	c.Begin()
	var err error
	if n == 0 {
		s.limitAnswer(c, mayDecline)
		if n, err = c.sock.Read(b); err != nil {
			c.Lost()
			c.broken = err
			return lostEarly
		}
	}
	return s.answered(c, b, n, mayDecline)
}

// await has c wait for what w must find, with nothing after it.
func (s *session) await(c *serverConn, w *work) waitVerdict {
	buf := wire.GetBuffer()
	defer buf.Free()
	_, n, verdict := s.sendWait(c, w, appendWait(buf[:0], c.MariaDB, &w.want, s.p.cfg.Reads.Wait), buf[:])
	if n > 0 && verdict != waitFailed {
		c.broken = errUnasked
		return waitFailed
	}
	return verdict
}

// waitVerdict is how a wait ended.
type waitVerdict uint8

const (
	waitOver   waitVerdict = iota // the replica has it
	waitLate                      // it has not, or did not say
	waitFailed                    // the connection is lost
)

// sendWait writes a request that begins with a wait and reads the answer to
// that. What has come of the next answer is at the front of the buffer that it
// returns.
func (s *session) sendWait(c *serverConn, w *work, request, buf []byte) (b []byte, rest int, v waitVerdict) {
	w.wait = false
	began := backend.Now()
	_ = c.NetConn.SetReadDeadline(time.Now().Add(s.p.cfg.Reads.Wait + waitSlack))
	c.Begin()
	s.running.Store(c)
	defer s.running.Store(nil)
	a := wire.Scalar{DeprecateEOF: c.answer.DeprecateEOF, Value: c.scratch[:0]}
	a.Reset()
	n, err := c.sock.Exchange(request, buf)
	if err == nil {
		buf, n, err = c.readScalar(&a, buf, n)
	}
	now := backend.Now()
	if err != nil {
		w.late = true
		c.Server.Fresh.Late(now)
		s.p.fresh.counts[freshLate].Add(1)
		c.Lost()
		c.broken = err
		return buf, 0, waitFailed
	}
	c.Answer()
	_ = c.NetConn.SetReadDeadline(time.Time{})
	if a.Code == 0 && a.Rows == 1 && !a.Null && string(a.Value) == "0" {
		c.Server.Fresh.Learn(&w.want, now)
		s.p.fresh.counts[freshWaited].Add(1)
		s.p.fresh.waits.Add(int64(now - began))
		return buf, n, waitOver
	}
	w.late, w.interrupted = true, a.Code == erInterrupted
	c.Server.Fresh.Late(now)
	s.p.fresh.counts[freshLate].Add(1)
	c.End()
	return buf, n, waitLate
}

var errUnasked = errors.New("the server said something that it was not asked")

// erInterrupted is ER_QUERY_INTERRUPTED: KILL QUERY.
const erInterrupted = 1317

// forgo leaves an answer to a read unread that came too late to be believed. b
// is what has come of it; the rest is thrown away before c is used again, so
// that the client need not wait for it.
func (s *session) forgo(c *serverConn, b []byte) outcome {
	used, _ := c.consume(b, nil)
	if c.broken != nil {
		return lostEarly
	}
	if !c.answer.Done() {
		c.owed = append(make([]byte, 0, len(b)-used), b[used:]...)
		c.owes = true
	}
	return tooLate
}

// settle throws away what is left of an answer that nobody wants. It does not
// wait: false means that the server has not finished it.
func (c *serverConn) settle() bool {
	if !c.owes {
		return true
	}
	buf := wire.GetBuffer()
	defer buf.Free()
	n := copy(buf[:], c.owed)
	for {
		m, err := c.sock.ReadNow(buf[n:])
		if err != nil {
			if err != wire.ErrEmpty {
				c.broken = err
			}
			c.owed = append(c.owed[:0], buf[:n]...)
			return false
		}
		used, _ := c.consume(buf[:n+m], nil)
		if c.broken != nil {
			return false
		}
		if n = copy(buf[:], buf[used:n+m]); c.answer.Done() {
			c.owes, c.owed = false, nil
			return true
		}
		if n == len(buf) {
			return false // a packet that does not fit: it is not worth it
		}
	}
}
