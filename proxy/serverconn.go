package proxy

import (
	"fmt"
	"time"

	"signalbox/backend"
	"signalbox/internal/wire"
)

// serverConn is a session's connection to one server.
type serverConn struct {
	*backend.Conn
	sock   *wire.Socket
	answer wire.Answer
	told   *state // the session state that the connection has
	broken error  // set once an exchange failed; the connection is not used again

	used time.Time // when its last statement ended

	limited bool     // it has a read deadline, see limitAnswer
	owes    bool     // an answer that nobody wants is not yet read, see forgo
	owed    []byte   // what has come of it and is not yet read over
	scratch [24]byte // for the value of a wait

	prepared map[uint32]*preparedHere // by the client's statement id
}

// preparedHere is a prepared statement on one server connection.
type preparedHere struct {
	id        uint32 // the server's
	typesSent bool   // the server knows the parameter types of statement.types
}

func newServerConn(c *backend.Conn, told *state) *serverConn {
	sc := &serverConn{Conn: c, sock: wire.NewSocket(c.NetConn), told: told}
	sc.answer.DeprecateEOF = c.Capability&wire.ClientDeprecateEOF != 0
	sc.answer.Tracking = c.Capability&wire.ClientSessionTrack != 0
	return sc
}

// command runs a command of the proxy's own whose answer no client sees. each,
// when not nil, is called for every packet that matters. The server's refusal
// is a *Fault; any other error breaks the connection.
func (c *serverConn) command(kind wire.AnswerKind, cmd byte, arg []byte, each func(packet []byte)) error {
	payload := append([]byte{cmd}, arg...)
	request, _ := wire.AppendPacket(make([]byte, 0, len(payload)+wire.HeaderLen), 0, payload)
	buf := wire.GetBuffer()
	defer buf.Free()
	c.answer.Reset(kind)
	c.Begin()
	defer c.End()
	n, err := c.sock.Exchange(request, buf[:])
	if err != nil {
		c.Lost()
		c.broken = err
		return err
	}
	c.Answer()
	var fault *Fault
	b := buf[:]
	for {
		used, ferr := c.consume(b[:n], each)
		if ferr != nil {
			fault = ferr
		}
		if c.broken != nil {
			return c.broken
		}
		if c.answer.Done() {
			break
		}
		n = copy(b, b[used:n])
		if n == len(b) {
			b = append(b, make([]byte, len(b))...)
		}
		m, err := c.sock.Read(b[n:])
		if err != nil {
			c.broken = err
			return err
		}
		n += m
	}
	if fault != nil {
		return fault
	}
	return nil
}

func (c *serverConn) consume(b []byte, each func([]byte)) (used int, fault *Fault) {
	for {
		n, size, stop, err := c.answer.Scan(b[used:])
		used += n
		if err != nil {
			c.broken = fmt.Errorf("answer of %s: %w", c.Server.Name, err)
		}
		if !stop || err != nil {
			return used, fault
		}
		packet := b[used : used+size]
		used += size
		if c.answer.Packet == wire.PacketErr {
			fault = faultOf(&c.answer.Result)
		}
		if each != nil {
			each(packet)
		}
	}
}

func faultOf(r *wire.Result) *Fault {
	f := &Fault{Code: r.Code, SQLState: "HY000", Message: string(r.Message)}
	if r.SQLState != nil {
		f.SQLState = string(r.SQLState)
	}
	return f
}

// bring makes the connection's state the session's. Equal states are the same
// pointer, so that nearly always this is one comparison.
func (c *serverConn) bring(to *state) error {
	if c.told == to {
		return nil
	}
	sql, schema := c.told.catchUp(to)
	if sql != "" {
		if err := c.command(wire.AnswerQuery, wire.ComQuery, []byte(sql), nil); err != nil {
			return fmt.Errorf("bring session variables to %s: %w", c.Server.Name, err)
		}
	}
	if schema != "" {
		if err := c.command(wire.AnswerQuery, wire.ComInitDB, []byte(schema), nil); err != nil {
			return fmt.Errorf("change to schema %s on %s: %w", schema, c.Server.Name, err)
		}
	}
	c.told = to
	return nil
}

// restsLong is how long a connection must have rested before it is looked at
// for whether the server still has it. Such a look is a system call.
const restsLong = time.Second

// resting tells whether the connection has been unused for longer than d.
func (c *serverConn) resting(d time.Duration) bool { return time.Since(c.used) > d }
