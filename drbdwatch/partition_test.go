package drbdwatch

import "testing"

// partitions are what a proxy can see of two nodes.
var partitions = map[string][2]bool{"both": {true, true}, "only a": {true, false}, "only b": {false, true}, "neither": {}}

// world is what DRBD says on each of two nodes at one time.
type world struct {
	name string
	a, b Device
}

// worlds are all pairs of states that DRBD allows: a node that is connected, or
// has not noticed yet that it no longer is, cannot be promoted beside a Primary,
// so of two Primaries at least one knows that it is alone.
func worlds() (list []world) {
	states := map[string]Device{"healthy": healthy, "alone": alone, "marked": marked, "standalone": detached,
		"standby": standby, "lonely": lonely, "dual": dual}
	for an, a := range states {
		for bn, b := range states {
			connected := func(d *Device) bool { return d.Role == "Primary" && d.connected() }
			if connected(&a) && connected(&b) && (an != "dual" || bn != "dual") {
				continue
			}
			list = append(list, world{an + "/" + bn, a, b})
		}
	}
	return list
}

func (w *world) decide(sees [2]bool, policy Policy) string {
	a, b := seen("a", w.a), seen("b", w.b)
	for i, v := range []*View{&a, &b} {
		if !sees[i] {
			v.State, v.Err = nil, "not reached"
		}
	}
	return Decide(Inputs{Views: []View{a, b}, Probes: probes, Policy: policy}).Writer
}

// Proxies that see different parts of the same cluster never name different
// writers under Strict, whatever the partition. Under Availability they can:
// that is its documented price, and shows that this test can fail.
func TestProxiesNeverContradictEachOther(t *testing.T) {
	contradictions := map[Policy]int{}
	for _, w := range worlds() {
		for _, policy := range []Policy{Strict, Availability} {
			for one, first := range partitions {
				for two, second := range partitions {
					x, y := w.decide(first, policy), w.decide(second, policy)
					if x == "" || y == "" || x == y {
						continue
					}
					if contradictions[policy]++; policy == Strict {
						t.Errorf("%s: a proxy that sees %s writes to %s, one that sees %s to %s", w.name, one, x, two, y)
					}
				}
			}
		}
	}
	if contradictions[Availability] == 0 {
		t.Error("availability contradicts itself nowhere: the worlds have no split brain in them")
	}
}

// Nor does a proxy under Strict name a writer while the other node is Primary
// too, whether it sees that or not, unless DRBD on the writer still says that it
// is connected: then it has not noticed yet, and its writes wait in the kernel.
func TestStrictNeedsEvidence(t *testing.T) {
	for _, w := range worlds() {
		for name, sees := range partitions {
			writer := w.decide(sees, Strict)
			own, other := &w.a, &w.b
			if writer == "b" {
				own, other = other, own
			}
			if writer != "" && other.Role == "Primary" && !own.connected() {
				t.Errorf("%s: a proxy that sees %s writes to %s while the other is Primary", w.name, name, writer)
			}
		}
	}
}
