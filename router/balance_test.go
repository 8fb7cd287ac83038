package router

import (
	"testing"
	"time"
)

// share is how often each candidate is chosen, in per cent.
func share(t *testing.T, list []Candidate, how Balancing) []int {
	t.Helper()
	counts := make([]int, len(list))
	const n = 10000
	for i := range uint64(n) {
		at, why := Balance(list, how, i)
		if at < 0 || why == WhyNone {
			t.Fatal("nothing was chosen")
		}
		counts[at]++
	}
	for i := range counts {
		counts[i] = (counts[i]*100 + n/2) / n
	}
	return counts
}

func TestBalance(t *testing.T) {
	ms := time.Millisecond
	for _, tt := range []struct {
		name string
		list []Candidate
		how  Balancing
		want []int // per cent, within 3
	}{
		{"equals share", []Candidate{{Weight: 1}, {Weight: 1}}, Balancing{}, []int{50, 50}},
		{"by weight among equals", []Candidate{{Weight: 1}, {Weight: 3}}, Balancing{}, []int{25, 75}},
		{"weighted", []Candidate{{Weight: 1, Latency: 50 * ms}, {Weight: 3}}, Balancing{Policy: Weighted}, []int{25, 75}},
		{"first", []Candidate{{Weight: 1, Outstanding: 9}, {Weight: 3}}, Balancing{Policy: First}, []int{100, 0}},
		{"fewest", []Candidate{{Weight: 1, Outstanding: 2}, {Weight: 1, Outstanding: 1, Latency: 50 * ms}}, Balancing{Policy: LeastConnections}, []int{0, 100}},
		{"fewest for its weight", []Candidate{{Weight: 3, Outstanding: 2}, {Weight: 1, Outstanding: 1}}, Balancing{Policy: LeastConnections}, []int{100, 0}},
		{"equally few", []Candidate{{Weight: 2, Outstanding: 2}, {Weight: 1, Outstanding: 1}}, Balancing{Policy: LeastConnections}, []int{67, 33}},
		{"the slow one is left alone", []Candidate{{Weight: 1, Latency: ms}, {Weight: 1, Latency: 20 * ms}}, Balancing{}, []int{100, 0}},
		{"until the quick one is busy", []Candidate{{Weight: 1, Latency: ms, Outstanding: 40}, {Weight: 1, Latency: 20 * ms}}, Balancing{}, []int{0, 100}},
		{"small differences do not matter", []Candidate{{Weight: 1, Latency: 200 * time.Microsecond}, {Weight: 1, Latency: 300 * time.Microsecond}}, Balancing{}, []int{50, 50}},
		{"an open connection is kept", []Candidate{{Weight: 1, Open: true, Latency: ms}, {Weight: 1, Latency: 700 * time.Microsecond}}, Balancing{}, []int{100, 0}},
		{"but not to a slow server", []Candidate{{Weight: 1, Open: true, Latency: 5 * ms}, {Weight: 1, Latency: ms}}, Balancing{}, []int{0, 100}},
		{"nor to a busy one", []Candidate{{Weight: 1, Open: true, Outstanding: 3}, {Weight: 1}}, Balancing{}, []int{0, 100}},
		{"weighted looks at no connection", []Candidate{{Weight: 1, Open: true}, {Weight: 1}}, Balancing{Policy: Weighted}, []int{50, 50}},
		{"silent", []Candidate{{Weight: 1, Outstanding: 1, Silence: 60 * ms}, {Weight: 1}}, Balancing{Policy: Weighted}, []int{0, 100}},
		{"silent as it usually is", []Candidate{{Weight: 1, Outstanding: 1, Silence: 60 * ms, Latency: 10 * ms}, {Weight: 1}}, Balancing{Policy: Weighted}, []int{50, 50}},
		{"all silent", []Candidate{{Weight: 1, Silence: time.Second}, {Weight: 1, Silence: time.Second}}, Balancing{Policy: Weighted}, []int{50, 50}},
		{"full", []Candidate{{Weight: 1, Full: true}, {Weight: 1}}, Balancing{Policy: First}, []int{0, 100}},
		{"full, but open", []Candidate{{Weight: 1, Full: true, Open: true}, {Weight: 1}}, Balancing{Policy: First}, []int{100, 0}},
		{"half warm", []Candidate{{Weight: 1, Warmth: 128}, {Weight: 1}}, Balancing{Policy: Weighted}, []int{25, 75}},
		{"cold and alone", []Candidate{{Weight: 1, Warmth: 1}}, Balancing{}, []int{100}},
		{"own zone", []Candidate{{Weight: 1}, {Weight: 1, Remote: true}}, Balancing{ZoneCapacity: 4}, []int{100, 0}},
		{"own zone without capacity", []Candidate{{Weight: 1, Outstanding: 4}, {Weight: 1, Remote: true}}, Balancing{ZoneCapacity: 4}, []int{0, 100}},
		{"own zone silent", []Candidate{{Weight: 1, Outstanding: 1, Silence: time.Second}, {Weight: 1, Remote: true}}, Balancing{Policy: First}, []int{0, 100}},
	} {
		got := share(t, tt.list, tt.how)
		for i := range got {
			if got[i] < tt.want[i]-3 || got[i] > tt.want[i]+3 {
				t.Errorf("%s: %v per cent, want %v", tt.name, got, tt.want)
				break
			}
		}
	}
	if at, why := Balance(nil, Balancing{}, 1); at != -1 || why != WhyNone {
		t.Errorf("of none %d was chosen: %v", at, why)
	}
}

func TestBalanceAllocatesNothing(t *testing.T) {
	list := []Candidate{{Weight: 1, Open: true, Warmth: 100}, {Weight: 2, Outstanding: 3}, {Weight: 1, Remote: true}}
	random := uint64(0)
	for p := range Policy(Policies) {
		if n := testing.AllocsPerRun(100, func() {
			random++
			Balance(list, Balancing{Policy: p, ZoneCapacity: 8}, random)
		}); n != 0 {
			t.Errorf("%v: %v allocations", p, n)
		}
		if PolicyOf(p.String()) != p {
			t.Errorf("%v is not read back", p)
		}
	}
}

func BenchmarkBalance(b *testing.B) {
	list := []Candidate{{Weight: 1, Open: true}, {Weight: 2, Outstanding: 3}, {Weight: 1, Latency: time.Millisecond}}
	random := uint64(0)
	for b.Loop() {
		random++
		Balance(list, Balancing{ZoneCapacity: 8}, random)
	}
}
