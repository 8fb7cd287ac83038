package backend

import (
	"testing"
	"time"
)

func TestLatencyDecays(t *testing.T) {
	if got := decayed(0, 3*time.Millisecond, 0); got != 3*time.Millisecond {
		t.Errorf("the first counts whole, got %v", got)
	}
	if got := decayed(2*time.Millisecond, 4*time.Millisecond, time.Second); got != 3*time.Millisecond {
		t.Errorf("after a second half and half, got %v", got)
	}
	if got := decayed(time.Millisecond, time.Hour, time.Hour); got > 13*time.Millisecond {
		t.Errorf("one long statement makes it %v", got)
	}
	mean := time.Millisecond
	for range 2000 { // a second of answers that take 20 ms
		mean = decayed(mean, 20*time.Millisecond, time.Second/2000)
	}
	if mean < 15*time.Millisecond {
		t.Errorf("after a thousand slow answers %v", mean)
	}
}

func TestSilence(t *testing.T) {
	var l Load
	silence := func(now time.Duration) time.Duration {
		_, _, s := l.Load(now)
		return s
	}
	if silence(time.Minute) != 0 || l.Mute(time.Minute) != 0 {
		t.Error("it owes nothing")
	}
	l.Begin(10 * time.Second)
	if got := silence(11 * time.Second); got != time.Second {
		t.Errorf("owing for a second: %v", got)
	}
	l.Alive(12*time.Second, time.Millisecond) // the statement takes long, the server lives
	if got := silence(15 * time.Second); got != 0 {
		t.Errorf("a long statement is held against the server: %v", got)
	}
	if got := l.Mute(15 * time.Second); got != 3*time.Second {
		t.Errorf("mute for %v, want 3s", got)
	}
	l.Begin(15 * time.Second)
	if got := silence(16 * time.Second); got != 4*time.Second {
		t.Errorf("another is owed, nothing heard for %v", got)
	}
	l.Answer(16*time.Second, time.Second)
	l.End(true)
	if n, latency, s := l.Load(20 * time.Second); n != 1 || latency < time.Millisecond || s != 0 {
		t.Errorf("%d running, %v, silent for %v", n, latency, s)
	}
	l.End(false)
	if n, _, s := l.Load(30 * time.Second); n != 0 || s != 0 || l.owed.Load() != 0 || l.excused.Load() != 0 {
		t.Errorf("%d running, silent for %v, owed %d", n, s, l.owed.Load())
	}
}

func TestLoadAllocatesNothing(t *testing.T) {
	c := &Conn{Server: &Server{}}
	if n := testing.AllocsPerRun(100, func() {
		c.Begin()
		c.Answer()
		c.End()
		c.Server.Load.Load(Now())
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	c.Begin()
	c.Begin() // the one before ended somehow
	c.End()
	c.End()
	if n, _, _ := c.Server.Load.Load(0); n != 0 {
		t.Errorf("%d statements are left", n)
	}
}

func BenchmarkStatementCounted(b *testing.B) {
	c := &Conn{Server: &Server{}}
	for b.Loop() {
		c.Begin()
		c.Answer()
		c.End()
	}
}
