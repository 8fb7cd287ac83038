package proxy

import (
	"context"
	"fmt"

	"signalbox/internal/wire"
)

// kill answers KILL and COM_PROCESS_KILL. Ids are the proxy's own: a query is
// killed on the server connection that belongs to the session named, which no
// other client ever uses.
func (s *session) kill(id uint64, queryOnly bool) error {
	victim := s.p.session(id)
	if victim == nil {
		return s.fault(faultNoSuchThread(id))
	}
	if victim.client.User.Name != s.client.User.Name {
		return s.fault(faultNotOwner(id))
	}
	if c := victim.running.Load(); c != nil {
		if err := s.killOn(c); err != nil {
			s.log().Info("query could not be killed", "victim", id, "server", c.Server.Name, "error", err)
			return s.fault(&Fault{1105, "HY000", fmt.Sprintf("signalbox: cannot kill the query of %d on %s: %v", id, c.Server.Name, err)})
		}
	}
	if queryOnly {
		return s.ok()
	}
	if victim == s {
		_ = s.fault(&Fault{1317, "70100", "Query execution was interrupted"})
		return errQuit
	}
	victim.stop()
	return s.ok()
}

// killOn kills the query that runs on c, over a connection of its own.
func (s *session) killOn(c *serverConn) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.p.cfg.Limits.ConnectTimeout)
	defer cancel()
	conn, err := s.p.dial(ctx, s, c.Server)
	if err != nil {
		return err
	}
	defer conn.Close()
	k := newServerConn(conn, s.start)
	sql := fmt.Sprintf("KILL QUERY %d", c.ThreadID)
	return k.command(wire.AnswerQuery, wire.ComQuery, []byte(sql), nil)
}
