package lvs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"signalbox/internal/ask"
)

// Client is the Kernel behind signalbox lvs serve, for a process without
// privilege. Its methods may be called concurrently.
type Client struct {
	path string

	mu    sync.Mutex // guards what follows
	conn  net.Conn
	in    *bufio.Reader
	calls uint64
}

// NewClient connects to the socket at path when it is first used.
func NewClient(path string) *Client { return &Client{path: path} }

// Dump is Kernel's.
func (c *Client) Dump(ctx context.Context, only []Key) (Table, error) {
	a, err := c.ask(ctx, request{Do: "dump", Only: only, All: only == nil})
	if err != nil {
		return nil, err
	}
	if a.Table == nil {
		a.Table = make(Table)
	}
	return a.Table, nil
}

// Apply is Kernel's.
func (c *Client) Apply(ctx context.Context, list []Operation) ([]error, error) {
	a, err := c.ask(ctx, request{Do: "apply", Operations: list})
	if err != nil {
		return nil, err
	}
	if len(a.Errors) != len(list) {
		return nil, fmt.Errorf("signalbox lvs serve: %d answers to %d operations", len(a.Errors), len(list))
	}
	errs := make([]error, len(list))
	for i, text := range a.Errors {
		if text != "" {
			errs[i] = errors.New(text)
		}
	}
	return errs, nil
}

// Calls is how many requests the kernel got from the other process.
func (c *Client) Calls() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// Close is Kernel's.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hangUp()
}

func (c *Client) hangUp() error {
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn, c.in = nil, nil
	return err
}

// ask sends a request and reads its answer. A connection that breaks is not
// tried again at once: whether the request was carried out is then unknown, and
// the next pass looks.
func (c *Client) ask(ctx context.Context, q request) (a answer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		var d net.Dialer
		if c.conn, err = d.DialContext(ctx, "unix", c.path); err != nil {
			c.conn = nil
			return a, fmt.Errorf("reach signalbox lvs serve: %w: start it, with the same configuration", err)
		}
		c.in = bufio.NewReader(c.conn)
	}
	end, ok := ctx.Deadline()
	if limit := time.Now().Add(answerWithin); !ok || end.After(limit) {
		end = limit
	}
	_ = c.conn.SetDeadline(end)
	defer ask.Interrupt(ctx, c.conn)()
	var line []byte
	if err = json.NewEncoder(c.conn).Encode(q); err == nil {
		line, err = readLine(c.in, maxMessage)
	}
	if err == nil {
		err = json.Unmarshal(line, &a)
	}
	if err != nil {
		_ = c.hangUp()
		return a, fmt.Errorf("ask signalbox lvs serve at %s: %w: if it runs, its log says why it hangs up", c.path, err)
	}
	c.calls = a.Calls
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}
