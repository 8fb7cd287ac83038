package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"signalbox/internal/ask"
)

// beatLayout is how pt-heartbeat writes a time.
const beatLayout = "2006-01-02T15:04:05.999999"

// parseBeat reads a heartbeat, in microseconds of an unnamed time zone; 0 for
// what is none.
func parseBeat(text string) int64 {
	t, err := time.Parse(beatLayout, strings.Replace(text, " ", "T", 1))
	if err != nil {
		return 0
	}
	return max(0, t.UnixMicro())
}

// heart writes heartbeats on the server that may take writes, through the Gate.
type heart struct {
	c    *Cluster
	conn *Conn
	my   *client.Conn
	told string // the last failure, not to be logged again
}

// beat writes until ctx ends.
func (c *Cluster) beat(ctx context.Context) {
	h := &heart{c: c}
	defer h.close()
	tick := time.NewTicker(c.cfg.Health.Heartbeat.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := h.write(ctx); err != nil {
			h.close()
			if ctx.Err() == nil && err.Error() != h.told {
				h.told = err.Error()
				c.log.Warn("heartbeat could not be written; lag is what the replicas say", "error", err)
			}
		}
	}
}

// write writes one. With nobody in authority it does nothing.
func (h *heart) write(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.c.cfg.Health.Timeout)
	defer cancel()
	now := h.c.gate.Current()
	if h.conn != nil && (h.conn.Server != now.Server || h.conn.Epoch != now.Epoch) {
		h.close()
	}
	if now.Server == nil {
		return nil
	}
	if h.conn == nil {
		if err := h.open(ctx, now); err != nil || h.conn == nil {
			return err
		}
	}
	h.conn.Busy.Store(true)
	defer h.conn.Busy.Store(false)
	if h.c.gate.Current() != now {
		return nil
	}
	t, _ := ctx.Deadline()
	_ = h.conn.NetConn.SetDeadline(t)
	return h.insert()
}

// erNoSuchTable is ER_NO_SUCH_TABLE.
const erNoSuchTable = 1146

func (h *heart) insert() error {
	table := h.c.cfg.Health.Heartbeat.Table
	r, err := h.my.Execute("SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%f')")
	if err != nil {
		return fmt.Errorf("ask %s for its time: %w", h.conn.Server.Name, err)
	}
	at := ask.Cell(r.Resultset, 0)
	r.Close()
	statement := fmt.Sprintf("INSERT INTO %s (ts, server_id) VALUES ('%s', @@server_id) ON DUPLICATE KEY UPDATE ts = VALUES(ts)", table, at)
	_, err = h.my.Execute(statement)
	if my := (*mysql.MyError)(nil); errors.As(err, &my) && my.Code == erNoSuchTable {
		if _, err = h.my.Execute(createHeartbeat(table)); err == nil {
			_, err = h.my.Execute(statement)
		}
	}
	if err != nil {
		return fmt.Errorf("write heartbeat to %s on %s: %w", table, h.conn.Server.Name, err)
	}
	h.told = ""
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.c.beats.note(Now(), parseBeat(at))
	return nil
}

// createHeartbeat makes the table as pt-heartbeat does, so that either can take
// over from the other.
func createHeartbeat(table string) string {
	return "CREATE TABLE IF NOT EXISTS " + table + " (ts VARCHAR(26) NOT NULL, server_id INT UNSIGNED NOT NULL PRIMARY KEY, " +
		"file VARCHAR(255) DEFAULT NULL, position BIGINT UNSIGNED DEFAULT NULL, relay_master_log_file VARCHAR(255) DEFAULT NULL, " +
		"exec_master_log_pos BIGINT UNSIGNED DEFAULT NULL)"
}

func (h *heart) open(ctx context.Context, w *Writer) error {
	c, my, err := dial(ctx, w.Server, DialOptions{User: h.c.cfg.Health.User, Password: h.c.cfg.Health.Password.Reveal(),
		Attributes: map[string]string{"program_name": "signalbox heartbeat"}})
	if err != nil {
		return err
	}
	c.Busy.Store(true)
	if !h.c.gate.Admit(c, w.Epoch) {
		c.Close()
		return nil
	}
	h.conn, h.my = c, my
	return nil
}

func (h *heart) close() {
	if h.conn != nil {
		h.c.gate.Leave(h.conn)
		h.conn.Close()
	}
	h.conn, h.my = nil, nil
}
