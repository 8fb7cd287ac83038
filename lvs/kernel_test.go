package lvs

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cloudflare/ipvs"
	"github.com/cloudflare/ipvs/netmask"
)

// libraryKernel answers the library's calls as Linux 6.1 was seen to: flags with
// the kernel's own bit, lists that are ErrNotExist when empty, ESRCH for a
// missing service, destinations newest first, marks without address.
type libraryKernel struct {
	services []ipvs.ServiceExtended
	dests    map[Key][]ipvs.DestinationExtended
	writes   int
}

func (f *libraryKernel) at(s ipvs.Service) int {
	return slices.IndexFunc(f.services, func(v ipvs.ServiceExtended) bool { return keyOf(&v.Service) == keyOf(&s) })
}

func (f *libraryKernel) Info() (ipvs.Info, error)     { return ipvs.Info{}, nil }
func (f *libraryKernel) Config() (ipvs.Config, error) { return ipvs.Config{}, nil }
func (f *libraryKernel) SetConfig(ipvs.Config) error  { return nil }
func (f *libraryKernel) Close() error                 { return nil }
func (f *libraryKernel) listed(n int) (err error) {
	if n == 0 {
		err = os.ErrNotExist
	}
	return err
}

func (f *libraryKernel) Services() ([]ipvs.ServiceExtended, error) {
	return f.services, f.listed(len(f.services))
}

func (f *libraryKernel) Service(s ipvs.Service) (ipvs.ServiceExtended, error) {
	if i := f.at(s); i >= 0 {
		return f.services[i], nil
	}
	return ipvs.ServiceExtended{}, syscall.ESRCH
}

func (f *libraryKernel) set(s ipvs.Service) (ipvs.ServiceExtended, error) {
	if s.Netmask.Bits() < 0 {
		return ipvs.ServiceExtended{}, syscall.EINVAL
	}
	if s.Scheduler == "" || s.Scheduler == "twos" {
		return ipvs.ServiceExtended{}, os.ErrNotExist
	}
	s.Flags |= ipvs.ServiceHashed
	if s.FWMark != 0 {
		s.Address, s.Port, s.Protocol = netip.Addr{}, 0, 0
	}
	f.writes++
	return ipvs.ServiceExtended{Service: s}, nil
}

func (f *libraryKernel) CreateService(s ipvs.Service) error {
	if f.at(s) >= 0 {
		return syscall.EEXIST
	}
	v, err := f.set(s)
	if err == nil {
		f.services = append(f.services, v)
	}
	return err
}

func (f *libraryKernel) UpdateService(s ipvs.Service) error {
	i := f.at(s)
	if i < 0 {
		return syscall.ESRCH
	}
	v, err := f.set(s)
	if err == nil {
		f.services[i] = v
	}
	return err
}

func (f *libraryKernel) RemoveService(s ipvs.Service) error {
	i := f.at(s)
	if i < 0 {
		return syscall.ESRCH
	}
	f.writes++
	delete(f.dests, keyOf(&s))
	f.services = slices.Delete(f.services, i, i+1)
	return nil
}

func (f *libraryKernel) Destinations(s ipvs.Service) ([]ipvs.DestinationExtended, error) {
	list := f.dests[keyOf(&s)]
	return list, f.listed(len(list))
}

func (f *libraryKernel) dest(s ipvs.Service, d ipvs.Destination) int {
	return slices.IndexFunc(f.dests[keyOf(&s)], func(v ipvs.DestinationExtended) bool { return v.Address == d.Address && v.Port == d.Port })
}

func (f *libraryKernel) CreateDestination(s ipvs.Service, d ipvs.Destination) error {
	switch {
	case f.at(s) < 0:
		return syscall.ESRCH
	case f.dest(s, d) >= 0:
		return syscall.EEXIST
	case d.LowerThreshold > d.UpperThreshold:
		return syscall.ERANGE
	}
	f.writes++
	if f.dests == nil {
		f.dests = make(map[Key][]ipvs.DestinationExtended)
	}
	f.dests[keyOf(&s)] = append([]ipvs.DestinationExtended{{Destination: d}}, f.dests[keyOf(&s)]...)
	return nil
}

func (f *libraryKernel) UpdateDestination(s ipvs.Service, d ipvs.Destination) error {
	i := f.dest(s, d)
	if i < 0 {
		return syscall.ENOENT
	}
	f.writes++
	f.dests[keyOf(&s)][i].Destination = d
	return nil
}

