package drbdwatch

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

func words(list string) map[string]bool {
	set := make(map[string]bool)
	for _, w := range strings.Fields(list) {
		set[w] = true
	}
	return set
}

// ParseProc reads the text of /proc/drbd of DRBD 8.0 to 8.4, and of 9 where it
// prints devices (drbd_seq_show in drbd/drbd_proc.c). Fields are found by their
// keys: the protocol letter is blank without a network configuration, and the
// lines after a device's first vary by version and module parameter. A word
// that no version prints, such as TOO_LARGE, is an error: a state that is not
// understood must not be believed.
func ParseProc(text []byte) (*State, error) {
	lines := strings.Split(string(text), "\n")
	version, ok := strings.CutPrefix(lines[0], "version: ")
	if !ok {
		return nil, fmt.Errorf("line 1: want \"version: …\", found %q; this is not /proc/drbd", clip(lines[0]))
	}
	s := &State{Version: firstWord(version)}
	if s.Version == "" {
		return nil, fmt.Errorf("line 1: no version number in %q", clip(lines[0]))
	}
	for i, line := range lines[1:] {
		if err := s.line(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+2, err)
		}
	}
	if len(s.Devices) == 0 && strings.HasPrefix(s.Version, "9.") {
		return nil, fmt.Errorf("DRBD %s %w; its state must come from drbdsetup events2 or netlink", s.Version, errNoDevices)
	}
	return s, nil
}

var errNoDevices = errors.New("prints no devices in /proc/drbd")

func firstWord(s string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	return word
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

func (s *State) line(line string) error {
	trimmed := strings.TrimLeft(line, " ")
	number, rest, isDevice := strings.Cut(trimmed, ": cs:")
	if isDevice && len(line)-len(trimmed) <= 1 {
		minor, err := strconv.Atoi(number)
		if err != nil || minor < 0 || minor > 1<<20 {
			return fmt.Errorf("minor %q is not a number", clip(number))
		}
		if n := len(s.Devices); n > 0 && s.Devices[n-1].Minor >= minor {
			return fmt.Errorf("minor %d after minor %d", minor, s.Devices[n-1].Minor)
		}
		d := Device{Minor: minor, OutOfSyncKiB: -1, SyncPercent: -1}
		if err := d.first(rest); err != nil {
			return fmt.Errorf("minor %d: %w", minor, err)
		}
		s.Devices = append(s.Devices, d)
		return nil
	}
	if len(s.Devices) == 0 {
		return nil // the build tag and the transports
	}
	d := &s.Devices[len(s.Devices)-1]
	if strings.HasPrefix(trimmed, "ns:") {
		return d.counters(trimmed)
	}
	return d.progress(trimmed)
}

// first reads a device's first line after "cs:".
func (d *Device) first(rest string) error {
	d.CS, rest, _ = strings.Cut(rest, " ")
	if d.CS == "Unconfigured" {
		return nil
	}
	d.Configured = true
	if !connectionStates[d.CS] {
		return fmt.Errorf("connection state %q is unknown", clip(d.CS))
	}
	rest = strings.TrimLeft(rest, " ")
	pair, rest, _ := strings.Cut(rest, " ")
	roleText, ok := strings.CutPrefix(pair, "ro:")
	if !ok {
		if roleText, ok = strings.CutPrefix(pair, "st:"); !ok {
			return fmt.Errorf("want ro: or st:, found %q", clip(pair))
		}
	}
	if err := both(roleText, roles, "role", &d.Role, &d.PeerRole); err != nil {
		return err
	}
	pair, rest, _ = strings.Cut(strings.TrimLeft(rest, " "), " ")
	diskText, ok := strings.CutPrefix(pair, "ds:")
	if !ok {
		return fmt.Errorf("want ds:, found %q", clip(pair))
	}
	if err := both(diskText, diskStates, "disk state", &d.Disk, &d.PeerDisk); err != nil {
		return err
	}
	return d.flags(strings.Fields(rest))
}

func both(text string, known map[string]bool, what string, local, peer *string) error {
	var ok bool
	if *local, *peer, ok = strings.Cut(text, "/"); !ok || !known[*local] || !known[*peer] {
		return fmt.Errorf("%s %q is unknown", what, clip(text))
	}
	return nil
}

// flags reads the optional protocol letter and the I/O flags that end the line.
func (d *Device) flags(fields []string) error {
	if len(fields) == 2 && len(fields[0]) == 1 && strings.Contains("ABC", fields[0]) {
		d.Protocol, fields = fields[0], fields[1:]
	}
	if len(fields) != 1 || len(fields[0]) < 4 || len(fields[0]) > 6 {
		return fmt.Errorf("want a protocol letter and 4 to 6 flags, found %q", clip(strings.Join(fields, " ")))
	}
	d.Flags = fields[0]
	allowed := [...]string{"rs", "a-", "p-", "u-", "dcbna-", "s-"}
	for i := range d.Flags {
		if !strings.Contains(allowed[i], d.Flags[i:i+1]) {
			return fmt.Errorf("flag %d of %q is none of %s", i+1, d.Flags, allowed[i])
		}
	}
	d.Suspended = d.Flags[0] == 's' || len(d.Flags) > 4 && d.Flags[4] == 'd'
	return nil
}

// counters reads "ns:… oos:…". Only the out-of-sync counter is used: the others
// are 32 bits wide and wrap.
func (d *Device) counters(line string) error {
	for _, f := range strings.Fields(line) {
		if v, ok := strings.CutPrefix(f, "oos:"); ok {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < 0 {
				return fmt.Errorf("oos:%s is not a number of KiB", clip(v))
			}
			d.OutOfSyncKiB = n
		}
	}
	return nil
}

// progress reads the line "[==>…] sync'ed: 34.9% (left/total)K". The percentage
// is computed from the numbers, because the printed one is coarse on small
// devices. Some kernels print the next line right after the unit.
func (d *Device) progress(line string) error {
	_, rest, ok := strings.Cut(line, "sync'ed:")
	if !ok {
		if _, rest, ok = strings.Cut(line, "verified:"); !ok {
			return nil
		}
	}
	_, rest, ok = strings.Cut(rest, "(")
	numbers, _, closed := strings.Cut(rest, ")")
	left, total, slash := strings.Cut(numbers, "/")
	l, err1 := strconv.ParseUint(strings.TrimSpace(left), 10, 63)
	t, err2 := strconv.ParseUint(strings.TrimSpace(total), 10, 63)
	if !ok || !closed || !slash || err1 != nil || err2 != nil {
		return fmt.Errorf("want (left/total) in %q", clip(line))
	}
	d.SyncPercent = 100
	if t > 0 {
		d.SyncPercent = 100 * (1 - float64(min(l, t))/float64(t))
	}
	return nil
}
