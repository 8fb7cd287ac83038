package lvs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/genetlink"
	nl "github.com/mdlayher/netlink"
)

// The part of IPVS's generic netlink interface that cloudflare/ipvs lacks. All
// numbers are of include/uapi/linux/ip_vs.h, which never changes one; the names
// there are in the comments.
const (
	genlName    = "IPVS" // IPVS_GENL_NAME
	genlVersion = 1      // IPVS_GENL_VERSION

	cmdSetService = 2  // IPVS_CMD_SET_SERVICE
	cmdDelService = 3  // IPVS_CMD_DEL_SERVICE
	cmdGetService = 4  // IPVS_CMD_GET_SERVICE
	cmdNewDaemon  = 9  // IPVS_CMD_NEW_DAEMON
	cmdDelDaemon  = 10 // IPVS_CMD_DEL_DAEMON
	cmdGetDaemon  = 11 // IPVS_CMD_GET_DAEMON
	cmdZero       = 16 // IPVS_CMD_ZERO

	attrService = 1 // IPVS_CMD_ATTR_SERVICE
	attrDaemon  = 3 // IPVS_CMD_ATTR_DAEMON

	svcFamily    = 1  // IPVS_SVC_ATTR_AF, u16
	svcProtocol  = 2  // IPVS_SVC_ATTR_PROTOCOL, u16
	svcAddress   = 3  // IPVS_SVC_ATTR_ADDR, union nf_inet_addr
	svcPort      = 4  // IPVS_SVC_ATTR_PORT, be16
	svcMark      = 5  // IPVS_SVC_ATTR_FWMARK, u32
	svcScheduler = 6  // IPVS_SVC_ATTR_SCHED_NAME, string
	svcFlags     = 7  // IPVS_SVC_ATTR_FLAGS, struct ip_vs_flags
	svcTimeout   = 8  // IPVS_SVC_ATTR_TIMEOUT, u32
	svcNetmask   = 9  // IPVS_SVC_ATTR_NETMASK, be32, or the prefix length for IPv6
	svcEngine    = 11 // IPVS_SVC_ATTR_PE_NAME, string

	daemonState     = 1 // IPVS_DAEMON_ATTR_STATE, u32
	daemonInterface = 2 // IPVS_DAEMON_ATTR_MCAST_IFN, string
	daemonID        = 3 // IPVS_DAEMON_ATTR_SYNC_ID, u32
	daemonMaxLen    = 4 // IPVS_DAEMON_ATTR_SYNC_MAXLEN, u16
	daemonGroup     = 5 // IPVS_DAEMON_ATTR_MCAST_GROUP, be32
	daemonGroup6    = 6 // IPVS_DAEMON_ATTR_MCAST_GROUP6, struct in6_addr
	daemonPort      = 7 // IPVS_DAEMON_ATTR_MCAST_PORT, u16
	daemonTTL       = 8 // IPVS_DAEMON_ATTR_MCAST_TTL, u8
)

// genlPatience bounds one exchange with the kernel, which answers at once unless
// it loads a module.
const genlPatience = 3 * time.Second

// genl is a connection for the calls of one operation. It is closed after them,
// so that an answer that came too late is never taken for a later call's.
type genl struct {
	conn   *genetlink.Conn
	family uint16
	until  time.Time
}

// withGenl calls do with a connection of the calling thread's network namespace.
func withGenl(ctx context.Context, do func(*genl) error) error {
	conn, err := genetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("open generic netlink: %w", err)
	}
	defer conn.Close()
	g := &genl{conn: conn}
	if t, ok := ctx.Deadline(); ok {
		g.until = t
	}
	if err := g.bound(); err != nil {
		return err
	}
	family, err := conn.GetFamily(genlName)
	if err != nil {
		return fmt.Errorf("open IPVS: %w", explain(err))
	}
	g.family = family.ID
	return do(g)
}

func (g *genl) bound() error {
	until := time.Now().Add(genlPatience)
	if !g.until.IsZero() && g.until.Before(until) {
		until = g.until
	}
	return g.conn.SetDeadline(until)
}

func (g *genl) call(command uint8, flags nl.HeaderFlags, attributes func(*nl.AttributeEncoder)) ([]genetlink.Message, error) {
	var data []byte
	if attributes != nil {
		e := nl.NewAttributeEncoder()
		attributes(e)
		var err error
		if data, err = e.Encode(); err != nil {
			return nil, err
		}
	}
	if err := g.bound(); err != nil {
		return nil, err
	}
	return g.conn.Execute(genetlink.Message{Header: genetlink.Header{Command: command, Version: genlVersion}, Data: data}, g.family, nl.Request|flags)
}