func (f *libraryKernel) RemoveDestination(s ipvs.Service, d ipvs.Destination) error {
	i := f.dest(s, d)
	if i < 0 {
		return syscall.ENOENT
	}
	f.writes++
	f.dests[keyOf(&s)] = slices.Delete(f.dests[keyOf(&s)], i, i+1)
	return nil
}

// What is written is read back equal, for every kind of service, so that an
// unchanged table costs no write.
func TestKernelReadsBackWhatItWrote(t *testing.T) {
	n := &netlink{client: &libraryKernel{}, calls: new(atomic.Uint64)}
	want := Table{
		key("tcp/10.9.0.1:3306"):    svc(Settings{Scheduler: "wlc", Netmask: 32}, dst("10.0.0.1:3306", 5), dst("10.0.0.2:3306", 0)),
		key("udp/10.9.0.1:53"):      svc(Settings{Scheduler: "rr", Netmask: 32, Flags: OnePacket}),
		key("tcp/[2001:db8::1]:80"): svc(Settings{Scheduler: "mh", Netmask: 64, Flags: Persistent | Option1 | Option2, Timeout: 30}, dst("[2001:db8::2]:80", 1)),
		key("mark4/7"):              svc(Settings{Scheduler: "sh", Netmask: 24, Flags: Persistent, Timeout: 5}, Destination{Address: addr("10.0.0.1:0"), Forward: DirectRoute, Weight: 70000 - 5000, Upper: 9, Lower: 3}),
		key("mark6/7"):              svc(Settings{Scheduler: "fo", Netmask: 128}, Destination{Address: addr("10.0.0.1:0"), Forward: Tunnel, Tunnel: Encapsulation{Type: GUE, Port: 6080, Flags: 2}, Weight: 1}),
	}
	if got, err := n.dump(nil); err != nil || len(got) != 0 {
		t.Fatalf("an empty table: %v %v", got, err)
	}
	for _, o := range Plan(want, Table{}).Operations {
		if err := n.apply(o); err != nil {
			t.Fatal(err)
		}
	}
	got, err := n.dump(nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, s := range got {
		s.Owned = true
		got[k] = s
	}
	if p := Plan(want, got); len(got) != len(want) || len(p.Operations) != 0 {
		t.Errorf("%d services, and the plan wants %v", len(got), p.Operations)
	}
	part, err := n.dump([]Key{key("mark4/7"), key("tcp/10.9.0.9:1")})
	if err != nil || len(part) != 1 || len(part[key("mark4/7")].Destinations) != 1 {
		t.Errorf("a part of it: %v %v", part, err)
	}
}

func TestKernelErrors(t *testing.T) {
	f := &libraryKernel{}
	n := &netlink{client: f, calls: new(atomic.Uint64)}
	k, d := key("tcp/10.9.0.1:3306"), dst("10.0.0.1:3306", 5)
	run := func(kind Kind, change func(*Operation)) error {
		o := Operation{Kind: kind, Service: k, Settings: wlc, Destination: d}
		if change != nil {
			change(&o)
		}
		return n.apply(o)
	}
	if err := run(RemoveService, nil); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
	if err := run(AddDestination, nil); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("a destination without service: %v", err)
	}
	if err := run(AddService, func(o *Operation) { o.Settings.Scheduler = "twos" }); err == nil || !strings.Contains(err.Error(), "modprobe ip_vs_twos") {
		t.Errorf("unknown scheduler: %v", err)
	}
	if err := errors.Join(run(AddService, nil), run(AddDestination, nil)); err != nil {
		t.Fatal(err)
	}
	if err := run(AddService, nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("a service twice: %v", err)
	}
	if err := run(AddDestination, func(o *Operation) { o.Destination.Weight = 9 }); err != nil || f.dests[k][0].Weight != 9 {
		t.Errorf("a destination that a dump missed: %v %v", err, f.dests[k])
	}
	if err := run(AddDestination, func(o *Operation) { o.Destination = Destination{Address: addr("10.0.0.2:1"), Lower: 5, Upper: 1} }); !errors.Is(err, syscall.ERANGE) {
		t.Errorf("thresholds: %v", err)
	}
	if err := errors.Join(run(RemoveDestination, nil), run(RemoveDestination, nil)); err != nil {
		t.Errorf("removing twice: %v", err)
	}
	if err := run(SetDestination, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("changing what is gone: %v", err)
	}
	for err, want := range map[error]string{os.ErrNotExist: "modprobe ip_vs", os.ErrPermission: "CAP_NET_ADMIN", syscall.EPERM: "CAP_NET_ADMIN"} {
		if got := explain(err).Error(); !strings.Contains(got, want) {
			t.Errorf("%v is explained as %s", err, got)
		}
	}
}

