package lvslab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudflare/ipvs"

	"signalbox/lvs"
)

// glance is the destinations that a service had at one moment.
type glance struct {
	at    time.Time
	hosts []netip.Addr
}

// watchService reads a service's destinations from the kernel as often as it
// can, until stop.
func watchService(t *testing.T, k lvs.Key) (stop func() []glance) {
	t.Helper()
	client, err := ipvs.New()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var seen []glance
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			g := glance{at: time.Now()}
			list, _ := client.Destinations(ipvs.Service{Address: k.Address, Port: k.Port, Family: ipvs.INET, Protocol: ipvs.TCP}) // an error: none
			for _, d := range list {
				g.hosts = append(g.hosts, d.Address)
			}
			seen = append(seen, g)
			time.Sleep(time.Millisecond)
		}
	})
	return func() []glance {
		cancel()
		group.Wait()
		return seen
	}
}

// When the authority moves, the old primary leaves the writer's service and its
// connections end before the new one enters.
func TestWriterIsNeverTwo(t *testing.T) {
	l := director(t)
	v4, _ := l.vip(t)
	for _, s := range l.far[:2] {
		l.serve(t, s, s.name, 3306)
	}
	text := strings.NewReplacer("role: replica", "role: primary", "source: static", "source: read_only").Replace(
		settings("", "", fmt.Sprintf("{name: writes, address: %s, ports: 4000, servers: primary}", v4)))
	c := newCluster(lvs.Cluster{Settled: true, Writer: "far1", Epoch: 1})
	k := tcp(v4, 4000)
	r := start(t, text, c)
	l.become(t, r.owner, k, "far1=100")
	stop := watchService(t, k)
	names := [2]string{"far1", "far2"}
	const switches = 20
	var moved []time.Duration
	for n := range switches {
		old, next := names[n%2], names[(n+1)%2]
		held, err := l.call(l.clients[0], at(v4, 4000))
		if err != nil || held.server != old {
			t.Fatalf("switch %d: connected to %v, not to %s: %v", n, held, old, err)
		}
		began := time.Now()
		if n%3 == 0 { // announced: it may finish what it has
			c.set(lvs.Cluster{Settled: true, Leaving: old, Epoch: uint64(2*n + 2)})
			l.become(t, r.owner, k, old+"=0")
			if err := held.echo("still"); err != nil {
				t.Errorf("switch %d: the connection of the leaving writer: %v", n, err)
			}
		}
		if n%3 == 1 { // nobody for a time
			c.set(lvs.Cluster{Settled: true, Epoch: uint64(2*n + 2)})
			l.become(t, r.owner, k, "")
		}
		c.set(lvs.Cluster{Settled: true, Writer: next, Epoch: uint64(2*n + 3)})
		l.become(t, r.owner, k, next+"=100")
		moved = append(moved, time.Since(began))
		if err := held.echo("still"); err == nil {
			t.Errorf("switch %d: a connection to %s still works after the move to %s", n, old, next)
		}
		_ = held.Close()
	}
	slices.Sort(moved)
	t.Logf("%d switches: moved within %s (median), %s (longest)", switches, moved[len(moved)/2].Round(time.Millisecond), moved[len(moved)-1].Round(time.Millisecond))
	neverTwo(t, stop())
}

// neverTwo looks that no glance has two destinations, and that there were enough
// of them to tell.
func neverTwo(t *testing.T, seen []glance) {
	t.Helper()
	var gaps []time.Duration
	for i, g := range seen {
		if len(g.hosts) > 1 {
			t.Fatalf("at %s the writer's service had %v", g.at, g.hosts)
		}
		if i > 0 {
			gaps = append(gaps, g.at.Sub(seen[i-1].at))
		}
	}
	slices.Sort(gaps)
	t.Logf("%d looks at the kernel, one every %s (median; %s at the 99th percentile), never two", len(seen),
		gaps[len(gaps)/2].Round(10*time.Microsecond), gaps[len(gaps)*99/100].Round(10*time.Microsecond))
	if len(seen) < 50 { // how far apart they are is the machine's business
		t.Error("too few looks to tell")
	}
}

// Two writers that somebody made by hand are no more after the next comparison,
// and an operation of an older epoch is refused.
func TestSecondWriterByHand(t *testing.T) {
	l := director(t)
	v4, _ := l.vip(t)
	c := newCluster(lvs.Cluster{Settled: true, Writer: "far1", Epoch: 5})
	k := tcp(v4, 4000)
	r := start(t, settings("", "", fmt.Sprintf("{name: writes, address: %s, ports: 4000, servers: primary}", v4)), c)
	l.become(t, r.owner, k, "far1=100")
	run(t, fmt.Sprintf("ipvsadm -a -t %s:4000 -r %s:3306 -m", v4, l.far[1].v4))
	l.become(t, r.owner, k, "far1=100")
	old := lvs.Operation{Kind: lvs.SetDestination, Service: k, Destination: lvs.Destination{Address: at(l.far[0].v4, 3306), Weight: 50}, Epoch: 4}
	errs, err := r.owner.Apply(t.Context(), []lvs.Operation{old})
	if err = errors.Join(append(errs, err)...); err == nil || !strings.Contains(err.Error(), "epoch 4 is over") {
		t.Errorf("an operation of epoch 4 under epoch 5: %v", err)
	}
}
