package lvs

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// String is the key as the ledger, logs and labels have it: tcp/10.0.0.1:3306,
// udp/[2001:db8::1]:53, mark4/7 or mark6/7.
func (k Key) String() string {
	if k.Mark != 0 {
		if k.IPv6 {
			return "mark6/" + strconv.FormatUint(uint64(k.Mark), 10)
		}
		return "mark4/" + strconv.FormatUint(uint64(k.Mark), 10)
	}
	return k.Protocol.String() + "/" + netip.AddrPortFrom(k.Address, k.Port).String()
}

// String is tcp, udp, or the number.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return strconv.Itoa(int(p))
}

// ParseKey reads what String writes.
func ParseKey(text string) (Key, error) {
	kind, rest, _ := strings.Cut(text, "/")
	switch kind {
	case "mark4", "mark6":
		n, err := strconv.ParseUint(rest, 10, 32)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != rest {
			return Key{}, fmt.Errorf("%q is no firewall mark", rest)
		}
		return Key{IPv6: kind == "mark6", Mark: uint32(n)}, nil
	}
	ap, err := netip.ParseAddrPort(rest)
	if err != nil {
		return Key{}, fmt.Errorf("%q is no virtual service: want tcp/ADDRESS:PORT, udp/ADDRESS:PORT, mark4/N or mark6/N", text)
	}
	k := Key{IPv6: ap.Addr().Is6(), Address: ap.Addr(), Port: ap.Port()}
	switch kind {
	case "tcp":
		k.Protocol = TCP
	case "udp":
		k.Protocol = UDP
	default:
		n, err := strconv.ParseUint(kind, 10, 8)
		if err != nil || n == 0 || Protocol(n).String() != kind {
			return Key{}, fmt.Errorf("%q is no protocol", kind)
		}
		k.Protocol = Protocol(n)
	}
	if k.Address.Zone() != "" || k.Address.Is4In6() || k.String() != text {
		return Key{}, fmt.Errorf("%q is not in its shortest form", text)
	}
	return k, nil
}

// MarshalText is encoding.TextMarshaler's.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is encoding.TextUnmarshaler's.
func (k *Key) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKey(string(text))
	return err
}

var forwards = [...]string{Masquerade: "masq", Local: "local", Tunnel: "tunnel", DirectRoute: "dr"}

// String is the word of the configuration.
func (f Forward) String() string {
	if int(f) < len(forwards) {
		return forwards[f]
	}
	return strconv.Itoa(int(f))
}

var tunnels = [...]string{IPIP: "ipip", GUE: "gue", GRE: "gre"}

// String is the word of the configuration.
func (t TunnelType) String() string {
	if int(t) < len(tunnels) {
		return tunnels[t]
	}
	return strconv.Itoa(int(t))
}

// String shows a destination as status and plan do.
func (d Destination) String() string {
	s := fmt.Sprintf("%s %s weight %d", d.Address, d.Forward, d.Weight)
	if d.Forward == Tunnel {
		s = fmt.Sprintf("%s %s(%s) weight %d", d.Address, d.Forward, d.Tunnel.Type, d.Weight)
	}
	if d.Upper != 0 || d.Lower != 0 {
		s += fmt.Sprintf(" thresholds %d-%d", d.Lower, d.Upper)
	}
	return s
}

// String shows settings as status and plan do.
func (s Settings) String() string {
	text := s.Scheduler
	if s.Flags&Persistent != 0 {
		text += fmt.Sprintf(" persistent %ds/%d", s.Timeout, s.Netmask)
	}
	if rest := s.Flags &^ Persistent; rest != 0 {
		text += fmt.Sprintf(" flags %#x", uint32(rest))
	}
	return text
}
