package lvs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	nl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"signalbox/config"
)

// SyncState is which half of the kernel's connection synchronisation a daemon
// is. A director may run both, and a pair that does so needs no switch when the
// address moves.
type SyncState uint32

// The halves, of include/uapi/linux/ip_vs.h.
const (
	SyncMaster SyncState = 1 // IP_VS_STATE_MASTER: tells of its connections
	SyncBackup SyncState = 2 // IP_VS_STATE_BACKUP: takes over what the other tells
)

// String is ipvsadm's word.
func (s SyncState) String() string {
	switch s {
	case SyncMaster:
		return "master"
	case SyncBackup:
		return "backup"
	}
	return fmt.Sprintf("state %d", uint32(s))
}

// SyncDaemon is one of the kernel's synchronisation daemons. The kernel has at
// most one of each state in a network namespace.
type SyncDaemon struct {
	State     SyncState
	Interface string     // of the multicast; IFNAMSIZ, at most 15 bytes
	ID        uint8      // both directors' must be equal; a backup with 0 takes any
	MaxLen    uint16     // bytes in a packet; 0: as the interface's MTU allows
	Group     netip.Addr // multicast group; not valid: 224.0.0.81
	Port      uint16     // 0: 8848
	TTL       uint8      // 0: 1, which no router forwards
}

// What the kernel takes for what is left out (net/netfilter/ipvs/ip_vs_sync.c).
const (
	syncPort = 8848 // IP_VS_SYNC_PORT
	syncTTL  = 1
)

var syncGroup = netip.AddrFrom4([4]byte{224, 0, 0, 81}) // IP_VS_SYNC_GROUP

// meant is the daemon as the kernel shows it, with what was left out filled in.
// MaxLen stays 0: the kernel makes it from the interface.
func (d SyncDaemon) meant() SyncDaemon {
	if !d.Group.IsValid() {
		d.Group = syncGroup
	}
	if d.Port == 0 {
		d.Port = syncPort
	}
	if d.TTL == 0 {
		d.TTL = syncTTL
	}
	return d
}

func (d SyncDaemon) equal(have SyncDaemon) bool {
	d, have = d.meant(), have.meant()
	if d.MaxLen == 0 {
		have.MaxLen = 0
	}
	return d == have
}

// SyncStep is one step towards the daemons that are wanted.
type SyncStep struct {
	Start  bool // else stop
	Daemon SyncDaemon
}

// PlanSync are the steps from the daemons that run to those that are wanted.
// One that runs as wanted is left alone; the kernel cannot change one, so one
// that differs is stopped and started.
func PlanSync(want, have []SyncDaemon) []SyncStep {
	var steps []SyncStep
	running := make(map[SyncState]SyncDaemon, len(have))
	for _, d := range have {
		running[d.State] = d
	}
	wanted := make(map[SyncState]bool, len(want))
	for _, d := range want {
		wanted[d.State] = true
		r, ok := running[d.State]
		if ok && d.equal(r) {
			continue
		}
		if ok {
			steps = append(steps, SyncStep{Daemon: r})
		}
		steps = append(steps, SyncStep{Start: true, Daemon: d})
	}
	for _, d := range have {
		if !wanted[d.State] {
			steps = append(steps, SyncStep{Daemon: d})
		}
	}
	return steps
}

// KeepSync makes the kernel's daemons those that are wanted, and returns the
// steps that it took.
func KeepSync(ctx context.Context, want []SyncDaemon) ([]SyncStep, error) {
	have, err := SyncDaemons(ctx)
	if err != nil {
		return nil, err
	}
	steps := PlanSync(want, have)
	for i, s := range steps {
		if s.Start {
			err = StartSync(ctx, s.Daemon)
		} else {
			err = StopSync(ctx, s.Daemon.State)
		}
		if err != nil {
			return steps[:i], err
		}
	}
	return steps, nil
}

// syncWanted are the daemons of a configuration: both halves on both directors.
func syncWanted(c *config.LVSSync) []SyncDaemon {
	group, _ := netip.ParseAddr(c.Group) // checked by config
	d := SyncDaemon{Interface: c.Interface, ID: uint8(c.ID), Group: group, Port: uint16(c.Port)}
	master, backup := d, d
	master.State, backup.State = SyncMaster, SyncBackup
	return []SyncDaemon{master, backup}
}

