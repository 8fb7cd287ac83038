package lvs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	nl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// changeHostAddress adds (unix.RTM_NEWADDR) or removes (unix.RTM_DELADDR) an
// address as /32 or /128 of an interface. One that is there already, or gone
// already, is no error.
func changeHostAddress(what nl.HeaderType, device string, a netip.Addr) error {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", device, err)
	}
	conn, err := nl.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return fmt.Errorf("open route netlink: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(genlPatience)); err != nil {
		return err
	}
	data, err := packHostAddress(i.Index, a)
	if err != nil {
		return err
	}
	flags := nl.Request | nl.Acknowledge
	verb := "remove"
	if what == unix.RTM_NEWADDR {
		flags |= nl.Create | nl.Excl
		verb = "add"
	}
	_, err = conn.Execute(nl.Message{Header: nl.Header{Type: what, Flags: flags}, Data: data})
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s address %s, interface %s: %w; it needs CAP_NET_ADMIN", verb, a, device, err)
	}
	return nil
}

// packHostAddress is struct ifaddrmsg of include/uapi/linux/if_addr.h with its
// attributes.
func packHostAddress(index int, a netip.Addr) ([]byte, error) {
	family, flags := byte(unix.AF_INET), byte(0)
	if a.Is6() {
		// On lo there is nobody to have a duplicate with.
		family, flags = unix.AF_INET6, unix.IFA_F_NODAD
	}
	head := []byte{family, byte(a.BitLen()), flags, unix.RT_SCOPE_UNIVERSE}
	head = binary.NativeEndian.AppendUint32(head, uint32(index))
	e := nl.NewAttributeEncoder()
	e.Bytes(unix.IFA_LOCAL, a.AsSlice())
	e.Bytes(unix.IFA_ADDRESS, a.AsSlice())
	if a.Is6() {
		// struct ifa_cacheinfo: preferred for 0 s, valid for ever, so that the kernel
		// never chooses it as the source of a connection of this host's own.
		info := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, 0), ^uint32(0))
		e.Bytes(unix.IFA_CACHEINFO, append(info, make([]byte, 8)...))
	}
	attributes, err := e.Encode()
	return append(head, attributes...), err
}
