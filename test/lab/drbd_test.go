package lab

import (
	"testing"
	"time"
)

func TestPairBoots(t *testing.T) {
	began := time.Now()
	l := theLab(t)
	t.Logf("ready in %s", time.Since(began).Round(time.Millisecond))
	for _, n := range l.Nodes {
		proc, err := n.Proc(t.Context())
		t.Logf("%s: %v\n%s", n.Name, err, proc)
	}
}
