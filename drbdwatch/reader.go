package drbdwatch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// reader reads DRBD's state on this host.
type reader interface {
	name() string
	read() (*State, error)
	changed() <-chan struct{} // signals that a read is worth it now; nil for none
	close()
}

// procReader reads a file in the format of /proc/drbd.
type procReader struct {
	path  string
	last  []byte
	state *State
	buf   []byte
}

func (p *procReader) name() string             { return "proc" }
func (p *procReader) changed() <-chan struct{} { return nil }
func (p *procReader) close()                   {}

// read parses the file, unless it says the same as before.
func (p *procReader) read() (*State, error) {
	text, err := readFile(p.path, p.buf)
	p.buf = text[:0]
	if err != nil {
		return nil, err
	}
	if p.state != nil && bytes.Equal(text, p.last) {
		return p.state, nil
	}
	p.state, err = ParseProc(text)
	p.last = append(p.last[:0], text...)
	return p.state, err
}

// maxProcText bounds, in bytes, what is read of /proc/drbd.
const maxProcText = 1 << 20

// readFile reads path into buf, without an allocation where it fits.
func readFile(path string, buf []byte) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return buf[:0], err
	}
	defer file.Close()
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := file.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil || len(buf) > maxProcText {
			return buf[:0], fmt.Errorf("read %s: more than %d bytes, or %w", path, maxProcText, err)
		}
	}
}

// crossChecked reads the state, and /proc/drbd right after it, until both say
// the same: a change between the two reads is over at the next. What only
// /proc/drbd tells is added. A file that is absent, or prints no devices (DRBD
// 9), cannot contradict.
func crossChecked(read func() (*State, error), proc *procReader) (*State, error) {
	var conflict error
	for range 4 {
		s, err := read()
		if errors.Is(err, errImplausible) {
			conflict = err // a dump is not atomic: an object went while it was made
			continue
		}
		if err != nil {
			return nil, err
		}
		p, err := proc.read()
		switch {
		case errors.Is(err, os.ErrNotExist) || errors.Is(err, errNoDevices):
			return s, nil
		case err != nil:
			return nil, fmt.Errorf("cross-check with %s: %w", proc.path, err)
		}
		if conflict = s.complete(p); conflict == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("this node's views contradict each other: %w", conflict)
}

// complete adds to s what only /proc/drbd says, and reports a contradiction.
func (s *State) complete(proc *State) error {
	for i := range s.Devices {
		d, found := &s.Devices[i], false
		for j := range proc.Devices {
			p := &proc.Devices[j]
			if p.Minor != d.Minor {
				continue
			}
			found = true
			if !p.Configured {
				p = &Device{Role: "Secondary", Disk: "Diskless", CS: "StandAlone", PeerDisk: "DUnknown", OutOfSyncKiB: -1, SyncPercent: -1}
			}
			if p.Role != d.Role || p.Disk != d.Disk {
				return fmt.Errorf("minor %d is %s and %s by one, %s and %s by /proc/drbd", d.Minor, d.Role, d.Disk, p.Role, p.Disk)
			}
			d.Flags, d.Protocol, d.OutOfSyncKiB, d.SyncPercent = p.Flags, p.Protocol, p.OutOfSyncKiB, p.SyncPercent
			d.Suspended = d.Suspended || p.Suspended
			if d.Peer == "" {
				d.CS, d.PeerDisk = p.CS, p.PeerDisk // the connection is gone, its last knowledge is not
			}
		}
		if !found {
			return fmt.Errorf("minor %d is missing in /proc/drbd", d.Minor)
		}
	}
	for j := range proc.Devices {
		if p := &proc.Devices[j]; p.Configured && !s.has(p.Minor) {
			return fmt.Errorf("minor %d is in /proc/drbd only", p.Minor)
		}
	}
	return nil
}

// agrees tells whether s, once completed, says the same of each peer as
// /proc/drbd does.
func (s *State) agrees(proc *State) bool {
	for i := range s.Devices {
		d := &s.Devices[i]
		p := proc.device(d.Minor)
		if p.Configured && (p.CS != d.CS || p.PeerRole != d.PeerRole || p.PeerDisk != d.PeerDisk) {
			return false
		}
	}
	return true
}

func (s *State) has(minor int) bool { return s.device(minor).Configured }

// events2Reader follows drbdsetup events2, a child that it owns.
type events2Reader struct {
	version string
	cmd     *exec.Cmd
	proc    *procReader
	pushed  chan struct{}
	done    sync.WaitGroup

	mu       sync.Mutex // guards what follows
	model    model
	complete bool // the first dump has ended
	failed   error
}

// firstDump is how long drbdsetup may take to print the state after its start.
const firstDump = 3 * time.Second

func openEvents2(program, procPath string) (*events2Reader, error) {
	version, err := moduleVersion(procPath)
	if err != nil {
		return nil, err
	}
	r := &events2Reader{version: version, proc: &procReader{path: procPath}, pushed: make(chan struct{}, 1), model: make(model)}
	r.cmd = exec.Command(program, "events2")
	out, err := r.cmd.StdoutPipe()
	if err == nil {
		err = r.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s events2: %w", program, err)
	}
	r.done.Go(func() { r.follow(out) })
	over := time.NewTimer(firstDump)
	defer over.Stop()
	for {
		if _, err := r.state(); err == nil {
			return r, nil
		} else if !errors.Is(err, errNoDump) {
			r.close()
			return nil, err
		}
		select {
		case <-r.pushed:
		case <-over.C:
			r.close()
			return nil, fmt.Errorf("%s events2 printed no state in %s", program, firstDump)
		}
	}
}

var errNoDump = errors.New("drbdsetup events2 has not printed the whole state yet")

// maxEventLine bounds, in bytes, a line of events2.
const maxEventLine = 64 << 10

func (r *events2Reader) follow(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 0, 4096), maxEventLine)
	for lines.Scan() {
		e, ok, err := parseEvent(lines.Text())
		r.mu.Lock()
		if err == nil && ok {
			err = r.model.apply(&e)
		}
		if err != nil {
			r.failed = err
		}
		r.complete = r.complete || ok && e.object == "-"
		r.mu.Unlock()
		r.signal()
	}
	err := r.cmd.Wait()
	r.mu.Lock()
	if r.failed == nil {
		r.failed = fmt.Errorf("drbdsetup events2 ended (%w, %w)", err, lines.Err())
	}
	r.mu.Unlock()
	r.signal()
}

func (r *events2Reader) signal() {
	select {
	case r.pushed <- struct{}{}:
	default:
	}
}

func (r *events2Reader) state() (*State, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil {
		return nil, r.failed
	}
	if !r.complete {
		return nil, errNoDump
	}
	return r.model.state(r.version)
}

func (r *events2Reader) name() string             { return "events2" }
func (r *events2Reader) changed() <-chan struct{} { return r.pushed }
func (r *events2Reader) read() (*State, error)    { return crossChecked(r.state, r.proc) }

func (r *events2Reader) close() {
	_ = r.cmd.Process.Kill()
	r.done.Wait()
}

// statusReader runs drbdsetup status --json for each read (DRBD 9).
type statusReader struct{ program, version string }

// statusTimeout is the longest that drbdsetup status may take.
const statusTimeout = 2 * time.Second

func (r *statusReader) name() string             { return "status" }
func (r *statusReader) changed() <-chan struct{} { return nil }
func (r *statusReader) close()                   {}

func (r *statusReader) read() (*State, error) {
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, r.program, "status", "--json").Output()
	if err != nil {
		return nil, fmt.Errorf("%s status --json: %w", r.program, err)
	}
	return ParseStatus(out, r.version)
}
