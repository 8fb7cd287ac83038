package router

import (
	"math/bits"
	"time"
)

// Policy is how a server is chosen among those that may serve a read.
type Policy uint8

// The policies.
const (
	LeastTime        Policy = iota // the one that will answer soonest
	LeastConnections               // the one with the fewest statements for its weight
	Weighted                       // at random, by weight
	First                          // the first of the list

	Policies = 4 // how many there are
)

var policyNames = [Policies]string{"least-time", "least-connections", "weighted", "first"}

// String is the policy's word in the configuration.
func (p Policy) String() string { return policyNames[p] }

// PolicyOf is the policy of that name; LeastTime for an unknown one.
func PolicyOf(name string) Policy {
	for i, n := range policyNames {
		if n == name {
			return Policy(i)
		}
	}
	return LeastTime
}

// Candidate is a server that may serve a read, as Balance sees it.
type Candidate struct {
	Index       int           // the caller's, to recognise it by
	Weight      int           // 1 to 1000
	Outstanding int           // statements that run there now
	Latency     time.Duration // decaying mean of its time to answer; 0 for unknown
	Silence     time.Duration // how long it has owed an answer and given none
	Warmth      int           // 1 to 255: this many 256ths of its share, as it is just back; 0 for all
	Remote      bool          // in another zone than the proxy
	Full        bool          // it has no connection to spare
	Open        bool          // the session has a connection to it
}

// Balancing is how Balance chooses.
type Balancing struct {
	Policy       Policy
	ZoneCapacity int // statements times weight up to which a server of the own zone is preferred; 0 for no bound
}

// Why is what decided where a read runs: a stable code.
type Why uint8

// What decides.
const (
	WhyNone      Why = iota // no server can serve it
	WhyOnly                 // no other can
	WhyHint                 // a hint names it
	WhyKept                 // the session has a connection to it and no other is clearly sooner
	WhySooner               // it will answer clearly sooner
	WhyWeight               // by weight, among equals
	WhyFewest               // the fewest statements run there
	WhyFirst                // the first of the list that can
	WhyBehind               // the primary: no replica has the session's writes yet
	WhyNoReplica            // the primary: no replica can serve
	WhyPrimary              // the primary, by its share
	WhyUnplaced             // the primary: where the session's writes are is not known

	Whys = iota // how many there are
)

var whyNames = [Whys]string{"none", "only", "hint", "kept", "sooner", "weight", "fewest", "first", "behind", "no-replica", "primary-share",
	"unplaced"}

// String is the code.
func (w Why) String() string { return whyNames[w] }

// MaxCandidates is how many candidates Balance looks at.
const MaxCandidates = 64

// Balance chooses among the candidates and returns the place of the chosen one,
// -1 when there are none. random is any number; the same number and candidates
// give the same choice. It allocates nothing.
//
// Servers that owe answers and give none, that have no connection to spare or
// are of another zone are left out as long as others remain. One that is just
// back is left out at random, less and less often.
func Balance(list []Candidate, how Balancing, random uint64) (int, Why) {
	list = list[:min(len(list), MaxCandidates)]
	if len(list) <= 1 {
		return len(list) - 1, Why(len(list)) // none or only
	}
	b := balance{list: list, random: random}
	for i := range list {
		b.heaviest = max(b.heaviest, list[i].Weight)
	}
	set := ^uint64(0) >> (64 - len(list))
	for _, fault := range [...]fault{full, silent, cold} {
		set = b.without(set, fault)
	}
	set = b.zone(set, how.ZoneCapacity)
	if set&(set-1) == 0 {
		return bits.TrailingZeros64(set), WhyOnly
	}
	switch how.Policy {
	case First:
		return bits.TrailingZeros64(set), WhyFirst
	case Weighted:
		return b.pick(set), WhyWeight
	case LeastConnections:
		return b.fewest(set)
	default:
		return b.soonest(set)
	}
}

type balance struct {
	list     []Candidate
	random   uint64
	heaviest int // weight
}

