package lvs

import (
	"context"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"signalbox/config"
)

// health carries the checks of listed servers out and keeps their verdicts.
type health struct {
	list    []check
	standby time.Duration
	local   map[netip.Addr]bool // the services' addresses; none when there are only marks
	wake    func()

	active   atomic.Bool // one of the addresses is on this host
	verdicts atomic.Pointer[map[string]Verdict]
	mu       sync.Mutex // serialises publishing
}

func newHealth(cfg *config.Config, wake func()) *health {
	h := &health{list: checks(cfg), standby: cfg.LVS.StandbyProbes, local: make(map[netip.Addr]bool), wake: wake}
	for i := range cfg.LVS.Services {
		if a, _, err := config.LVSAddress(cfg.LVS.Services[i].Address); err == nil {
			h.local[a] = true
		}
	}
	h.verdicts.Store(&map[string]Verdict{})
	h.active.Store(true)
	return h
}

// run checks until ctx ends and every check has.
func (h *health) run(ctx context.Context) {
	var group sync.WaitGroup
	for i := range h.list {
		group.Go(func() { h.check(ctx, h.list[i]) })
	}
	if len(h.list) > 0 && len(h.local) > 0 {
		h.lookForAddress(ctx)
	}
	group.Wait()
}

// lookForAddress keeps active true to whether this director is the one that gets
// the traffic.
func (h *health) lookForAddress(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if addrs, err := net.InterfaceAddrs(); err == nil {
			h.active.Store(anyOf(addrs, h.local))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func anyOf(addrs []net.Addr, wanted map[netip.Addr]bool) bool {
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && wanted[p.Addr().Unmap()] {
			return true
		}
	}
	return false
}

// check carries one check out, faster while its server is needed.
func (h *health) check(ctx context.Context, c check) {
	p := newProber(c)
	defer p.asker.Close()
	var t tally
	for {
		err := p.run(ctx)
		if ctx.Err() != nil {
			return
		}
		t = t.take(err, c.cfg.Rise, c.cfg.Fall)
		h.publish(c.id, t.verdict(err))
		if !h.pause(ctx, c.cfg.Interval) {
			return
		}
	}
}

// pause waits for the next check, jittered; false when ctx has ended. A standby
// that becomes active stops waiting within a second.
func (h *health) pause(ctx context.Context, every time.Duration) bool {
	begin := time.Now()
	jitter := time.Duration(rand.Int64N(int64(every)/10 + 1))
	for {
		left := every
		if !h.active.Load() {
			left = max(every, h.standby)
		}
		if left -= jitter + time.Since(begin); left <= 0 {
			return true
		}
		timer := time.NewTimer(min(left, time.Second))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
}

func (h *health) publish(id string, v Verdict) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := *h.verdicts.Load()
	if was, ok := old[id]; ok && was == v {
		return
	}
	next := maps.Clone(old)
	next[id] = v
	h.verdicts.Store(&next)
	h.wake()
}
