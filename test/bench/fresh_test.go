package bench

import (
	"fmt"
	"hash/crc32"
	"testing"

	"signalbox/internal/wire"
)

// A session that must find a position on its replica, which is known to have it,
// costs no allocation a statement either.
func TestKnownPositionAllocatesNothing(t *testing.T) {
	const position = "0-1-1" // where the fakes are
	token := fmt.Sprintf("%s~%08x", position, crc32.Checksum([]byte(position), crc32.MakeTable(crc32.Castagnoli)))
	hinted := "/* signalbox: after=" + token + " */ SELECT 1"
	answer := table(hinted, []string{"1"}, []string{"1"})
	primary := startFake(t, append([]cannedAnswer{answer}, probeAnswers("1", false)...)...)
	replica := startFake(t, append([]cannedAnswer{answer, pointAnswer}, probeAnswers("2", true)...)...)
	at := startProxy(t, fmt.Sprintf("  - {name: db, role: primary, address: %q}\n  - {name: r1, role: replica, address: %q}\n",
		primary.addr(), replica.addr())) // the primary does not know the answer: a read there fails the test
	c := dialRaw(t, at, hinted, answer, true)
	c.request, _ = wire.AppendPacket(nil, 0, append([]byte{wire.ComQuery}, pointSelect...))
	c.answer = pointAnswer.ok
	c.got = make([]byte, len(c.answer))
	if n := allocationsAStatement(t, c, 5000); n > 0.05 {
		t.Errorf("%.3f allocations a statement", n)
	}
	if string(c.got) != string(c.answer) {
		t.Errorf("answer %q", c.got)
	}
}
