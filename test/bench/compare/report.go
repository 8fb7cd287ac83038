package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// report is everything that one run found.
type report struct {
	Started  time.Time         `json:"started"`
	Machine  map[string]string `json:"machine"`
	Seconds  float64           `json:"seconds_a_run"`
	Rounds   int               `json:"rounds"`
	Cells    []cell            `json:"cells"`
	Idle     []idleMemory      `json:"idle"`
	Finished time.Time         `json:"finished"`
}

func (r *report) write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// failures counts the runs that gave no number.
func (r *report) failures() int {
	n := 0
	for _, c := range r.Cells {
		n += c.Summary.FailedRounds
	}
	for _, m := range r.Idle {
		if m.Err != "" {
			n++
		}
	}
	return n
}

// lineForm is one line of a load's table: at most 100 columns.
const lineForm = "%7s  %-10s %9s %6s %8s %8s %6s %6s %6s %7s %6s %6s\n"

// printHead begins the table of one workload.
func printHead(w io.Writer, title string) {
	fmt.Fprintf(w, "\n%s\n", title)
	fmt.Fprintf(w, lineForm, "clients", "way", "queries/s", "to", "p50", "p99", "user", "system", "CPU", "CPU to", "RSS", "peak")
	fmt.Fprintf(w, lineForm, "", "", "", "direct", "ms", "ms", "µs", "µs", "µs", "haproxy", "MiB", "MiB")
}

// printCells prints the lines of one load, and what failed.
func printCells(w io.Writer, cells []cell) {
	for _, c := range cells {
		s := c.Summary
		if s.FailedRounds == len(c.Rounds) {
			fmt.Fprintf(w, "%7d  %-10s failed\n", c.Clients, c.Way)
			continue
		}
		fmt.Fprintf(w, lineForm, strconv.Itoa(c.Clients), c.Way, fmt.Sprintf("%.0f", s.Rate), decimals(s.ToDirect, 2),
			decimals(s.P50, 3), decimals(s.P99, 3), decimals(s.User, 1), decimals(s.System, 1), decimals(s.CPU, 1),
			decimals(s.CPUToHAProxy, 2), mebibytes(s.RSS), mebibytes(s.Peak))
	}
	for _, c := range cells {
		for _, reason := range c.Summary.FailureReason {
			fmt.Fprintf(w, "         %s: %s\n", c.Way, reason)
		}
	}
}

func mebibytes(kib int64) string { return decimals(float64(kib)/1024, 1) }

// decimals prints a number, or a dash for nothing.
func decimals(v float64, places int) string {
	if v == 0 {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', places, 64)
}

// printIdle prints the memory of idle clients.
func printIdle(w io.Writer, idle []idleMemory) {
	fmt.Fprintf(w, "\nresident memory of idle clients, authenticated\n")
	fmt.Fprintf(w, "%7s  %-10s %10s %14s %20s\n", "clients", "way", "base MiB", "KiB a client", "after a statement")
	for _, m := range idle {
		if m.Err != "" {
			fmt.Fprintf(w, "%7d  %-10s failed: %s\n", m.Clients, m.Way, m.Err)
			continue
		}
		note := ""
		if !m.Settled {
			note = "  (still changing)"
		}
		fmt.Fprintf(w, "%7d  %-10s %10.1f %14.1f %20.1f%s\n", m.Clients, m.Way, float64(m.Base)/1024, m.PerClient, m.PerUsed, note)
	}
}
