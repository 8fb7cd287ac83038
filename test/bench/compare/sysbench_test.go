package main

import (
	"math"
	"os"
	"strings"
	"testing"
)

func TestParseSysbench(t *testing.T) {
	for _, c := range []struct {
		file string
		want load
	}{
		{"point-select.txt", load{Queries: 80771, Seconds: 1.0028, P50: 0.020, P99: 0.084}},
		{"read-write.txt", load{Queries: 44788, Seconds: 1.0028, P50: 1.637, P99: 3.425, Retries: 26}},
	} {
		t.Run(c.file, func(t *testing.T) {
			text, err := os.ReadFile("testdata/" + c.file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := parseSysbench(text)
			if err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestParseSysbenchRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":      "",
		"no histogram": "total: 5\ntotal time: 1.0s\n99th percentile: 1.0\n",
		"no total":     "0.1 |* 3\ntotal time: 1.0s\n99th percentile: 1.0\n",
		"not a number": "0.1 |* 3\ntotal: many\ntotal time: 1.0s\n99th percentile: 1.0\n",
		"a failed run": "FATAL: unable to connect to MySQL server on host '127.0.0.1'\n",
	} {
		if got, err := parseSysbench([]byte(text)); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
}

func TestFatalLine(t *testing.T) {
	out := []byte("sysbench 1.0.20\nFATAL: unable to connect\nFATAL: later\n")
	if got := fatalLine(out); got != "FATAL: unable to connect" {
		t.Errorf("got %q", got)
	}
	if got := fatalLine([]byte("invalid option: --x\n\n")); got != "invalid option: --x" {
		t.Errorf("got %q", got)
	}
}

func TestQuantile(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	h.add(1, 50)
	h.add(2, 49)
	h.add(9, 1)
	for q, want := range map[float64]float64{0.01: 1, 0.50: 1, 0.51: 2, 0.99: 2, 1: 9} {
		if got := h.quantile(q); got != want {
			t.Errorf("quantile %v: got %v, want %v", q, got, want)
		}
	}
}

func FuzzParseSysbench(f *testing.F) {
	for _, file := range []string{"point-select.txt", "read-write.txt"} {
		text, err := os.ReadFile("testdata/" + file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseSysbench(text)
		if err == nil && (l.Queries == 0 || math.IsNaN(l.rate()) || l.Seconds == 0) {
			t.Errorf("accepted without a rate: %+v", l)
		}
	})
}

func TestPick(t *testing.T) {
	if got, err := pickClients("1, 16,64"); err != nil || len(got) != 3 || got[2] != 64 {
		t.Errorf("clients: %v, %v", got, err)
	}
	for _, wrong := range []string{"", "0", "1,x", "5000"} {
		if got, err := pickClients(wrong); err == nil {
			t.Errorf("clients %q gave %v", wrong, got)
		}
	}
	if got, err := pickWorkloads("connect,text"); err != nil || got[0].name != "connect" || got[1].name != "text" {
		t.Errorf("workloads: %v, %v", got, err)
	}
	if _, err := pickWorkloads("txt"); err == nil || !strings.Contains(err.Error(), `"txt"`) {
		t.Errorf("workload txt: %v", err)
	}
}
