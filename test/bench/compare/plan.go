package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// workload is one kind of load, as sysbench is told to make it.
type workload struct {
	name   string   // as in -workloads and in the JSON
	title  string   // as in the table
	script string   // sysbench's, or one of this package's ending in .lua
	args   []string // further arguments
}

func workloads() []workload {
	return []workload{
		{"text", "point-select, text protocol", "oltp_point_select", []string{"--db-ps-mode=disable"}},
		{"prepared", "point-select, prepared statements", "oltp_point_select", []string{"--db-ps-mode=auto"}},
		{"read-write", "read-write transactions of 20 statements (latency: of a transaction)", "oltp_read_write", []string{"--db-ps-mode=disable"}},
		{"connect", "one connection a query, text protocol", "connect.lua", nil},
	}
}

// plan is what is measured and for how long.
type plan struct {
	workloads []workload
	clients   []int         // numbers of sysbench threads
	rounds    int           // how often each way is measured, in turns
	length    time.Duration // of one measurement
	tableSize int           // rows of the one table
	idle      int           // idle clients of the memory measurement; 0: none
	settle    time.Duration // longest wait for memory to stop changing
}

func (p plan) validate() error {
	switch {
	case len(p.workloads) == 0 && p.idle == 0:
		return fmt.Errorf("nothing to measure: name at least one of -workloads or set -idle")
	case p.rounds < 1 || p.length < time.Second || p.tableSize < 100:
		return fmt.Errorf("-rounds must be at least 1, -seconds at least 1 and -rows at least 100")
	}
	return nil
}

// estimate is how long the measurements take, without starting the servers.
func (p plan) estimate(ways int) time.Duration {
	runs := len(p.workloads) * len(p.clients) * p.rounds * ways
	return time.Duration(runs) * (p.length + 300*time.Millisecond)
}

// turn lists 0 to n-1 in the order of one round. The first rotates, so that no
// way always runs in the wake of the same other one.
func turn(round, n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = (round + i) % n
	}
	return order
}

func pickWorkloads(names string) ([]workload, error) {
	var picked []workload
	for name := range strings.SplitSeq(names, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		i := slices.IndexFunc(workloads(), func(w workload) bool { return w.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-workloads: there is no workload %q (text, prepared, read-write, connect)", name)
		}
		picked = append(picked, workloads()[i])
	}
	return picked, nil
}

func pickClients(list string) ([]int, error) {
	var picked []int
	for field := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < 1 || n > 1000 {
			return nil, fmt.Errorf("-clients: %q is not a number from 1 to 1000", field)
		}
		picked = append(picked, n)
	}
	return picked, nil
}
