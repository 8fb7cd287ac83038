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
	"signalbox/internal/ask"
)

// probe asks one server what it is and does.
type probe struct {
	server *Server
	cfg    config.Health
	asker  ask.Asker
}

func newProbe(s *Server, cfg config.Health) *probe {
	return &probe{server: s, cfg: cfg, asker: ask.Asker{Network: s.Network, Address: s.Address, User: cfg.User,
		Password: cfg.Password.Reveal(), Program: "signalbox probe"}}
}

// run takes one sample within cfg.Timeout.
func (p *probe) run(ctx context.Context) (s sample) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	begin := time.Now()
	err := p.asker.Do(ctx, func(c *client.Conn) (err error) {
		s.status, err = p.ask(c)
		return err
	})
	s.status.LastProbe, s.status.Latency = time.Now(), time.Since(begin)
	if err == nil {
		s.ok = true
		return s
	}
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

// question is what every server is asked.
func (p *probe) question(mariaDB bool) string {
	switch {
	case !mariaDB:
		return "SELECT @@global.read_only, @@server_id, @@version, @@global.gtid_executed, @@hostname, @@server_uuid, @@global.max_connections"
	case p.server.Role == config.RoleReplica: // what came from the writer, without its own writes
		return "SELECT @@global.read_only, @@server_id, @@version, @@global.gtid_slave_pos, @@hostname, '', @@global.max_connections"
	}
	return "SELECT @@global.read_only, @@server_id, @@version, @@global.gtid_binlog_pos, @@hostname, '', @@global.max_connections"
}

// ask runs the probe's queries.
func (p *probe) ask(c *client.Conn) (st Status, err error) {
	st.Free = -1
	asked := time.Now()
	r, err := c.Execute(p.question(ask.MariaDB(c.GetServerVersion())))
	if err != nil {
		return st, err
	}
	defer r.Close()
	st.asked, st.answered = At(asked), time.Since(asked)
	text := func(i int) string { return ask.Cell(r.Resultset, i) }
	st.ReadOnly = text(0) != "0" && !strings.EqualFold(text(0), "OFF")
	id, _ := strconv.ParseUint(text(1), 10, 32)
	st.ServerID, st.Version = uint32(id), text(2)
	st.Hostname, st.UUID = text(4), text(5)
	st.MariaDB = ask.MariaDB(st.Version)
	if st.Position, err = ParsePosition(text(3)); err != nil {
		return st, err
	}
	if most, err := strconv.Atoi(text(6)); err == nil {
		st.Free = free(c, most)
	}
	st.beat = p.beat(c)
	if p.server.Role != config.RoleReplica {
		return st, nil
	}
	return st, replication(c, &st)
}

// free is how many connections the server could still take, -1 for unknown.
func free(c *client.Conn, most int) int {
	r, err := c.Execute("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
	if err != nil || r.Resultset == nil {
		return -1
	}
	defer r.Close()
	text := ask.Cell(r.Resultset, 1)
	now, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return max(0, most-now)
}

// beat is the newest heartbeat that the server has, in microseconds; 0 for none.
func (p *probe) beat(c *client.Conn) int64 {
	if p.cfg.Heartbeat.Table == "" {
		return 0
	}
	r, err := c.Execute("SELECT MAX(ts) FROM " + p.cfg.Heartbeat.Table)
	if err != nil || r.Resultset == nil {
		return 0
	}
	defer r.Close()
	return parseBeat(ask.Cell(r.Resultset, 0))
}

// replication reads the replica's status. MySQL 8.4 knows only SHOW REPLICA
// STATUS; MariaDB before 10.5 and MySQL before 8.0.22 only SHOW SLAVE STATUS.
func replication(c *client.Conn, st *Status) error {
	r, err := c.Execute("SHOW REPLICA STATUS")
	var my *mysql.MyError
	if errors.As(err, &my) && my.Code == 1064 {
		r, err = c.Execute("SHOW SLAVE STATUS")
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
				return ask.Cell(r.Resultset, i)
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
