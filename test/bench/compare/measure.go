package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// sample is one run of one load over one way.
type sample struct {
	load
	User   float64 `json:"user_us"` // the proxy's processor time, microseconds a statement
	System float64 `json:"system_us"`
	RSS    int64   `json:"rss_kib"`  // the proxy's resident memory after the run
	Peak   int64   `json:"peak_kib"` // and at most during it
	Err    string  `json:"error,omitempty"`
}

// cpu is the proxy's processor time in microseconds a statement.
func (s sample) cpu() float64 { return s.User + s.System }

// cell is one line of the report: a load over a way, all its rounds.
type cell struct {
	Workload string   `json:"workload"`
	Clients  int      `json:"clients"`
	Way      string   `json:"way"`
	Rounds   []sample `json:"rounds"`
	Summary  summary  `json:"summary"`
}

// summary is the medians over the rounds. Ratios are formed within each round,
// between runs a few seconds apart, before their median is taken: the machine's
// own changes of speed then cancel.
type summary struct {
	Rate          float64  `json:"queries_per_second"`
	ToDirect      float64  `json:"rate_to_direct"`
	P50           float64  `json:"p50_ms"`
	P99           float64  `json:"p99_ms"`
	User          float64  `json:"user_us"`
	System        float64  `json:"system_us"`
	CPU           float64  `json:"cpu_us"`
	CPUToHAProxy  float64  `json:"cpu_to_haproxy"` // 0 where there is none to compare with
	RSS           int64    `json:"rss_kib"`
	Peak          int64    `json:"peak_kib"`
	FailedRounds  int      `json:"failed_rounds"`
	FailureReason []string `json:"failures,omitempty"`
}

// measure runs one load at one number of clients over all ways in turns.
func measure(ctx context.Context, s sysbench, p plan, w workload, clients int, ways []way) ([]cell, error) {
	cells := make([]cell, len(ways))
	for i, way := range ways {
		cells[i] = cell{Workload: w.name, Clients: clients, Way: way.name, Rounds: make([]sample, p.rounds)}
	}
	for round := range p.rounds {
		for _, i := range turn(round, len(ways)) {
			got, err := once(ctx, s, p, w, clients, ways[i])
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				got.Err = err.Error()
			}
			cells[i].Rounds[round] = got
		}
	}
	summarise(cells)
	return cells, nil
}

// once runs one load over one way and reads what it cost the proxy.
func once(ctx context.Context, s sysbench, p plan, w workload, clients int, to way) (sample, error) {
	if to.proxy == nil {
		l, err := s.run(ctx, to.addr, w, clients, p.length)
		return sample{load: l}, err
	}
	proc := procOf(to.proxy.Pid())
	proc.resetPeak()
	before, err := proc.cpu()
	if err != nil {
		return sample{}, fmt.Errorf("%s has ended: %w: %s", to.name, err, to.proxy.LastWords())
	}
	l, err := s.run(ctx, to.addr, w, clients, p.length)
	if err != nil {
		return sample{}, err
	}
	after, err := proc.cpu()
	if err != nil {
		return sample{}, err
	}
	mem, err := proc.memory()
	used := after.sub(before)
	return sample{
		load: l, RSS: mem.resident, Peak: mem.peak,
		User: microseconds(used.user, l.Queries), System: microseconds(used.system, l.Queries),
	}, err
}

func microseconds(d time.Duration, queries int64) float64 {
	return float64(d.Nanoseconds()) / 1e3 / float64(queries)
}

// summarise fills in the summaries of the cells of one load, one cell a way.
func summarise(cells []cell) {
	direct, haproxy := byWay(cells, "direct"), byWay(cells, "haproxy")
	for i := range cells {
		c := &cells[i]
		c.Summary = summary{
			Rate:         c.median(func(s sample, _ int) float64 { return s.rate() }),
			ToDirect:     c.against(direct, func(s sample) float64 { return s.rate() }),
			P50:          c.median(func(s sample, _ int) float64 { return s.P50 }),
			P99:          c.median(func(s sample, _ int) float64 { return s.P99 }),
			User:         c.median(func(s sample, _ int) float64 { return s.User }),
			System:       c.median(func(s sample, _ int) float64 { return s.System }),
			CPU:          c.median(func(s sample, _ int) float64 { return s.cpu() }),
			CPUToHAProxy: c.against(haproxy, sample.cpu),
			RSS:          int64(c.median(func(s sample, _ int) float64 { return float64(s.RSS) })),
			Peak:         int64(c.median(func(s sample, _ int) float64 { return float64(s.Peak) })),
		}
		for _, s := range c.Rounds {
			if s.Err != "" {
				c.Summary.FailedRounds++
				c.Summary.FailureReason = append(c.Summary.FailureReason, s.Err)
			}
		}
	}
}

func byWay(cells []cell, name string) *cell {
	for i := range cells {
		if cells[i].Way == name {
			return &cells[i]
		}
	}
	return nil
}

// median of f over the rounds that succeeded; 0 when none did.
func (c *cell) median(f func(s sample, round int) float64) float64 {
	var values []float64
	for round, s := range c.Rounds {
		if s.Err == "" {
			values = append(values, f(s, round))
		}
	}
	return median(values)
}

// against is the median over the rounds of f of this way divided by f of the
// other in the same round; 0 where no round has both.
func (c *cell) against(other *cell, f func(sample) float64) float64 {
	if other == nil {
		return 0
	}
	var values []float64
	for round, s := range c.Rounds {
		base := other.Rounds[round]
		if s.Err == "" && base.Err == "" && f(base) > 0 {
			values = append(values, f(s)/f(base))
		}
	}
	return median(values)
}

// median of values, 0 of none; it sorts them.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	mid := len(values) / 2
	if len(values)%2 == 1 {
		return values[mid]
	}
	return (values[mid-1] + values[mid]) / 2
}
