package lvs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cloudflare/ipvs"
	"github.com/cloudflare/ipvs/netmask"
)

// raw is the kernel's table as it is, without any notion of whose it is.
type raw interface {
	// dump reads the services named, or all with nil. A service that does not
	// exist is missing from the answer.
	dump(only []Key) (Table, error)
	// apply carries one operation out.
	apply(o Operation) error
	close() error
}

// netlink is the table of the network namespace that the process was in when it
// was opened. Only one goroutine may use it at a time.
type netlink struct {
	client ipvs.Client
	calls  *atomic.Uint64
}

// openKernel connects to IPVS. calls counts the requests.
func openKernel(calls *atomic.Uint64) (raw, error) {
	c, err := ipvs.New() // on an error c is not nil, and no client either
	if err != nil {
		return nil, fmt.Errorf("open IPVS: %w", explain(err))
	}
	return &netlink{client: c, calls: calls}, nil
}

// explain says what to do about an error that opening or reading gives.
func explain(err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: IPVS needs CAP_NET_ADMIN: give it to the process, or run signalbox lvs serve and set lvs.mode to socket", err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: the kernel's IPVS is not loaded: modprobe ip_vs", err)
	}
	return err
}

func (n *netlink) close() error {
	if c, ok := n.client.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// missing: the kernel says ENOENT for an empty list and for a destination, and
// ESRCH for a service that does not exist.
func missing(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

func (n *netlink) dump(only []Key) (Table, error) {
	var services []ipvs.ServiceExtended
	if only == nil {
		n.calls.Add(1)
		all, err := n.client.Services()
		if err != nil && !missing(err) {
			return nil, fmt.Errorf("list virtual services: %w", explain(err))
		}
		services = all
	}
	for _, k := range only {
		n.calls.Add(1)
		s, err := n.client.Service(identity(k))
		switch {
		case err == nil:
			services = append(services, s)
		case !missing(err):
			return nil, fmt.Errorf("read virtual service %s: %w", k, explain(err))
		}
	}
	t := make(Table, len(services))
	for _, s := range services {
		k := keyOf(&s.Service)
		found := Service{Settings: settingsOf(&s.Service), Counters: counters(&s.Stats64, &s.Stats)}
		n.calls.Add(1)
		list, err := n.client.Destinations(identity(k))
		if err != nil && !missing(err) {
			return nil, fmt.Errorf("list real servers of %s: %w", k, explain(err))
		}
		found.Destinations = make(map[netip.AddrPort]Destination, len(list))
		found.Loads = make(map[netip.AddrPort]Load, len(list))
		for _, d := range list {
			v := destinationOf(&d.Destination)
			found.Destinations[v.Address] = v
			found.Loads[v.Address] = Load{Active: d.ActiveConnections, Inactive: d.InactiveConnections, Persistent: d.PersistentConnections,
				Counters: counters(&d.Stats64, &d.Stats)}
		}
		t[k] = found
	}
	return t, nil
}

func (n *netlink) apply(o Operation) error {
	if o.Kind == Adopt {
		return nil
	}
	if o.Kind == Expire {
		awaitExpiry(connectionTable, o.Service, o.Destination.Address, expiryPatience)
		return nil
	}
	n.calls.Add(1)
	err := n.request(o)
	switch {
	case err == nil:
		return nil
	case o.Kind == AddDestination && errors.Is(err, os.ErrExist): // a dump that missed it: it is ours, make it right
		n.calls.Add(1)
		err = n.client.UpdateDestination(identity(o.Service), wire(o.Destination))
	case (o.Kind == RemoveDestination || o.Kind == RemoveService) && missing(err):
		return nil
	case (o.Kind == AddService || o.Kind == SetService) && errors.Is(err, os.ErrNotExist):
		err = fmt.Errorf("%w: the kernel has no scheduler %q: modprobe ip_vs_%s", err, o.Settings.Scheduler, o.Settings.Scheduler)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", o, err)
	}
	return nil
}

func (n *netlink) request(o Operation) error {
	switch o.Kind {
	case AddService:
		return n.client.CreateService(full(o.Service, o.Settings))
	case SetService:
		return n.client.UpdateService(full(o.Service, o.Settings))
	case RemoveService:
		return n.client.RemoveService(identity(o.Service))
	case AddDestination:
		return n.client.CreateDestination(identity(o.Service), wire(o.Destination))
	case SetDestination:
		return n.client.UpdateDestination(identity(o.Service), wire(o.Destination))
	case RemoveDestination:
		return n.client.RemoveDestination(identity(o.Service), wire(o.Destination))
	}
	return fmt.Errorf("unknown operation %q", o.Kind)
}

func family(ipv6 bool) ipvs.AddressFamily {
	if ipv6 {
		return ipvs.INET6
	}
	return ipvs.INET
}

// identity is a key as the library takes it.
func identity(k Key) ipvs.Service {
	return ipvs.Service{Address: k.Address, Port: k.Port, FWMark: k.Mark, Family: family(k.IPv6), Protocol: ipvs.Protocol(k.Protocol)}
}

// full has everything; the kernel refuses a service without netmask (EINVAL).
func full(k Key, s Settings) ipvs.Service {
	v := identity(k)
	v.Scheduler, v.Timeout, v.Flags = s.Scheduler, s.Timeout, ipvs.Flags(s.Flags)
	v.Netmask = netmask.MaskFrom(s.Netmask, bits(k.IPv6))
	return v
}

func bits(ipv6 bool) int {
	if ipv6 {
		return 128
	}
	return 32
}

func wire(d Destination) ipvs.Destination {
	return ipvs.Destination{Address: d.Address.Addr(), Port: d.Address.Port(), Family: family(d.Address.Addr().Is6()), FwdMethod: ipvs.ForwardType(d.Forward),
		Weight: d.Weight, UpperThreshold: d.Upper, LowerThreshold: d.Lower,
		TunnelType: ipvs.TunnelType(d.Tunnel.Type), TunnelPort: d.Tunnel.Port, TunnelFlags: ipvs.TunnelFlags(d.Tunnel.Flags)}
}

// keyOf reads an identity back. A service by mark comes without address, and on
// some kernels with a protocol.
func keyOf(s *ipvs.Service) Key {
	if s.FWMark != 0 {
		return Key{IPv6: s.Family == ipvs.INET6, Mark: s.FWMark}
	}
	return Key{IPv6: s.Family == ipvs.INET6, Protocol: Protocol(s.Protocol), Address: s.Address, Port: s.Port}
}

func settingsOf(s *ipvs.Service) Settings {
	v := Settings{Scheduler: s.Scheduler, Flags: Flags(s.Flags) &^ hashed, Timeout: s.Timeout, Netmask: s.Netmask.Bits()}
	if v.Flags&Persistent == 0 {
		v.Timeout = 0 // it has no meaning then
	}
	return v
}

func destinationOf(d *ipvs.Destination) Destination {
	v := Destination{Address: netip.AddrPortFrom(d.Address, d.Port), Forward: Forward(d.FwdMethod), Weight: d.Weight,
		Upper: d.UpperThreshold, Lower: d.LowerThreshold}
	if v.Forward == Tunnel {
		v.Tunnel = Encapsulation{Type: TunnelType(d.TunnelType), Port: d.TunnelPort, Flags: uint16(d.TunnelFlags)}
	}
	return v
}

// counters are the 64-bit ones, or the 32-bit ones of a kernel without (before
// 4.1).
func counters(wide, narrow *ipvs.Stats) Counters {
	s := wide
	if *wide == (ipvs.Stats{}) {
		s = narrow
	}
	return Counters{Connections: s.Connections, PacketsIn: s.IncomingPackets, PacketsOut: s.OutgoingPackets, BytesIn: s.IncomingBytes, BytesOut: s.OutgoingBytes,
		ConnectionRate: s.ConnectionRate, PacketsInRate: s.IncomingPacketRate, PacketsOutRate: s.OutgoingPacketRate,
		BytesInRate: s.IncomingByteRate, BytesOutRate: s.OutgoingByteRate}
}

const (
	connectionTable     = "/proc/net/ip_vs_conn"
	expireNoDestination = "/proc/sys/net/ipv4/vs/expire_nodest_conn"
	expiryPatience      = 500 * time.Millisecond
	expiryLook          = 5 * time.Millisecond
)

// awaitExpiry returns when the kernel has no connection from a service to a
// destination any more, or after a while. From the moment of the removal the
// kernel forwards no packet to the destination (ip_vs_in drops it), so going on
// is safe in any case. With the sysctl expire_nodest_conn the connections end at
// once; without it they are silent until their time-outs, and there is nothing to
// wait for.
func awaitExpiry(path string, k Key, to netip.AddrPort, patience time.Duration) {
	if on, err := os.ReadFile(expireNoDestination); err != nil || strings.TrimSpace(string(on)) == "0" {
		return
	}
	for end := time.Now().Add(patience); ; {
		left, err := connected(path, k, to)
		if err != nil || left == 0 || time.Now().After(end) {
			return
		}
		time.Sleep(expiryLook)
	}
}

// connected counts the connections from a service to a destination in the
// kernel's list: protocol, client, port, virtual address, port, real address,
// port, state, all numbers in hexadecimal.
func connected(path string, k Key, to netip.AddrPort) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read the connections: %w", err)
	}
	defer f.Close()
	n := 0
	lines := bufio.NewScanner(io.LimitReader(f, math.MaxInt32))
	for lines.Scan() {
		c, ok := parseConnection(lines.Text())
		if ok && c.to == to && (k.Mark != 0 || c.protocol == k.Protocol && c.virtual == netip.AddrPortFrom(k.Address, k.Port)) {
			n++
		}
	}
	return n, lines.Err()
}

type connection struct {
	protocol    Protocol
	virtual, to netip.AddrPort
}

// parseConnection reads one line; the head and what is not understood is no
// connection.
func parseConnection(line string) (c connection, ok bool) {
	f := strings.Fields(line)
	if len(f) < 7 {
		return c, false
	}
	switch f[0] {
	case "TCP":
		c.protocol = TCP
	case "UDP":
		c.protocol = UDP
	default:
		return c, false
	}
	var ok1, ok2 bool
	c.virtual, ok1 = hexAddress(f[3], f[4])
	c.to, ok2 = hexAddress(f[5], f[6])
	return c, ok1 && ok2
}

// hexAddress reads C0A80001 or an IPv6 address, and a port in hexadecimal.
func hexAddress(address, port string) (netip.AddrPort, bool) {
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	if len(address) == 8 {
		v, err := strconv.ParseUint(address, 16, 32)
		if err != nil {
			return netip.AddrPort{}, false
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), uint16(p)), true
	}
	ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
	return netip.AddrPortFrom(ip, uint16(p)), err == nil && ip.Is6()
}
