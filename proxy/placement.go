package proxy

import (
	"signalbox/internal/wire"
	"signalbox/router"
)

// placement is what is known, after a statement, of where its writes are in the
// binary log.
type placement uint8

const (
	placedBefore  placement = iota // it wrote nothing, or nothing is committed yet
	placedReport                   // where the answer says
	placedUnknown                  // somewhere; the primary's position contains it
	placedNowhere                  // not in the binary log: no replica will have it
)

// commitFacts are what placement goes by.
type commitFacts struct {
	reported bool // the answer brought a position
	failed   bool // it ended with an error, which brings none
	silent   bool // it ended with an EOF, which brings none
	wasOpen  bool // a transaction was open before it
	open     bool // and is after it, by the last OK or EOF
	changed  bool // it changed rows for certain
	places   bool // the server reports positions
}

// placementOf judges a statement that ran on the primary. Where it is not
// certain that the session's writes are known, they are not: an OK brings the
// position of what was committed since the OK before it, but an error or an EOF
// brings none, and what they end may have committed something.
func placementOf(st *router.Statement, f commitFacts) placement {
	switch {
	case st.IsRead:
		return placedBefore
	case !f.places:
		if st.IsWrite {
			return placedUnknown
		}
		return placedBefore
	case f.failed && mayCommit(st, f.wasOpen):
		return placedUnknown
	case f.silent && st.IsWrite && (st.Multi || !f.wasOpen || !f.open):
		return placedUnknown
	case f.reported:
		return placedReport
	case f.changed && !f.failed && !f.open && dataChange(st.Kind):
		return placedNowhere
	}
	return placedBefore
}

// mayCommit tells whether a statement that failed may have committed something:
// what was open before it, or a part of its own.
func mayCommit(st *router.Statement, wasOpen bool) bool {
	if st.Multi {
		return true
	}
	switch st.Kind {
	case router.KindInsert, router.KindReplace, router.KindUpdate, router.KindDelete, router.KindLoad, router.KindSelect:
		return st.IsWrite && !wasOpen // rows in tables without transactions, functions that write
	case router.KindShow, router.KindUse, router.KindExplain, router.KindSavepoint, router.KindKill, router.KindDiagnostics,
		router.KindEmpty, router.KindHandler:
		return false
	}
	return st.IsWrite || wasOpen // DDL and its like commit first and fail then
}

func dataChange(k router.Kind) bool {
	switch k {
	case router.KindInsert, router.KindReplace, router.KindUpdate, router.KindDelete, router.KindLoad:
		return true
	}
	return false
}

// changedRows tells whether an OK proves that rows were changed. With
// CLIENT_FOUND_ROWS a row that was only looked at counts as affected.
func changedRows(k router.Kind, affected int64, foundRows bool) bool {
	return affected > 0 && (!foundRows || k == router.KindDelete || k == router.KindReplace)
}

// place keeps where the session's last write is. wasOpen is whether a
// transaction was open before it.
func (s *session) place(w *work, c *serverConn, wasOpen bool) {
	if w.kind == wire.AnswerPrepare {
		return
	}
	f := commitFacts{reported: len(s.gtid) > 0, failed: s.got.Failed, silent: s.silent, wasOpen: wasOpen, places: s.places(c),
		open: s.got.Status&wire.StatusInTrans != 0}
	f.changed = changedRows(w.st.Kind, s.affected, s.client.Capability&wire.ClientFoundRows != 0) &&
		s.route.Pinned()&router.PinTemporaryTable == 0
	verdict := placementOf(w.st, f)
	if f.reported {
		if err := s.trail.wrote(s.gtid, w.started); err != nil {
			s.log().Warn("server reports a position that cannot be read", "server", c.Server.Name, "position", string(s.gtid), "error", err)
			verdict = placedUnknown
		}
	}
	switch verdict {
	case placedUnknown:
		s.trail.unknown = true
	case placedNowhere:
		if !s.trail.onPrimary {
			s.log().Info("a write has no position: the session reads from the primary from now on",
				"server", c.Server.Name, "digest", w.st.ID)
		}
		s.trail.onPrimary = true
	}
}

// places tells whether writes on the server report their positions.
func (s *session) places(c *serverConn) bool {
	st := &s.p.cluster.Snapshot().Servers[c.Server.Index]
	return c.answer.Tracking && !st.Position.Empty()
}
