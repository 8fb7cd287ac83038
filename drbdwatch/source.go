package drbdwatch

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"signalbox/config"
)

// Sample is one reading of a node's DRBD, or why there is none.
type Sample struct {
	State  *State
	Err    string
	Source string    // proc, netlink, events2 or status
	At     time.Time // when the read began
}

// Source reads DRBD on this host: at every push where the kernel or drbdsetup
// pushes, and every poll in any case, so that a Sample is always fresh.
type Source struct {
	cfg  config.DRBD
	poll time.Duration
	take func(s Sample, changed bool)
}

// NewSource prepares a source; take gets every sample, from Run's goroutine.
func NewSource(cfg config.DRBD, poll time.Duration, take func(s Sample, changed bool)) *Source {
	return &Source{cfg: cfg, poll: poll, take: take}
}

// reopenPause is the time between attempts to open a source that failed.
const reopenPause = 500 * time.Millisecond

// Run samples until ctx ends.
func (s *Source) Run(ctx context.Context) {
	var last Sample
	for ctx.Err() == nil {
		r, err := s.open()
		if err == nil {
			err = s.follow(ctx, r, &last)
			r.close()
		}
		if ctx.Err() != nil {
			return
		}
		s.give(Sample{Err: err.Error(), Source: s.cfg.Source, At: time.Now()}, &last)
		pause := time.NewTimer(reopenPause)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// settle is how many reads in a row may fail before the source is opened anew.
const settle = 5

// follow samples r until ctx ends or r is broken.
func (s *Source) follow(ctx context.Context, r reader, last *Sample) error {
	tick := time.NewTicker(s.poll)
	defer tick.Stop()
	failures := 0
	for {
		sample := Sample{At: time.Now(), Source: r.name()}
		state, err := r.read()
		if sample.State = state; err != nil {
			sample.State, sample.Err = nil, err.Error()
			if failures++; failures >= settle && r.name() != "proc" {
				return err
			}
		} else {
			failures = 0
		}
		// After a read that took too long nothing is known to have changed: the
		// sample before counts until it is too old.
		if !errors.Is(err, os.ErrDeadlineExceeded) || last.State == nil {
			s.give(sample, last)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.changed():
		}
	}
}

func (s *Source) give(sample Sample, last *Sample) {
	changed := sample.Err != last.Err || sample.Source != last.Source ||
		!sameButProgress(sample.State, last.State)
	*last = sample
	s.take(sample, changed)
}

// sameButProgress tells whether two states differ at most in how far a resync
// has come, which changes no decision.
func sameButProgress(a, b *State) bool {
	if a == b || a == nil || b == nil {
		return a == b
	}
	return a.Version == b.Version && slices.EqualFunc(a.Devices, b.Devices, func(d, e Device) bool {
		d.OutOfSyncKiB, d.SyncPercent = e.OutOfSyncKiB, e.SyncPercent
		return d == e
	})
}

// open opens the source that the configuration names. For auto that is netlink
// where the kernel has DRBD's family; then drbdsetup events2, for 8.4 and 9;
// then /proc/drbd.
func (s *Source) open() (reader, error) {
	drbdsetup := func() string {
		for _, name := range []string{"drbdsetup", "/usr/sbin/drbdsetup", "/sbin/drbdsetup"} {
			if path, err := exec.LookPath(name); err == nil {
				return path
			}
		}
		return "drbdsetup"
	}
	switch s.cfg.Source {
	case "proc":
		return &procReader{path: s.cfg.File}, nil
	case "netlink":
		return openNetlink(s.cfg.File)
	case "events2":
		return openEvents2(drbdsetup(), s.cfg.File)
	case "status":
		version, err := moduleVersion(s.cfg.File)
		return &statusReader{program: drbdsetup(), version: version}, err
	}
	if s.cfg.File != "/proc/drbd" {
		return &procReader{path: s.cfg.File}, nil
	}
	r, err := openNetlink(s.cfg.File)
	if err == nil {
		return r, nil
	}
	version, verr := moduleVersion(s.cfg.File)
	if verr != nil {
		return nil, verr
	}
	old := strings.HasPrefix(version, "8.") && !strings.HasPrefix(version, "8.4")
	if !old {
		e, eerr := openEvents2(drbdsetup(), s.cfg.File)
		if eerr == nil {
			return e, nil
		}
		err = errors.Join(err, eerr)
	}
	if strings.HasPrefix(version, "8.") {
		return &procReader{path: s.cfg.File}, nil
	}
	return nil, err
}
