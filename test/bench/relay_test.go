package bench

import (
	"runtime"
	"strings"
	"testing"
)

// pointSelect is the statement of the benchmarks, and its answer.
const pointSelect = "SELECT c FROM sbtest1 WHERE id=4711"

var pointAnswer = table("SELECT c FROM", []string{"c"}, []string{strings.Repeat("0123456789-", 11)})

// allocationsAStatement counts the whole process's allocations over n
// statements. Neither the fake server nor the client makes any.
func allocationsAStatement(tb testing.TB, c *rawClient, n int) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		c.ask(tb)
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}

// The measuring device itself must not allocate, or the proxy's figure below
// would be blurred.
func TestFakeAllocatesNothing(t *testing.T) {
	s := startFake(t, pointAnswer)
	for _, deprecateEOF := range []bool{false, true} {
		c := dialRaw(t, s.addr(), pointSelect, pointAnswer, deprecateEOF)
		if n := allocationsAStatement(t, c, 2000); n > 0.02 {
			t.Errorf("DEPRECATE_EOF %v: %.3f allocations a statement", deprecateEOF, n)
		}
	}
}

// BenchmarkStraight is the floor: client and fake server without a proxy.
func BenchmarkStraight(b *testing.B) {
	c := dialRaw(b, startFake(b, pointAnswer).addr(), pointSelect, pointAnswer, true)
	b.ReportAllocs()
	for b.Loop() {
		c.ask(b)
	}
}