// service calls a command about one service, and nothing else: the kernel takes
// a command to zero without a service as one for all of them.
func (g *genl) service(command uint8, k Key, more func(*nl.AttributeEncoder)) error {
	_, err := g.call(command, nl.Acknowledge, func(e *nl.AttributeEncoder) {
		e.Nested(attrService, func(e *nl.AttributeEncoder) error {
			packIdentity(e, k)
			if more != nil {
				more(e)
			}
			return nil
		})
	})
	return err
}

func packIdentity(e *nl.AttributeEncoder, k Key) {
	e.Uint16(svcFamily, uint16(family(k.IPv6)))
	if k.Mark != 0 {
		e.Uint32(svcMark, k.Mark)
		return
	}
	e.Uint16(svcProtocol, uint16(k.Protocol))
	e.Bytes(svcAddress, k.Address.AsSlice())
	e.Bytes(svcPort, binary.BigEndian.AppendUint16(nil, k.Port))
}

// Zero sets the counters of these services and of their real servers to zero,
// and of no others.
func Zero(ctx context.Context, services ...Key) error {
	return each(ctx, "zero the counters of", services, func(g *genl, k Key) error { return g.service(cmdZero, k, nil) })
}

// Flush removes these services with their real servers, and no others: the
// kernel's own flush empties the whole table. One that is gone already is no
// error.
func Flush(ctx context.Context, services ...Key) error {
	return each(ctx, "remove", services, func(g *genl, k Key) error {
		err := g.service(cmdDelService, k, nil)
		if missing(err) {
			return nil
		}
		return err
	})
}

// each goes on after an error; all of them are returned.
func each(ctx context.Context, what string, services []Key, do func(*genl, Key) error) error {
	if len(services) == 0 {
		return nil
	}
	return withGenl(ctx, func(g *genl) error {
		var errs []error
		for _, k := range services {
			if err := ctx.Err(); err != nil {
				return errors.Join(append(errs, fmt.Errorf("%s %s: %w", what, k, err))...)
			}
			if err := do(g, k); err != nil {
				errs = append(errs, fmt.Errorf("%s %s: %w", what, k, err))
			}
		}
		return errors.Join(errs...)
	})
}

// SetEngine sets a service's persistence engine; "" takes it away. The kernel
// has one engine, sip, of module ip_vs_pe_sip, for UDP. The other settings are
// written too. UpdateService of cloudflare/ipvs takes the engine away again.
func SetEngine(ctx context.Context, k Key, s Settings, engine string) error {
	mask := full(k, s).Netmask
	err := withGenl(ctx, func(g *genl) error {
		return g.service(cmdSetService, k, func(e *nl.AttributeEncoder) {
			e.String(svcScheduler, s.Scheduler)
			// struct ip_vs_flags: the flags, and a mask of those to write.
			e.Bytes(svcFlags, binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, uint32(s.Flags)), 0xffffffff))
			e.Uint32(svcTimeout, s.Timeout)
			if k.IPv6 {
				e.Uint32(svcNetmask, uint32(mask.Bits()))
			} else {
				e.Bytes(svcNetmask, mask.AsSlice())
			}
			if engine != "" {
				e.String(svcEngine, engine)
			}
		})
	})
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("persistence engine %q of %s: the kernel has no such engine: modprobe ip_vs_pe_%s", engine, k, engine)
	}
	if err != nil {
		return fmt.Errorf("persistence engine %q of %s: %w", engine, k, err)
	}
	return nil
}

// Engine is the persistence engine of a service, "" for none.
func Engine(ctx context.Context, k Key) (string, error) {
	var engine string
	err := withGenl(ctx, func(g *genl) error {
		messages, err := g.call(cmdGetService, 0, func(e *nl.AttributeEncoder) {
			e.Nested(attrService, func(e *nl.AttributeEncoder) error { packIdentity(e, k); return nil })
		})
		for _, m := range messages {
			if err == nil {
				engine, err = unpackEngine(m.Data)
			}
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("persistence engine of %s: %w", k, err)
	}
	return engine, nil
}

func unpackEngine(data []byte) (engine string, err error) {
	d, err := nl.NewAttributeDecoder(data)
	if err != nil {
		return "", err
	}
	for d.Next() {
		if d.Type() == attrService {
			d.Nested(func(d *nl.AttributeDecoder) error {
				for d.Next() {
					if d.Type() == svcEngine {
						engine = d.String()
					}
				}
				return nil
			})
		}
	}
	return engine, d.Err()
}
