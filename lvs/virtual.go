package lvs

import (
	"net/netip"
	"slices"
	"time"

	"signalbox/config"
)

// Virtual is one service of the configuration, prepared: several services of the
// kernel when it has a range of ports.
type Virtual struct {
	Name     string
	keys     []Key
	settings Settings
	kind     string // config.LVSService.Servers
	policy   policy
	need     int // quorum
	hyst     int
	drain    time.Duration
	reals    []real
	sorry    *real
}

// real is one real server of a Virtual. Its destination has no port where the
// service's port is meant.
type real struct {
	name    string
	cluster bool
	check   string // identity of its check, empty for a server of the cluster
	dest    Destination
}

// Virtuals prepares the services that cfg has.
func Virtuals(cfg *config.Config) []Virtual {
	list := make([]Virtual, len(cfg.LVS.Services))
	for i := range list {
		s := &cfg.LVS.Services[i]
		v := Virtual{Name: s.Name, keys: keysOf(s), settings: settingsFor(s), kind: s.Servers, need: s.Quorum, hyst: s.Hysteresis, drain: s.Drain,
			policy: policy{remove: s.OnFailure == "remove", quiesce: s.Quiesce, slowStart: s.SlowStart,
				flaps: cfg.LVS.Flap.Failures, window: cfg.LVS.Flap.Window, hold: cfg.LVS.Flap.Hold}}
		for _, t := range cfg.LVSTargets(i) {
			r := real{name: t.Name, cluster: t.Cluster, dest: destinationFor(s, s.Forward, netip.AddrPortFrom(t.Address, t.Port))}
			r.dest.Weight, r.dest.Upper, r.dest.Lower = uint32(t.Weight), uint32(t.Upper), uint32(t.Lower)
			if !t.Cluster {
				r.check = newCheck(&t, s).id
			}
			v.reals = append(v.reals, r)
		}
		if s.Sorry.Address != "" {
			v.sorry = sorryFor(s)
		}
		list[i] = v
	}
	return list
}

// Exclusive says which keys are the writer's services.
func Exclusive(list []Virtual) func(Key) bool {
	keys := make(map[Key]bool)
	for i := range list {
		for _, k := range list[i].keys {
			keys[k] = list[i].exclusive()
		}
	}
	return func(k Key) bool { return keys[k] }
}

func (v *Virtual) exclusive() bool { return v.kind == "primary" }

func keysOf(s *config.LVSService) []Key {
	if s.Mark != 0 {
		return []Key{{IPv6: s.IPv6(), Mark: uint32(s.Mark)}}
	}
	k := Key{IPv6: s.IPv6(), Protocol: TCP}
	if s.Protocol == "udp" {
		k.Protocol = UDP
	}
	k.Address, _, _ = config.LVSAddress(s.Address)
	first, last, _ := s.PortRange()
	var list []Key
	for p := int(first); p <= int(last); p++ {
		k.Port = uint16(p)
		list = append(list, k)
	}
	return list
}

func settingsFor(s *config.LVSService) Settings {
	v := Settings{Scheduler: s.Scheduler, Netmask: bits(s.IPv6())}
	if s.Persistence > 0 {
		v.Flags, v.Timeout = Persistent, uint32(s.Persistence.Seconds())
		if s.PersistenceNet != 0 {
			v.Netmask = s.PersistenceNet
		}
	}
	for _, f := range s.SchedulerFlags {
		switch f {
		case "fallback":
			v.Flags |= Option1 // IP_VS_SVC_F_SCHED_SH_FALLBACK, _MH_FALLBACK
		case "port":
			v.Flags |= Option2 // IP_VS_SVC_F_SCHED_SH_PORT, _MH_PORT
		case "one-packet":
			v.Flags |= OnePacket
		}
	}
	return v
}

func destinationFor(s *config.LVSService, forward string, at netip.AddrPort) Destination {
	d := Destination{Address: at, Forward: Forward(slices.Index(forwards[:], forward))}
	if d.Forward == Tunnel {
		d.Tunnel = Encapsulation{Type: TunnelType(slices.Index(tunnels[:], s.Tunnel.Type)), Port: uint16(s.Tunnel.Port),
			Flags: uint16(slices.Index([]string{"none", "checksum", "remote"}, s.Tunnel.Checksum))}
	}
	return d
}

func sorryFor(s *config.LVSService) *real {
	ip, port, _ := config.LVSAddress(s.Sorry.Address)
	forward := s.Sorry.Forward
	if forward == "" {
		forward = s.Forward
	}
	r := &real{name: "sorry", dest: destinationFor(s, forward, netip.AddrPortFrom(ip, port))}
	r.dest.Weight = uint32(s.Weight)
	return r
}

// at is the real server as a destination of one of the Virtual's keys.
func (r *real) at(k Key) Destination {
	d := r.dest
	if d.Address.Port() == 0 {
		d.Address = netip.AddrPortFrom(d.Address.Addr(), k.Port)
	}
	return d
}
