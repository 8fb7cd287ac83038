package lvslab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A thousand services with twenty real servers each: what a comparison costs,
// and that a table that is right costs no write.
func TestThousandServices(t *testing.T) {
	l := director(t)
	v4, _ := l.vip(t)
	var servers []string
	for i := range 20 {
		servers = append(servers, fmt.Sprintf(`{name: s%d, address: "10.9.2.%d:3306", check: {type: none}}`, i, 100+i))
	}
	text := strings.Replace(settings("", "", fmt.Sprintf("{name: many, address: %s, ports: 10000-10999, slow_start: 0s, real_servers: [%s]}", v4, strings.Join(servers, ", "))),
		"interval: 500ms", "interval: 10m", 1)
	o := owner(t)
	count := func() (services, destinations int) {
		for _, s := range table(t, o) {
			services, destinations = services+1, destinations+len(s.Destinations)
		}
		return services, destinations
	}
	r := start(t, text, nil)
	// settled waits until the kernel gets no more calls, but at least so many,
	// and tells the time and their number.
	settled := func(what string, began time.Time, calls, least uint64) {
		t.Helper()
		n, last := r.owner.Calls(), time.Now()
		err := within(150*time.Second, func() error {
			if now := r.owner.Calls(); now != n {
				n, last = now, time.Now()
			}
			if n < calls+least || time.Since(last) < 1500*time.Millisecond || r.Status().Error != "" {
				return fmt.Errorf("not settled: %d calls, %s", n-calls, r.Status().Error)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%-44s %8s, %6d calls to the kernel", what, last.Sub(began).Round(time.Millisecond), n-calls)
	}
	settled("1,000 services x 20 servers made", time.Now(), 0, 21001)
	if s, d := count(); s != 1000 || d != 20000 {
		t.Fatalf("the kernel has %d services with %d servers", s, d)
	}
	calls, now := r.owner.Calls(), time.Now()
	r.Now()
	settled("compared, nothing to change", now, calls, 1001)
	// 1 dump of the services and 1 of each one's servers: 1001, and no write.
	if n := r.owner.Calls() - calls; n != 1001 {
		t.Errorf("a comparison without a change took %d calls, not 1001", n)
	}
	run(t, fmt.Sprintf("ipvsadm -d -t %[1]s:10500 -r 10.9.2.100:3306; ipvsadm -E -t %[1]s:10501 -s rr", v4))
	calls, now = r.owner.Calls(), time.Now()
	r.Now()
	settled("two repaired", now, calls, 1003)
	if n := r.owner.Calls() - calls; n != 1003 {
		t.Errorf("a comparison with two changes took %d calls, not 1003", n)
	}
	calls, now = r.owner.Calls(), time.Now()
	if err := r.Drain("s7", "", time.Hour); err != nil {
		t.Fatal(err)
	}
	settled("one server drained in all of them", now, calls, 3000)
	for k, s := range table(t, o) {
		if d, ok := s.Destinations[netip.MustParseAddrPort("10.9.2.107:3306")]; ok && d.Weight > 0 {
			t.Fatalf("%s still has s7 with weight %d", k, d.Weight)
		}
	}
	r.end()
	began := time.Now()
	l.flush(t)
	t.Logf("%-44s %8s", "own services flushed", time.Since(began).Round(time.Millisecond))
}
