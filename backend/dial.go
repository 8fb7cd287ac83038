package backend

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/pingcap/tidb/pkg/parser/charset"

	"signalbox/internal/ask"
)

// DialOptions are what a connection needs beside the server.
type DialOptions struct {
	User, Password, Schema string
	Capability             uint32 // wanted; CLIENT_… bits
	Collation              uint8  // id in the handshake, 0 for the library's default
	Attributes             map[string]string
	MariaDB                uint32 // wanted of MariaDB's extended capabilities
}

// Conn is an authenticated connection to a server, ready for raw packets: the
// server has nothing unread to say.
type Conn struct {
	NetConn    net.Conn
	Server     *Server
	ThreadID   uint32
	Capability uint32 // of those wanted, what was negotiated
	Extended   uint32 // MariaDB's extended capabilities, as agreed
	Version    string
	MariaDB    bool
	Epoch      uint64 // of the writer it was opened for; 0 for a replica's
	// Busy: a statement runs or a transaction is open. Its owner sets it before it
	// looks at the Gate, so that whoever closes the Gate first and looks at Busy
	// then misses no statement.
	Busy atomic.Bool

	running  atomic.Int64 // since when a statement runs, by Now; 0 for none
	answered bool         // it has begun to answer
	kept     atomic.Bool  // the session is pinned to it
	cut      atomic.Bool  // this proxy has closed it under its session
}

// wanted are the capabilities that DialOptions may ask for and the library can
// set.
var wanted = []uint32{mysql.CLIENT_FOUND_ROWS, mysql.CLIENT_IGNORE_SPACE, mysql.CLIENT_LOCAL_FILES, mysql.CLIENT_MULTI_STATEMENTS,
	mysql.CLIENT_MULTI_RESULTS, mysql.CLIENT_PS_MULTI_RESULTS, mysql.CLIENT_SESSION_TRACK, mysql.CLIENT_DEPRECATE_EOF}

// Dial connects and authenticates, and switches on session tracking. ctx bounds
// all of it. A refusal by the server is a *mysql.MyError in the chain. While it
// lasts it counts as a statement that runs on the server. The connection is
// given back with Close.
func Dial(ctx context.Context, srv *Server, o DialOptions) (*Conn, error) {
	srv.Load.Begin(Now())
	defer srv.Load.End(false)
	c, _, err := dial(ctx, srv, o)
	if err != nil {
		if !answers(err) && ctx.Err() != context.Canceled {
			srv.fails()
		}
		return nil, err
	}
	srv.enter(c)
	return c, nil
}

func dial(ctx context.Context, srv *Server, o DialOptions) (c *Conn, my *client.Conn, err error) {
	var nc net.Conn
	var extended *extending
	defer func() {
		if r := recover(); r != nil { // the library slices a greeting unguarded
			err = fmt.Errorf("handshake with %s: %v", srv.Name, r)
		}
		if err != nil && nc != nil {
			_ = nc.Close()
		}
	}()
	dialer := func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		nc = conn
		if t, ok := ctx.Deadline(); ok { // the library's handshake has none of its own
			_ = conn.SetDeadline(t)
		}
		extended = &extending{Conn: conn, wanted: o.MariaDB}
		return extended, nil
	}
	my, err = client.ConnectWithDialer(ctx, srv.Network, srv.Address, o.User, o.Password, o.Schema, dialer, o.configure)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", srv.Name, err)
	}
	c = &Conn{NetConn: nc, Server: srv, ThreadID: my.GetConnectionID(), Version: my.GetServerVersion()}
	c.MariaDB = ask.MariaDB(c.Version)
	c.Extended = extended.agreed
	c.Capability = extended.capability & o.Capability
	if c.Capability&mysql.CLIENT_SESSION_TRACK != 0 {
		if _, err = my.Execute(trackingSetup(c.MariaDB)); err != nil {
			return nil, nil, fmt.Errorf("switch on session tracking on %s: %w", srv.Name, err)
		}
	}
	if err = nc.SetDeadline(time.Time{}); err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", srv.Name, err)
	}
	return c, my, nil
}

// trackingSetup makes the server report what a statement changed. MariaDB
// reports the position of a write as the variable last_gtid.
func trackingSetup(mariaDB bool) string {
	setup := "SET SESSION session_track_system_variables='*', session_track_schema=1, session_track_state_change=1"
	if !mariaDB {
		setup += ", session_track_gtids=OWN_GTID"
	}
	return setup
}

func (o *DialOptions) configure(c *client.Conn) error {
	c.UnsetCapability(mysql.CLIENT_QUERY_ATTRIBUTES) // it changes the layout of COM_QUERY
	for _, bit := range wanted {
		if o.Capability&bit == 0 {
			c.UnsetCapability(bit)
		} else if bit == mysql.CLIENT_DEPRECATE_EOF {
			continue // on unless it is unset
		} else if err := c.SetCapability(bit); err != nil {
			return fmt.Errorf("capability %#x: %w", bit, err)
		}
	}
	if o.Collation != 0 {
		if col, err := charset.GetCollationByID(int(o.Collation)); err == nil {
			if err := c.SetCollation(col.Name); err != nil {
				return err
			}
		}
	}
	if o.Attributes != nil {
		c.SetAttributes(o.Attributes)
	}
	return nil
}