// next is the next random number (splitmix64, Steele et al. 2014).
func (b *balance) next() uint64 {
	b.random += 0x9e3779b97f4a7c15
	z := b.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// fault is why a server is left out as long as others remain.
type fault uint8

const (
	full   fault = iota // no connection to spare
	silent              // it owes an answer for much longer than it usually takes
	cold                // just back
)

// without leaves out those that have the fault, unless none would be left.
func (b *balance) without(set uint64, f fault) uint64 {
	rest := set
	for s := set; s != 0; s &= s - 1 {
		if i := bits.TrailingZeros64(s); b.has(&b.list[i], f) {
			rest &^= 1 << i
		}
	}
	if rest == 0 {
		return set
	}
	return rest
}

// silentFloor is the shortest silence that is one.
const silentFloor = 50 * time.Millisecond

func (b *balance) has(c *Candidate, f fault) bool {
	switch f {
	case full:
		return c.Full && !c.Open
	case silent:
		return c.Silence > silentFloor+8*c.Latency
	default:
		return c.Warmth != 0 && int(b.next()&0xff) >= c.Warmth
	}
}

// zone keeps those of the own zone that have capacity, if any.
func (b *balance) zone(set uint64, capacity int) uint64 {
	near := set
	for s := set; s != 0; s &= s - 1 {
		i := bits.TrailingZeros64(s)
		if c := &b.list[i]; c.Remote || capacity > 0 && c.Outstanding >= capacity*c.Weight {
			near &^= 1 << i
		}
	}
	if near == 0 {
		return set
	}
	return near
}

// pick takes one of set, each as often as its weight says.
func (b *balance) pick(set uint64) int {
	total := uint64(0)
	for s := set; s != 0; s &= s - 1 {
		total += uint64(b.list[bits.TrailingZeros64(s)].Weight)
	}
	last := bits.TrailingZeros64(set)
	if total == 0 {
		return last
	}
	at := b.next() % total
	for s := set; s != 0; s &= s - 1 {
		last = bits.TrailingZeros64(s)
		w := uint64(b.list[last].Weight)
		if at < w {
			break
		}
		at -= w
	}
	return last
}

// fewest takes the one with the fewest statements for its weight; among equals
// one that is open, then by weight.
func (b *balance) fewest(set uint64) (int, Why) {
	var best *Candidate
	equal := uint64(0)
	for s := set; s != 0; s &= s - 1 {
		i := bits.TrailingZeros64(s)
		c := &b.list[i]
		if best != nil {
			mine, its := c.Outstanding*best.Weight, best.Outstanding*c.Weight
			if mine > its {
				continue
			}
			if mine < its {
				equal = 0
			}
		}
		best, equal = c, equal|1<<i
	}
	if open := equal & b.open(); open != 0 {
		equal = open
	}
	return b.pick(equal), WhyFewest
}

func (b *balance) open() (set uint64) {
	for i := range b.list {
		if b.list[i].Open {
			set |= 1 << i
		}
	}
	return set
}

// Costs within a quarter of half as much again are equal; a server to which a
// connection must be opened first is taken when it costs less than half.
const (
	clearly = 6 // quarters
	opening = 8
)

// soonest compares two servers drawn by weight (Mitzenmacher 2001, the power of
// two choices): looking at all would send every session to the same one. The
// session's open connections come first.
func (b *balance) soonest(set uint64) (int, Why) {
	open := set & b.open()
	if open == 0 {
		return b.sooner(set)
	}
	at, why := b.sooner(open)
	if why == WhyWeight || why == WhyOnly {
		why = WhyKept
	}
	if closed := set &^ open; closed != 0 {
		if other := b.pick(closed); b.cost(other)*opening < b.cost(at)*4 {
			return other, WhySooner
		}
	}
	return at, why
}

func (b *balance) sooner(set uint64) (int, Why) {
	first := b.pick(set)
	rest := set &^ (1 << first)
	if rest == 0 {
		return first, WhyOnly
	}
	second := b.pick(rest)
	switch x, y := b.cost(first), b.cost(second); {
	case y*clearly < x*4:
		return second, WhySooner
	case x*clearly < y*4:
		return first, WhySooner
	}
	return first, WhyWeight
}

// costFloor is added to every latency: smaller differences do not matter.
const costFloor = 250 * time.Microsecond

// cost is about the time, in nanoseconds, until a statement sent now is
// answered. What runs on a server counts by its weight.
func (b *balance) cost(i int) float64 {
	c := &b.list[i]
	queue := 1 + float64(c.Outstanding)*float64(b.heaviest)/float64(max(c.Weight, 1))
	return float64(max(c.Latency, c.Silence)+costFloor) * queue
}