func TestNonPrefixMaskIsSeenAsDifferent(t *testing.T) {
	s := settingsOf(&ipvs.Service{Scheduler: "wlc", Family: ipvs.INET, Netmask: netmask.MaskFrom4([4]byte{255, 0, 255, 0})})
	if s == (Settings{Scheduler: "wlc", Netmask: 32}) || s.Netmask != -1 {
		t.Errorf("%+v", s)
	}
}

const procConnections = `Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0A000A05 C350 0A090001 0CEA 0A000001 0CEA ESTABLISHED     899
TCP 0A000A05 C351 0A090001 0CEA 0A000002 0CEA ESTABLISHED     899
UDP 0A000A05 C352 0A090001 0CEA 0A000001 0CEA UDP             299
TCP 20010db8000000000000000000000005 C350 2001:0db8:0000:0000:0000:0000:0000:0001 0050 2001:0db8:0000:0000:0000:0000:0000:0002 0050 ESTABLISHED     899
TCP short
`

func TestConnectionsAreCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ip_vs_conn")
	if err := os.WriteFile(path, []byte(procConnections), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		key, to string
		want    int
	}{
		{"tcp/10.9.0.1:3306", "10.0.0.1:3306", 1}, {"udp/10.9.0.1:3306", "10.0.0.1:3306", 1}, {"tcp/10.9.0.1:3307", "10.0.0.1:3306", 0},
		{"mark4/7", "10.0.0.1:3306", 2}, {"tcp/[2001:db8::1]:80", "[2001:db8::2]:80", 1},
	} {
		if n, err := connected(path, key(tt.key), addr(tt.to)); err != nil || n != tt.want {
			t.Errorf("%s -> %s: %d %v, want %d", tt.key, tt.to, n, err, tt.want)
		}
	}
}

func FuzzParseConnection(f *testing.F) {
	for _, line := range strings.Split(procConnections, "\n") {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if c, ok := parseConnection(line); ok && (!c.to.IsValid() || !c.virtual.IsValid()) {
			t.Fatalf("%q: %+v", line, c)
		}
	})
}

// large is the table of the largest installations: 1,000 services with 20 real
// servers each.
func large() (desired Table) {
	desired = make(Table)
	for i := range 1000 {
		s := svc(wlc)
		for j := range 20 {
			a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(j), byte(i)}), 3306)
			s.Destinations[a] = Destination{Address: a, Forward: DirectRoute, Weight: 100}
		}
		desired[Key{Protocol: TCP, Address: netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), Port: 3306}] = s
	}
	return desired
}

func BenchmarkPlanFromNothing(b *testing.B) {
	desired := large()
	b.ReportAllocs()
	for b.Loop() {
		if n := len(Plan(desired, Table{}).Operations); n != 21000 {
			b.Fatal(n)
		}
	}
}

func BenchmarkPlanUnchanged(b *testing.B) {
	desired, actual := large(), large()
	for k, s := range actual {
		s.Owned = true
		actual[k] = s
	}
	b.ReportAllocs()
	for b.Loop() {
		if n := len(Plan(desired, actual).Operations); n != 0 {
			b.Fatal(n)
		}
	}
}

// A whole pass over an unchanged table reads it and writes nothing.
func TestUnchangedTableCostsNoWrite(t *testing.T) {
	f := &libraryKernel{}
	o := ownerOf(nil, t.TempDir(), nil)
	o.open = func() (raw, error) { return &netlink{client: f, calls: &o.calls}, nil }
	desired := large()
	begin := time.Now()
	errs, err := o.Apply(t.Context(), Plan(desired, Table{}).Operations)
	if err != nil || slices.ContainsFunc(errs, func(e error) bool { return e != nil }) {
		t.Fatal(err, errors.Join(errs...))
	}
	made, calls := f.writes, o.Calls()
	if made != 21000 || calls != 21000 {
		t.Errorf("made with %d writes and %d requests", made, calls)
	}
	t.Logf("made in %s without the kernel's own time", time.Since(begin))
	begin = time.Now()
	actual, err := o.Dump(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := Plan(desired, actual)
	t.Logf("compared in %s without the kernel's own time", time.Since(begin))
	if len(p.Operations) != 0 || f.writes != made {
		t.Errorf("an unchanged table wants %d operations; %d writes", len(p.Operations), f.writes-made)
	}
	if n := o.Calls() - calls; n != 1001 {
		t.Errorf("%d requests for a whole comparison, want 1 + 1000", n)
	}
}
