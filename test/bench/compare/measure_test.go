package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{{nil, 0}, {[]float64{7}, 7}, {[]float64{9, 1}, 5}, {[]float64{3, 100, 1}, 3}} {
		if got := median(c.of); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.of, got, c.want)
		}
	}
}

func TestTurnRotates(t *testing.T) {
	first := map[int]bool{}
	for round := range 3 {
		order := turn(round, 3)
		seen := map[int]bool{}
		for _, i := range order {
			seen[i] = true
		}
		if len(seen) != 3 {
			t.Errorf("round %d leaves a way out: %v", round, order)
		}
		first[order[0]] = true
	}
	if len(first) != 3 {
		t.Errorf("not every way comes first in some round: %v", first)
	}
}

// speed makes a sample of so many statements a second.
func speed(queries int64, user, system float64) sample {
	return sample{load: load{Queries: queries, Seconds: 1, P50: 0.1, P99: 0.2}, User: user, System: system, RSS: 2048, Peak: 4096}
}

func exampleCells() []cell {
	cells := []cell{
		{Way: "direct", Clients: 16, Rounds: []sample{speed(1000, 0, 0), speed(500, 0, 0), {Err: "sysbench: FATAL: gone"}}},
		{Way: "haproxy", Clients: 16, Rounds: []sample{speed(600, 2, 8), speed(300, 4, 16), speed(600, 2, 8)}},
		{Way: "signalbox", Clients: 16, Rounds: []sample{speed(500, 3, 9), speed(250, 6, 18), speed(500, 6, 9)}},
	}
	summarise(cells)
	return cells
}

// The machine was half as fast in round two, and a round failed: the ratios
// must not show it.
func TestSummarise(t *testing.T) {
	cells := exampleCells()
	near := func(name string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	near("direct to direct", cells[0].Summary.ToDirect, 1)
	near("direct rate", cells[0].Summary.Rate, 750)
	near("haproxy to direct", cells[1].Summary.ToDirect, 0.6)
	near("signalbox to direct", cells[2].Summary.ToDirect, 0.5)
	near("signalbox CPU to haproxy", cells[2].Summary.CPUToHAProxy, 1.2)
	near("direct CPU to haproxy", cells[0].Summary.CPUToHAProxy, 0)
	if n := cells[0].Summary.FailedRounds; n != 1 {
		t.Errorf("failed rounds of direct: %d", n)
	}
}

func TestReportIsLegible(t *testing.T) {
	cells := exampleCells()
	cells[2].Summary.Rate, cells[2].Summary.P99, cells[2].Summary.CPU = 1234567, 1234.567, 1234.5
	var out bytes.Buffer
	printHead(&out, "point-select")
	printCells(&out, cells[1:])
	printIdle(&out, []idleMemory{{Way: "signalbox", Clients: 2000, Base: 20480, PerClient: 5.5, PerUsed: 11.5}, {Way: "haproxy", Err: "gone"}})
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"signalbox", "1.20", "0.50", "still changing", "failed: gone"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestReportJSON(t *testing.T) {
	r := &report{Cells: exampleCells(), Idle: []idleMemory{{Way: "haproxy", Err: "gone"}}}
	if n := r.failures(); n != 2 {
		t.Errorf("failures: %d, want 2", n)
	}
	file := filepath.Join(t.TempDir(), "r.json")
	if err := r.write(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if back.Cells[2].Summary.CPUToHAProxy != r.Cells[2].Summary.CPUToHAProxy || back.Cells[1].Rounds[0].Queries != 600 {
		t.Errorf("lost on the way: %+v", back.Cells)
	}
}

func TestWatchedRests(t *testing.T) {
	w := watched{window: 3}
	for i, v := range []int64{100, 200, 300, 300, 301} {
		if got, want := w.add(v), i == 4; got != want {
			t.Errorf("look %d: rests is %v", i, got)
		}
	}
}
