package lvs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"signalbox/internal/durable"
)

// RealServer is the real server's side of direct routing and tunnelling: the
// virtual addresses on the loopback interface, and the settings that keep this
// host from telling the network that it has them. Without those it takes the
// addresses away from the director. It needs CAP_NET_ADMIN, and root for the
// settings. Its methods are for one goroutine.
type RealServer struct {
	VIPs []netip.Addr
	// Memory is the file in which is kept how things were, so that they are put
	// back even after a kill -9; empty: not kept.
	Memory string
	Log    *slog.Logger

	before *realServerBefore // nil: nothing was changed
}

const (
	loopback      = "lo"
	realServerAge = 5 * time.Second // between two looks at what others may have changed
)

// realServerBefore is how things were before the first change.
type realServerBefore struct {
	Boot   string            `json:"boot"`             // it is void after a reboot
	Sysctl map[string]string `json:"sysctl"`           // by path under /proc/sys
	Absent []netip.Addr      `json:"absent,omitempty"` // addresses that lo did not have
}

// realServerSeen is what a look at the host shows.
type realServerSeen struct {
	Sysctl  map[string]string
	OnLo    []netip.Addr          // host addresses (/32 and /128) of lo
	OnOther map[netip.Addr]string // addresses of other interfaces
}

// realServerStep is one change: a setting, an address to add, or one to remove.
type realServerStep struct {
	Sysctl, Value string
	Add, Remove   netip.Addr
}

func (s realServerStep) String() string {
	switch {
	case s.Add.IsValid():
		return "add " + s.Add.String() + " to lo"
	case s.Remove.IsValid():
		return "remove " + s.Remove.String() + " from lo"
	}
	return "set " + s.Sysctl + " to " + s.Value
}

// arpSettings are the settings, with the values that serve; the first is set.
// arp_ignore 1: answer only for addresses of the interface that is asked; 2 is
// that with the same subnet, and stays. arp_announce 2: never name the virtual
// address as the asking one. The kernel takes the larger of all and the
// interface; see Documentation/networking/ip-sysctl.rst. IPv6 needs none: Linux
// answers a neighbour solicitation only for the interface's own addresses.
var arpSettings = []struct {
	path   string
	serves []string
}{
	{"net/ipv4/conf/all/arp_ignore", []string{"1", "2"}},
	{"net/ipv4/conf/all/arp_announce", []string{"2"}},
	{"net/ipv4/conf/lo/arp_ignore", []string{"1", "2"}},
	{"net/ipv4/conf/lo/arp_announce", []string{"2"}},
}

// planRealServer are the steps that make this host a real server of vips, all
// settings before any address.
func planRealServer(vips []netip.Addr, seen realServerSeen) ([]realServerStep, error) {
	var steps []realServerStep
	if slices.ContainsFunc(vips, netip.Addr.Is4) {
		for _, a := range arpSettings {
			if !slices.Contains(a.serves, seen.Sysctl[a.path]) {
				steps = append(steps, realServerStep{Sysctl: a.path, Value: a.serves[0]})
			}
		}
	}
	for _, v := range vips {
		if other := seen.OnOther[v]; other != "" {
			return nil, fmt.Errorf("virtual address %s is on interface %s: a real server has it on lo only, or the network finds two hosts with it; remove it there", v, other)
		}
		if !slices.Contains(seen.OnLo, v) {
			steps = append(steps, realServerStep{Add: v})
		}
	}
	return steps, nil
}

// undoRealServer are the steps back to how things were, all addresses before
// any setting. What others have changed since stays.
func undoRealServer(vips []netip.Addr, before realServerBefore, seen realServerSeen) []realServerStep {
	var steps []realServerStep
	for _, v := range vips {
		if slices.Contains(before.Absent, v) && slices.Contains(seen.OnLo, v) {
			steps = append(steps, realServerStep{Remove: v})
		}
	}
	for _, a := range arpSettings {
		if was, ok := before.Sysctl[a.path]; ok && was != a.serves[0] && seen.Sysctl[a.path] == a.serves[0] {
			steps = append(steps, realServerStep{Sysctl: a.path, Value: was})
		}
	}
	return steps
}

// Up makes this host a real server, verifies it, and remembers how it was. After
// an error the host may be changed in part: call Down.
func (r *RealServer) Up() error {
	steps, err := r.keep()
	for _, s := range steps {
		r.Log.Info("real server", "step", s.String())
	}
	return err
}

// Run looks every few seconds whether all is still so, mends it, and puts
// everything back when ctx ends.
func (r *RealServer) Run(ctx context.Context) {
	tick := time.NewTicker(realServerAge)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if err := r.Down(); err != nil {
				r.Log.Error("real server: put back how it was", "err", err)
			}
			return
		case <-tick.C:
		}
		steps, err := r.keep()
		for _, s := range steps {
			r.Log.Warn("real server: somebody had changed it", "step", s.String())
		}
		if err != nil {
			r.Log.Error("real server", "err", err)
		}
	}
}

