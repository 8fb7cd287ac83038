package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// idleMemory is what idle clients cost a proxy.
type idleMemory struct {
	Way       string  `json:"way"`
	Clients   int     `json:"clients"`
	Base      int64   `json:"base_kib"`      // resident with no client, after a first one came and went
	Connected int64   `json:"connected_kib"` // with all authenticated, none having sent a statement
	Used      int64   `json:"used_kib"`      // after one statement of each: server connections are open
	PerClient float64 `json:"connected_kib_per_client"`
	PerUsed   float64 `json:"used_kib_per_client"`
	Settled   bool    `json:"settled"` // the memory had stopped changing each time it was read
	Err       string  `json:"error,omitempty"`
}

// atOnce bounds how many clients authenticate at the same time.
const atOnce = 16

// holdIdle connects n clients through a proxy that has just started, and reads
// its resident memory before, while they only rest, and after a statement each.
func holdIdle(ctx context.Context, through way, n int, settle time.Duration) idleMemory {
	m := idleMemory{Way: through.name, Clients: n, Settled: true}
	if err := m.measure(ctx, through, settle); err != nil {
		m.Err = err.Error()
	}
	return m
}

func (m *idleMemory) measure(ctx context.Context, through way, settle time.Duration) error {
	var err error
	if m.Base, err = m.rest(ctx, through, settle); err != nil {
		return err
	}
	clients := make([]client, m.Clients)
	defer func() {
		for _, c := range clients {
			if c.Conn != nil {
				_ = c.Close()
			}
		}
	}()
	err = all(clients, func(c *client) (err error) {
		*c, err = connect(ctx, through.addr, benchUser, benchPassword, benchSchema)
		return err
	})
	if err != nil {
		return err
	}
	if m.Connected, err = m.rest(ctx, through, settle); err != nil {
		return err
	}
	if err = all(clients, func(c *client) error { return c.exec(ctx, "DO 1") }); err != nil {
		return err
	}
	if m.Used, err = m.rest(ctx, through, settle); err != nil {
		return err
	}
	m.PerClient = float64(m.Connected-m.Base) / float64(m.Clients)
	m.PerUsed = float64(m.Used-m.Base) / float64(m.Clients)
	return nil
}

// all calls f for every client, some at once.
func all(clients []client, f func(*client) error) error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range clients {
		group.Go(func() error { return f(&clients[i]) })
	}
	return group.Wait()
}

// rest waits until the proxy's resident memory has stopped changing, and
// returns it in KiB.
func (m *idleMemory) rest(ctx context.Context, through way, settle time.Duration) (int64, error) {
	const look = 250 * time.Millisecond
	seen := watched{window: int(max(settle/4, time.Second) / look)}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for deadline := time.Now().Add(settle); time.Now().Before(deadline); {
		mem, err := procOf(through.proxy.Pid()).memory()
		if err != nil {
			return 0, fmt.Errorf("%s has ended: %w: %s", through.name, err, through.proxy.LastWords())
		}
		if seen.add(mem.resident) {
			return mem.resident, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
	}
	m.Settled = false
	return seen.last(), nil
}

// watched is a quantity that is looked at until it rests.
type watched struct {
	window int // how many looks in a row must agree
	values []int64
}

// add reports whether the last looks agree within half a percent.
func (w *watched) add(v int64) bool {
	w.values = append(w.values, v)
	if len(w.values) < w.window {
		return false
	}
	recent := w.values[len(w.values)-w.window:]
	low, high := slices.Min(recent), slices.Max(recent)
	return float64(high-low) <= 0.005*float64(high)
}

func (w *watched) last() int64 {
	if len(w.values) == 0 {
		return 0
	}
	return w.values[len(w.values)-1]
}
