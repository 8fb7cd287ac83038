package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"signalbox/internal/child"
)

// connectScript is the load that sysbench 1.0 has no script for.
//
//go:embed connect.lua
var connectScript []byte

// load is what one run of sysbench measured.
type load struct {
	Queries int64   `json:"queries"` // statements, BEGIN and COMMIT included
	Seconds float64 `json:"seconds"` // the run as sysbench timed it
	P50     float64 `json:"p50_ms"`  // latency of an event: a statement, or a transaction
	P99     float64 `json:"p99_ms"`
	Retries int64   `json:"retries"` // deadlocks and lock time-outs that sysbench ignored
}

// rate is statements a second.
func (l load) rate() float64 { return float64(l.Queries) / l.Seconds }

// sysbench runs one load, at most a little longer than d.
type sysbench struct {
	dir   string // for the script files
	table int    // rows
}

func (s sysbench) args(addr string, script string) ([]string, error) {
	if strings.HasSuffix(script, ".lua") {
		script = filepath.Join(s.dir, script)
		if err := os.WriteFile(script, connectScript, 0o644); err != nil {
			return nil, fmt.Errorf("write the load script: %w", err)
		}
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return []string{
		script, "--mysql-host=" + host, "--mysql-port=" + port, "--mysql-user=" + benchUser,
		"--mysql-password=" + benchPassword, "--mysql-db=" + benchSchema, "--table-size=" + strconv.Itoa(s.table),
	}, nil
}

// prepare fills the table.
func (s sysbench) prepare(ctx context.Context, addr string) error {
	args, err := s.args(addr, "oltp_point_select")
	if err != nil {
		return err
	}
	_, err = s.command(ctx, time.Minute, append(args, "prepare"))
	return err
}

func (s sysbench) run(ctx context.Context, addr string, w workload, clients int, d time.Duration) (load, error) {
	args, err := s.args(addr, w.script)
	if err != nil {
		return load{}, err
	}
	args = append(args, w.args...)
	args = append(args, fmt.Sprintf("--threads=%d", clients), fmt.Sprintf("--time=%.0f", d.Seconds()),
		"--percentile=99", "--histogram=on", "run")
	out, err := s.command(ctx, d+20*time.Second, args)
	if err != nil {
		return load{}, err
	}
	return parseSysbench(out)
}

func (s sysbench) command(ctx context.Context, limit time.Duration, args []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out, err := child.Output(exec.CommandContext(ctx, "sysbench", args...))
	if err != nil {
		return nil, fmt.Errorf("sysbench %s: %w: %s", args[0], err, fatalLine(out))
	}
	return out, nil
}

// fatalLine is sysbench's own word for what went wrong.
func fatalLine(out []byte) string {
	last := "it printed nothing"
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "FATAL:") {
			return line
		}
		if line != "" {
			last = line
		}
	}
	return last
}

// parseSysbench reads the report of a run with --histogram=on --percentile=99.
func parseSysbench(out []byte) (load, error) {
	var l load
	var h histogram
	var p99 bool
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if value, count, ok := histogramLine(line); ok {
			h.add(value, count)
			continue
		}
		key, rest, found := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !found || len(fields) == 0 {
			continue
		}
		var err error
		switch key {
		case "total":
			l.Queries, err = strconv.ParseInt(fields[0], 10, 64)
		case "ignored errors":
			l.Retries, err = strconv.ParseInt(fields[0], 10, 64)
		case "total time":
			l.Seconds, err = strconv.ParseFloat(strings.TrimSuffix(fields[0], "s"), 64)
		case "99th percentile":
			l.P99, err = strconv.ParseFloat(fields[0], 64)
			p99 = true
		}
		if err != nil {
			return load{}, fmt.Errorf("sysbench's line %q: %w", line, err)
		}
	}
	if l.Queries == 0 || l.Seconds == 0 || !p99 || h.total == 0 {
		return load{}, errors.New("sysbench's report lacks the total, the time, the percentile or the histogram: " + fatalLine(out))
	}
	// The histogram has three decimals, the percentile's own line two.
	l.P50, l.P99 = h.quantile(0.50), h.quantile(0.99)
	return l, nil
}

// histogram is sysbench's latency histogram: counts by value in milliseconds,
// rising.
type histogram struct {
	values []float64
	counts []int64
	total  int64
}

func (h *histogram) add(value float64, count int64) {
	h.values = append(h.values, value)
	h.counts = append(h.counts, count)
	h.total += count
}

// quantile is the value that the share q, 0 to 1, of the events did not exceed.
func (h *histogram) quantile(q float64) float64 {
	rank, seen := q*float64(h.total), int64(0)
	for i, n := range h.counts {
		if seen += n; float64(seen) >= rank {
			return h.values[i]
		}
	}
	return 0
}

// histogramLine reads "0.019 |****   33953".
func histogramLine(line string) (value float64, count int64, ok bool) {
	left, right, found := strings.Cut(line, "|")
	if !found {
		return 0, 0, false
	}
	value, err := strconv.ParseFloat(strings.TrimSpace(left), 64)
	if err != nil {
		return 0, 0, false
	}
	count, err = strconv.ParseInt(strings.TrimSpace(strings.TrimLeft(right, "*")), 10, 64)
	return value, count, err == nil
}
