package main

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const tail = " S 1 4181 4181 0 -1 4194560 3113 0 0 0 1234 567 0 0 20 0 4 0 98277 157286400 3905 18446744073709551615\n"
	want := cpu{12340 * time.Millisecond, 5670 * time.Millisecond}
	for _, name := range []string{"haproxy", "a name", "odd) S 9 (name", ""} {
		got, err := parseStat([]byte("4181 (" + name + ")" + tail))
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", name, got, err, want)
		}
	}
	for _, wrong := range []string{"", "12 no name", "1 (x) S 1 2 3", "1 (x) S 1 1 1 0 -1 0 1 0 0 0 many 567 0"} {
		if got, err := parseStat([]byte(wrong)); err == nil {
			t.Errorf("%q gave %v", wrong, got)
		}
	}
}

func TestParseStatus(t *testing.T) {
	got, err := parseStatus([]byte("Name:\thaproxy\nVmPeak:\t  164096 kB\nVmHWM:\t   15620 kB\nVmRSS:\t   15208 kB\nThreads:\t2\n"))
	if want := (memory{15208, 15620}); err != nil || got != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, wrong := range []string{"", "Name:\tzombie\nState:\tZ\n", "VmRSS:\t1 MB\nVmHWM:\t1 kB\n", "VmRSS:\tx kB\nVmHWM:\t1 kB\n"} {
		if got, err := parseStatus([]byte(wrong)); err == nil {
			t.Errorf("%q gave %v", wrong, got)
		}
	}
}

// The kernel's own files of this very process must be understood.
func TestProcOfSelf(t *testing.T) {
	p := procOf(os.Getpid())
	if _, err := p.cpu(); err != nil {
		t.Error(err)
	}
	if m, err := p.memory(); err != nil || m.resident <= 0 || m.peak < m.resident/2 {
		t.Errorf("memory %v, %v", m, err)
	}
	if _, err := (procfs{t.TempDir()}).cpu(); err == nil {
		t.Error("no error for a process that is not there")
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("4181 (haproxy) S 1 4181 4181 0 -1 4194560 3113 0 0 0 1234 567 0 0 20 0 4 0 98277"))
	f.Add([]byte("1 ()) S"))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = parseStat(text) })
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte("VmHWM:\t   15620 kB\nVmRSS:\t   15208 kB\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if m, err := parseStatus(text); err == nil && (m.resident < 0 || m.peak < 0) {
			t.Errorf("accepted %v", m)
		}
	})
}