// keep carries out what is missing, and looks again whether it is there.
func (r *RealServer) keep() ([]realServerStep, error) {
	seen, err := lookRealServer()
	if err != nil {
		return nil, err
	}
	if r.before == nil {
		if err := r.remember(seen); err != nil {
			return nil, err
		}
	}
	steps, err := planRealServer(r.VIPs, seen)
	if err != nil {
		return nil, err
	}
	for _, s := range steps {
		if err := s.carryOut(); err != nil {
			return steps, err
		}
	}
	if len(steps) == 0 {
		return nil, nil
	}
	if seen, err = lookRealServer(); err != nil {
		return steps, err
	}
	left, err := planRealServer(r.VIPs, seen)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("real server: %s did not last: does another program manage it?", left[0])
	}
	return steps, err
}

// remember keeps how things were, unless the file of a run that was killed
// tells how they were before that.
func (r *RealServer) remember(seen realServerSeen) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	before := &realServerBefore{Boot: strings.TrimSpace(string(boot)), Sysctl: seen.Sysctl}
	for _, v := range r.VIPs {
		if !slices.Contains(seen.OnLo, v) {
			before.Absent = append(before.Absent, v)
		}
	}
	if r.Memory != "" {
		var kept realServerBefore
		text, err := os.ReadFile(r.Memory)
		if err == nil && json.Unmarshal(text, &kept) == nil && kept.Boot == before.Boot {
			before.Sysctl = kept.Sysctl
			for _, v := range kept.Absent {
				if !slices.Contains(before.Absent, v) {
					before.Absent = append(before.Absent, v)
				}
			}
		}
		text, _ = json.Marshal(before) // of plain fields
		if err := durable.Replace(r.Memory, text); err != nil {
			return fmt.Errorf("keep how this host was: %w", err)
		}
	}
	r.before = before
	return nil
}

// Down puts everything back as it was before Up, addresses first.
func (r *RealServer) Down() error {
	if r.before == nil {
		return nil
	}
	seen, err := lookRealServer()
	if err != nil {
		return err
	}
	// A virtual address of an earlier configuration is among the absent ones too.
	var errs []error
	for _, s := range undoRealServer(r.before.Absent, *r.before, seen) {
		r.Log.Info("real server: undo", "step", s.String())
		if err := s.carryOut(); err != nil {
			errs = append(errs, err)
			if s.Remove.IsValid() { // without the settings it would be announced
				return errors.Join(errs...)
			}
		}
	}
	if len(errs) == 0 {
		r.before = nil
		if r.Memory != "" {
			_ = os.Remove(r.Memory)
		}
	}
	return errors.Join(errs...)
}

func (s realServerStep) carryOut() error {
	switch {
	case s.Add.IsValid():
		return changeHostAddress(unix.RTM_NEWADDR, loopback, s.Add)
	case s.Remove.IsValid():
		return changeHostAddress(unix.RTM_DELADDR, loopback, s.Remove)
	}
	return WriteSysctl(s.Sysctl, s.Value)
}

func lookRealServer() (realServerSeen, error) {
	seen := realServerSeen{Sysctl: make(map[string]string), OnOther: make(map[netip.Addr]string)}
	for _, a := range arpSettings {
		value, err := ReadSysctl(a.path)
		if err != nil {
			return seen, err
		}
		seen.Sysctl[a.path] = value
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return seen, fmt.Errorf("list the interfaces: %w", err)
	}
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			return seen, fmt.Errorf("list the addresses of %s: %w", i.Name, err)
		}
		for _, a := range addresses {
			p, err := netip.ParsePrefix(a.String())
			switch {
			case err != nil:
			case i.Name != loopback:
				seen.OnOther[p.Addr()] = i.Name
			case p.IsSingleIP():
				seen.OnLo = append(seen.OnLo, p.Addr())
			}
		}
	}
	return seen, nil
}

const sysctlRoot = "/proc/sys/"

// ReadSysctl reads a setting of the kernel by its path, such as
// net/ipv4/conf/all/arp_ignore.
func ReadSysctl(path string) (string, error) {
	text, err := os.ReadFile(sysctlRoot + path)
	if err != nil {
		return "", fmt.Errorf("read setting %s: %w", path, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// WriteSysctl writes one, and reads it back.
func WriteSysctl(path, value string) error {
	if err := os.WriteFile(sysctlRoot+path, []byte(value), 0); err != nil {
		return fmt.Errorf("write setting %s: %w; it needs root", path, err)
	}
	now, err := ReadSysctl(path)
	if err == nil && now != value {
		err = fmt.Errorf("setting %s is %s after %s was written", path, now, value)
	}
	return err
}