// RunSync keeps the synchronisation daemons as configured until ctx ends, in the
// process that holds CAP_NET_ADMIN. Without an interface it leaves them alone; at
// the end they go on, as the table does.
func RunSync(ctx context.Context, cfg *config.LVS, log *slog.Logger) {
	if cfg.Sync.Interface == "" {
		return
	}
	want, last := syncWanted(&cfg.Sync), ""
	tick := time.NewTicker(cfg.Interval)
	defer tick.Stop()
	for {
		steps, err := KeepSync(ctx, want)
		for _, s := range steps {
			log.Info("lvs sync", "start", s.Start, "state", s.Daemon.State.String(), "interface", s.Daemon.Interface, "id", s.Daemon.ID)
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != last && text != "" && ctx.Err() == nil {
			log.Warn("lvs sync", "error", text)
		}
		last = text
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// SyncDaemons are the daemons that run.
func SyncDaemons(ctx context.Context) ([]SyncDaemon, error) {
	var list []SyncDaemon
	err := withGenl(ctx, func(g *genl) error {
		messages, err := g.call(cmdGetDaemon, nl.Dump, nil)
		if err != nil {
			return err
		}
		for _, m := range messages {
			d, err := unpackDaemon(m.Data)
			if err != nil {
				return err
			}
			list = append(list, d)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the synchronisation daemons: %w", err)
	}
	return list, nil
}

// StartSync starts a daemon.
func StartSync(ctx context.Context, s SyncDaemon) error {
	if len(s.Interface) >= unix.IFNAMSIZ || s.Interface == "" {
		return fmt.Errorf("synchronisation daemon: interface %q: its name must have 1 to %d bytes", s.Interface, unix.IFNAMSIZ-1)
	}
	err := withGenl(ctx, func(g *genl) error {
		_, err := g.call(cmdNewDaemon, nl.Acknowledge, func(e *nl.AttributeEncoder) { packDaemon(e, s) })
		return err
	})
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("start the %s synchronisation daemon: one runs already", s.State)
	case errors.Is(err, unix.ENODEV), errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("start the %s synchronisation daemon: there is no interface %s: %w", s.State, s.Interface, err)
	case err != nil:
		return fmt.Errorf("start the %s synchronisation daemon on %s: %w", s.State, s.Interface, err)
	}
	return nil
}

// StopSync stops the daemon of a state. One that does not run is no error.
func StopSync(ctx context.Context, state SyncState) error {
	err := withGenl(ctx, func(g *genl) error {
		_, err := g.call(cmdDelDaemon, nl.Acknowledge, func(e *nl.AttributeEncoder) {
			e.Nested(attrDaemon, func(e *nl.AttributeEncoder) error { e.Uint32(daemonState, uint32(state)); return nil })
		})
		return err
	})
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop the %s synchronisation daemon: %w", state, err)
	}
	return nil
}

func packDaemon(e *nl.AttributeEncoder, s SyncDaemon) {
	e.Nested(attrDaemon, func(e *nl.AttributeEncoder) error {
		e.Uint32(daemonState, uint32(s.State))
		e.String(daemonInterface, s.Interface)
		e.Uint32(daemonID, uint32(s.ID))
		if s.MaxLen != 0 {
			e.Uint16(daemonMaxLen, s.MaxLen)
		}
		if s.Group.Is4() {
			e.Bytes(daemonGroup, s.Group.AsSlice())
		} else if s.Group.Is6() {
			e.Bytes(daemonGroup6, s.Group.AsSlice())
		}
		if s.Port != 0 {
			e.Uint16(daemonPort, s.Port)
		}
		if s.TTL != 0 {
			e.Uint8(daemonTTL, s.TTL)
		}
		return nil
	})
}

func unpackDaemon(data []byte) (s SyncDaemon, err error) {
	d, err := nl.NewAttributeDecoder(data)
	if err != nil {
		return s, err
	}
	for d.Next() {
		if d.Type() != attrDaemon {
			continue
		}
		d.Nested(func(d *nl.AttributeDecoder) error {
			for d.Next() {
				switch d.Type() {
				case daemonState:
					s.State = SyncState(d.Uint32())
				case daemonInterface:
					s.Interface = d.String()
				case daemonID:
					s.ID = uint8(d.Uint32())
				case daemonMaxLen:
					s.MaxLen = d.Uint16()
				case daemonGroup, daemonGroup6:
					s.Group, _ = netip.AddrFromSlice(d.Bytes())
				case daemonPort:
					s.Port = d.Uint16()
				case daemonTTL:
					s.TTL = d.Uint8()
				}
			}
			return nil
		})
	}
	return s, d.Err()
}
