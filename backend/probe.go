package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"signalbox/config"
)

// probe asks one server, over a connection that it keeps.
type probe struct {
	server *Server
	cfg    config.Health
	conn   *client.Conn
	nc     net.Conn
	query  string
}

// run takes one sample within cfg.Timeout.
func (p *probe) run(ctx context.Context) (s sample) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			p.close()
			s = sample{reason: fmt.Sprintf("probe: %v", r)}
		}
	}()
	begin := time.Now()
	err := p.connect(ctx)
	if err == nil {
		s.status, err = p.ask(ctx)
	}
	s.status.LastProbe, s.status.Latency = time.Now(), time.Since(begin)
	if err == nil {
		s.ok = true
		return s
	}
	p.close()
	s.refused = errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
	s.mute = !s.refused && !answers(err)
	s.reason = reason(err)
	return s
}

// answers tells whether the server said something, if only an error.
func answers(err error) bool {
	var my *mysql.MyError
	var said *saidError
	return errors.As(err, &my) || errors.As(err, &said)
}

// saidError is a fault that the server's own words showed.
type saidError struct{ text string }

// Error is the fault.
func (e *saidError) Error() string { return e.text }

func reason(err error) string {
	var my *mysql.MyError
	switch {
	case errors.As(err, &my) && my.Code == 1045:
		return "the probe's account is refused: create health.user on the server"
	case errors.As(err, &my):
		return my.Message
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there (connection refused)"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, net.ErrClosed):
		return "no answer in time"
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}

func (p *probe) connect(ctx context.Context) error {
	if p.conn != nil {
		return nil
	}
	dialer := func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		nc, err := d.DialContext(ctx, network, address)
		if err == nil {
			t, _ := ctx.Deadline()
			_ = nc.SetDeadline(t)
			p.nc = nc
		}
		return nc, err
	}
	conn, err := client.ConnectWithDialer(ctx, p.server.Network, p.server.Address, p.cfg.User, p.cfg.Password.Reveal(), "", dialer,
		func(c *client.Conn) error {
			c.SetAttributes(map[string]string{"program_name": "signalbox probe"})
			return nil
		})
	if err != nil {
		return err
	}
	p.conn = conn
	p.query = "SELECT @@global.read_only, @@server_id, @@version, @@global.gtid_executed, @@hostname, @@server_uuid, @@global.max_connections"
	if isMariaDB(conn.GetServerVersion()) {
		position := "@@global.gtid_binlog_pos"
		if p.server.Role == config.RoleReplica { // what came from the writer, without its own writes
			position = "@@global.gtid_slave_pos"
		}
		p.query = "SELECT @@global.read_only, @@server_id, @@version, " + position + ", @@hostname, '', @@global.max_connections"
	}
	return nil
}

func isMariaDB(version string) bool { return strings.Contains(strings.ToLower(version), "mariadb") }

// ask runs the probe's queries.
func (p *probe) ask(ctx context.Context) (st Status, err error) {
	t, _ := ctx.Deadline()
	_ = p.nc.SetDeadline(t)
	stop := context.AfterFunc(ctx, func() { _ = p.nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	st.Free = -1
	asked := time.Now()
	r, err := p.conn.Execute(p.query)
	if err != nil {
		return st, err
	}
	defer r.Close()
	st.asked, st.answered = At(asked), time.Since(asked)
	text := func(i int) string { return cell(r.Resultset, i) }
	st.ReadOnly = text(0) != "0" && !strings.EqualFold(text(0), "OFF")
	id, _ := strconv.ParseUint(text(1), 10, 32)
	st.ServerID, st.Version = uint32(id), text(2)
	st.Hostname, st.UUID = text(4), text(5)
	st.MariaDB = isMariaDB(st.Version)
	if st.Position, err = ParsePosition(text(3)); err != nil {
		return st, err
	}
	if most, err := strconv.Atoi(text(6)); err == nil {
		st.Free = p.free(most)
	}
	st.beat = p.beat()
	if p.server.Role != config.RoleReplica {
		return st, nil
	}
	return st, p.replication(&st)
}

// cell is a copy of a value of the first row: the library's strings lie in a
// buffer that it uses again.
func cell(r *mysql.Resultset, column int) string {
	v, _ := r.GetString(0, column)
	return strings.Clone(v)
}

// free is how many connections the server could still take, -1 for unknown.
func (p *probe) free(most int) int {
	r, err := p.conn.Execute("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
	if err != nil || r.Resultset == nil {
		return -1
	}
	defer r.Close()
	text := cell(r.Resultset, 1)
	now, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return max(0, most-now)
}

// beat is the newest heartbeat that the server has, in microseconds; 0 for none.
func (p *probe) beat() int64 {
	if p.cfg.Heartbeat.Table == "" {
		return 0
	}
	r, err := p.conn.Execute("SELECT MAX(ts) FROM " + p.cfg.Heartbeat.Table)
	if err != nil || r.Resultset == nil {
		return 0
	}
	defer r.Close()
	return parseBeat(cell(r.Resultset, 0))
}

// replication reads the replica's status. MySQL 8.4 knows only SHOW REPLICA
// STATUS; MariaDB before 10.5 and MySQL before 8.0.22 only SHOW SLAVE STATUS.
func (p *probe) replication(st *Status) error {
	r, err := p.conn.Execute("SHOW REPLICA STATUS")
	var my *mysql.MyError
	if errors.As(err, &my) && my.Code == 1064 {
		r, err = p.conn.Execute("SHOW SLAVE STATUS")
	}
	if err != nil {
		return fmt.Errorf("ask for the replication status: %w", err)
	}
	defer r.Close()
	if r.Resultset == nil || r.RowNumber() == 0 {
		return &saidError{"it is no replica: replication is not configured"}
	}
	column := func(names ...string) string {
		for _, n := range names {
			if i, err := r.NameIndex(n); err == nil {
				return cell(r.Resultset, i)
			}
		}
		return ""
	}
	io, sql := column("Replica_IO_Running", "Slave_IO_Running"), column("Replica_SQL_Running", "Slave_SQL_Running")
	st.Replicates = io == "Yes" && sql == "Yes"
	lag, err := strconv.ParseUint(column("Seconds_Behind_Source", "Seconds_Behind_Master"), 10, 32)
	st.Lag, st.LagKnown = time.Duration(lag)*time.Second, err == nil
	switch {
	case io != "Yes":
		st.Warning = fmt.Sprintf("it has lost its source (IO thread %s): %s", orDefault(io, "unknown"),
			orDefault(column("Last_IO_Error"), "no error is given"))
	case !st.ReadOnly:
		st.Warning = "its read_only is off: others could write there"
	}
	if sql != "Yes" {
		return &saidError{"its replication has stopped (SQL thread): " + orDefault(column("Last_SQL_Error"), "no error is given")}
	}
	return nil
}

func orDefault(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

// close says goodbye, so that the server counts no aborted connection.
func (p *probe) close() {
	if p.conn != nil {
		_ = p.nc.SetDeadline(time.Now().Add(100 * time.Millisecond))
		_ = p.conn.Quit()
	}
	if p.nc != nil {
		_ = p.nc.Close()
	}
	p.conn, p.nc = nil, nil
}
