// Package ask puts questions to a database server over one connection that it
// keeps, for probes and checks. It has no question of its own and judges no
// answer.
package ask

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
)

// Asker asks one server. Its methods are for one goroutine; the zero value of
// what is not exported is one without a connection.
type Asker struct {
	Network, Address string // tcp or unix
	User, Password   string
	Program          string // program_name of the session, for who looks at the server

	conn *client.Conn
	nc   net.Conn
}

// Connected tells whether a connection is kept.
func (a *Asker) Connected() bool { return a.conn != nil }

// Do has questions put, over a new connection where none is kept. It ends with
// ctx, at its deadline at the latest. After an error, of questions or its own, the
// connection is closed. What a server sends can make the library panic; that is
// an error too.
func (a *Asker) Do(ctx context.Context, questions func(*client.Conn) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("what %s sends makes no sense: %v", a.Address, r)
		}
		if err != nil {
			a.Close()
		}
	}()
	if a.conn == nil {
		if err := a.connect(ctx); err != nil {
			return err
		}
	}
	a.bound(ctx)
	defer Interrupt(ctx, a.nc)()
	return questions(a.conn)
}

// Interrupt has reads and writes on nc fail as soon as ctx ends, until the
// function that it returns is called. After that nothing touches nc any more: it
// may be closed, or get another deadline.
func Interrupt(ctx context.Context, nc net.Conn) (over func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = nc.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

func (a *Asker) connect(ctx context.Context) error {
	dialer := func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		nc, err := d.DialContext(ctx, network, address)
		if err == nil {
			a.nc = nc
			a.bound(ctx) // the library's handshake knows no context
		}
		return nc, err
	}
	conn, err := client.ConnectWithDialer(ctx, a.Network, a.Address, a.User, a.Password, "", dialer, func(c *client.Conn) error {
		c.SetAttributes(map[string]string{"program_name": a.Program})
		return nil
	})
	if err == nil {
		a.conn = conn
	}
	return err
}

// bound makes the connection's deadline that of ctx, or none.
func (a *Asker) bound(ctx context.Context) {
	t, _ := ctx.Deadline()
	_ = a.nc.SetDeadline(t)
}

// farewell is how long saying goodbye may take.
const farewell = 100 * time.Millisecond

// Close says goodbye, so that the server counts no aborted connection. The Asker
// can be used again.
func (a *Asker) Close() {
	if a.conn != nil {
		_ = a.nc.SetDeadline(time.Now().Add(farewell))
		_ = a.conn.Quit()
	}
	if a.nc != nil {
		_ = a.nc.Close()
	}
	a.conn, a.nc = nil, nil
}

// Cell is a copy of a value of an answer's first row, empty for none: the
// library's strings lie in a buffer that it uses again.
func Cell(r *mysql.Resultset, column int) string {
	v, _ := r.GetString(0, column)
	return strings.Clone(v)
}

// MariaDB tells whether a server of this version is MariaDB.
func MariaDB(version string) bool { return strings.Contains(strings.ToLower(version), "mariadb") }
