package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"signalbox/backend"
	"signalbox/config"
	"signalbox/internal/wire"
)

// asker asks the primary for its position, for all sessions: one question at a
// time, and its answer serves everybody who wanted to know before it was sent.
// Who comes later waits for the next one, so that an answer is never older than
// the wish for it.
type asker struct {
	question func(context.Context) (backend.Position, error)

	mu   sync.Mutex // guards what follows
	next *round     // of those who came since the last question was sent
	busy bool       // somebody asks, or is about to
}

// round is one question.
type round struct {
	lead     chan struct{} // whoever takes from it asks, for all
	done     chan struct{} // closed when what follows is set
	position backend.Position
	err      error
}

// ask returns a position that the primary had at some time after the call. It
// is shared: it must not be raised.
func (a *asker) ask(ctx context.Context) (backend.Position, error) {
	a.mu.Lock()
	if a.next == nil {
		a.next = &round{lead: make(chan struct{}, 1), done: make(chan struct{})}
	}
	r := a.next
	if !a.busy {
		a.busy = true
		r.lead <- struct{}{}
	}
	a.mu.Unlock()
	select {
	case <-r.done:
	case <-r.lead:
		a.put(ctx, r)
	case <-ctx.Done():
		return backend.Position{}, ctx.Err()
	}
	return r.position, r.err
}

// put asks the question of r, and hands the lead to those who came meanwhile.
func (a *asker) put(ctx context.Context, r *round) {
	a.mu.Lock()
	a.next = nil
	a.mu.Unlock()
	r.position, r.err = a.question(ctx)
	close(r.done)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy = a.next != nil; a.busy {
		a.next.lead <- struct{}{}
	}
}

var errNoWriter = errors.New("no server may take writes now")

// writerAsker puts the question to the server that may take writes, over a
// connection that it keeps. One goroutine at a time uses it.
type writerAsker struct {
	cfg     *config.Config
	cluster *backend.Cluster

	conn   *serverConn
	epoch  uint64
	answer wire.Scalar
}

// position asks. An answer counts only if the server may still take writes when
// it is there: as long as it may, no other has written.
func (a *writerAsker) position(ctx context.Context) (p backend.Position, err error) {
	now := a.cluster.Gate().Current()
	if now.Server == nil {
		return p, errNoWriter
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Limits.ConnectTimeout)
	defer cancel()
	if a.conn == nil || a.conn.Server != now.Server || a.epoch != now.Epoch {
		if err := a.connect(ctx, now); err != nil {
			return p, err
		}
	}
	sql := "SELECT @@global.gtid_executed"
	if a.conn.MariaDB {
		sql = "SELECT @@global.gtid_binlog_pos"
	}
	deadline, _ := ctx.Deadline()
	_ = a.conn.NetConn.SetDeadline(deadline)
	if err = a.conn.scalar(sql, &a.answer); err == nil && (a.answer.Code != 0 || a.answer.Rows != 1 || a.answer.Null) {
		err = fmt.Errorf("%s of %s: error %d", sql, now.Server.Name, a.answer.Code)
	}
	if err != nil {
		a.close()
		return p, fmt.Errorf("ask %s for its position: %w", now.Server.Name, err)
	}
	if then := a.cluster.Gate().Current(); then.Server != now.Server || then.Epoch != now.Epoch {
		return p, errNoWriter
	}
	return backend.ParsePosition(string(a.answer.Value))
}

// connect dials on a goroutine of its own, see Proxy.dial.
func (a *writerAsker) connect(ctx context.Context, w *backend.Writer) error {
	a.close()
	var conn *backend.Conn
	var err error
	var dialled sync.WaitGroup
	dialled.Go(func() {
		conn, err = backend.Dial(ctx, w.Server, backend.DialOptions{User: a.cfg.Health.User, Password: a.cfg.Health.Password.Reveal(),
			Attributes: map[string]string{"program_name": "signalbox position"}})
	})
	dialled.Wait()
	if err != nil {
		return err
	}
	a.conn, a.epoch = newServerConn(conn, nil), w.Epoch
	return nil
}

func (a *writerAsker) close() {
	if a.conn != nil {
		_ = a.conn.NetConn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		_ = a.conn.sock.Write([]byte{1, 0, 0, 0, wire.ComQuit})
		a.conn.Close()
		a.conn = nil
	}
}

// scalar asks for one value.
func (c *serverConn) scalar(sql string, a *wire.Scalar) error {
	request, _ := wire.AppendPacket(nil, 0, append([]byte{wire.ComQuery}, sql...))
	buf := wire.GetBuffer()
	defer buf.Free()
	a.DeprecateEOF = c.answer.DeprecateEOF
	a.Reset()
	n, err := c.sock.Exchange(request, buf[:])
	if err != nil {
		return err
	}
	_, _, err = c.readScalar(a, buf[:], n)
	return err
}

// readScalar reads the answer of which b[:n] has come. What has come after it is
// at the front of the buffer that it returns, rest bytes.
func (c *serverConn) readScalar(a *wire.Scalar, b []byte, n int) (buf []byte, rest int, err error) {
	for {
		used, done, err := a.Scan(b[:n])
		n = copy(b, b[used:n])
		if done || err != nil {
			return b, n, err
		}
		if n == len(b) {
			b = append(b, make([]byte, len(b))...)
		}
		m, err := c.sock.Read(b[n:])
		if err != nil {
			return b, 0, err
		}
		n += m
	}
}
