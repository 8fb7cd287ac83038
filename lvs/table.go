// Package lvs is the LVS role: it keeps the kernel's IPVS table equal to what
// the cluster's health and authority say it should be.
//
// It owns only the services that it made; what others put into the table is
// never touched. It knows nothing of client sessions, and does not decide who may
// take writes: it follows that decision.
package lvs

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Protocol is an IP protocol number; 0 for a service by firewall mark.
type Protocol uint16

// Protocols that the configuration can name.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// Key identifies a virtual service in the kernel: an address, port and protocol,
// or a family and a firewall mark.
type Key struct {
	IPv6     bool
	Protocol Protocol   // 0 with a mark
	Address  netip.Addr // invalid with a mark
	Port     uint16     // 0 with a mark
	Mark     uint32     // 0 with an address
}

// Flags are a service's flags as the kernel numbers them (linux/ip_vs.h), without
// the one that it sets itself.
type Flags uint32

// What Flags may hold. The scheduler's meaning of its options: sh and mh take
// Option1 as fallback and Option2 as port.
const (
	Persistent Flags = 0x01
	hashed     Flags = 0x02 // the kernel's own, masked when a service is read
	OnePacket  Flags = 0x04
	Option1    Flags = 0x08
	Option2    Flags = 0x10
	Option3    Flags = 0x20
)

// Settings are how a service schedules.
type Settings struct {
	Scheduler string `json:"scheduler"`
	Flags     Flags  `json:"flags,omitempty"`
	Timeout   uint32 `json:"timeout,omitempty"` // of persistence, seconds
	Netmask   int    `json:"netmask"`           // of persistence, prefix length; -1 read from the kernel: no prefix
}

// Forward is a forwarding method as the kernel numbers it.
type Forward uint32

// Forwarding methods.
const (
	Masquerade Forward = iota
	Local
	Tunnel
	DirectRoute
)

// TunnelType is how Tunnel wraps packets, as the kernel numbers it.
type TunnelType uint8

// Tunnel types.
const (
	IPIP TunnelType = iota
	GUE
	GRE
)

// Encapsulation is how packets to one destination are wrapped; zero unless the
// destination's Forward is Tunnel.
type Encapsulation struct {
	Type  TunnelType `json:"type,omitempty"`
	Port  uint16     `json:"port,omitempty"`  // of GUE
	Flags uint16     `json:"flags,omitempty"` // 1 checksum, 2 remote checksum
}

// Destination is one real server of a service. Its address is its identity.
type Destination struct {
	Address netip.AddrPort `json:"address"`
	Forward Forward        `json:"forward"`
	Tunnel  Encapsulation  `json:"tunnel,omitzero"`
	Weight  uint32         `json:"weight"` // 0 takes no new connections
	Upper   uint32         `json:"upper,omitempty"`
	Lower   uint32         `json:"lower,omitempty"`
}

// Counters are what the kernel counted since the object was made. Rates are per
// second.
type Counters struct {
	Connections, PacketsIn, PacketsOut, BytesIn, BytesOut                    uint64
	ConnectionRate, PacketsInRate, PacketsOutRate, BytesInRate, BytesOutRate uint64
}

// Load is what a destination carries now.
type Load struct {
	Active, Inactive, Persistent uint32 // connections
	Counters                     Counters
}

// Service is a virtual service, wanted or found.
type Service struct {
	Settings
	Destinations map[netip.AddrPort]Destination `json:"destinations"`

	// Of a wanted service only.
	Exclusive bool   `json:"-"` // the writer's: never two destinations, not for a moment
	Epoch     uint64 `json:"-"` // of the authority that an exclusive service follows
	Adopt     bool   `json:"-"` // take an equal key over from whoever made it

	// Of a found service only.
	Owned    bool                    `json:"owned"` // we made it
	Counters Counters                `json:"counters"`
	Loads    map[netip.AddrPort]Load `json:"loads"`
}

// Table is all services by their identity.
type Table map[Key]Service

// keys are the table's keys in a stable order.
func (t Table) keys() []Key { return slices.SortedFunc(maps.Keys(t), Key.compare) }

func (k Key) compare(o Key) int {
	return cmp.Or(k.Address.Compare(o.Address), cmp.Compare(k.Port, o.Port), cmp.Compare(k.Protocol, o.Protocol),
		cmp.Compare(k.Mark, o.Mark), compareBool(k.IPv6, o.IPv6))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// addresses are the destinations' addresses in a stable order.
func (s Service) addresses() []netip.AddrPort {
	return slices.SortedFunc(maps.Keys(s.Destinations), netip.AddrPort.Compare)
}
