package drbdwatch

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
)

// Numbers of DRBD's generic netlink family (drbd/linux/drbd_genl.h; the same in
// 8.4 and 9). Attribute types carry flag bits, which the decoder masks.
const (
	genlGetInitialState  = 38 // dump
	genlResourceState    = 34
	genlDeviceState      = 35
	genlConnectionState  = 36
	genlPeerDeviceState  = 37
	genlInitialStateDone = 41

	attrContext        = 2  // volume 1, resource name 2, peer address 4
	attrResourceInfo   = 15 // role 1, suspended by user 2, for no data 3, for fencing 4, for quorum 5
	attrDeviceInfo     = 16 // disk state 1, has quorum 3
	attrConnectionInfo = 17 // connection state 1, role 2
	attrPeerDeviceInfo = 18 // replication state 1, disk state 2
	attrNotification   = 23 // type 1

	notifyDestroy   = 3      // enum drbd_notification_type
	notifyContinues = 0x8000 // a flag in the type: more of the same change follows

	genlHeaderLen = 8 // struct drbd_genlmsghdr: minor, flags
)

// Words of the numbers in these messages: enum drbd_role, drbd_conns (8.4) and
// drbd_conn_state (9), drbd_repl_state, drbd_disk_state; the last differ.
var (
	roleNumbers       = []string{"Unknown", "Primary", "Secondary"}
	connectionNumbers = []string{"StandAlone", "Disconnecting", "Unconnected", "Timeout", "BrokenPipe", "NetworkFailure",
		"ProtocolError", "TearDown", "Connecting", "Connected"}
	replicationNumbers = []string{"Off", "Off", "Off", "Off", "Off", "Off", "Off", "Off", "Off", "Off", "Established", "StartingSyncS",
		"StartingSyncT", "WFBitMapS", "WFBitMapT", "WFSyncUUID", "SyncSource", "SyncTarget", "VerifyS", "VerifyT", "PausedSyncS",
		"PausedSyncT", "Ahead", "Behind"}
	diskNumbers8 = []string{"Diskless", "Attaching", "Failed", "Negotiating", "Inconsistent", "Outdated", "DUnknown", "Consistent", "UpToDate"}
	diskNumbers9 = []string{"Diskless", "Attaching", "Detaching", "Failed", "Negotiating", "Inconsistent", "Outdated", "DUnknown", "Consistent", "UpToDate"}
)

func numbered(list []string, n uint32) string {
	if int64(n) < int64(len(list)) {
		return list[n]
	}
	return "TOO_LARGE"
}

// netlinkReader reads DRBD through generic netlink, without a privilege. What
// the events group pushes is brought into the last dump (mirror), and believed
// while /proc/drbd says the same; every redump, and whenever they differ or a push
// may be missing, the whole state is dumped anew. A dump waits for a lock of the
// kernel's that a command holds, so it has a goroutine of its own, and pushes are
// told meanwhile.
type netlinkReader struct {
	version string
	mirror  mirror
	family  genetlink.Family
	dump    *genetlink.Conn // only dumps uses it
	events  *genetlink.Conn
	proc    *procReader
	pushed  chan struct{}
	want    chan struct{} // asks for a dump
	quit    chan struct{}
	broken  atomic.Pointer[error]
	done    sync.WaitGroup

	mu    sync.Mutex // guards what follows
	last  dumpResult
	began uint64        // counts dumps
	ended chan struct{} // closed when one ends
}

// dumpResult is what a dump brought.
type dumpResult struct {
	number uint64
	model  model
	err    error
}

const (
	// dumpTimeout is the longest that a dump may take. The kernel answers at once,
	// unless it is carrying out a command: both need its netlink lock.
	dumpTimeout = 500 * time.Millisecond
	redump      = time.Second
)

func openNetlink(procPath string) (_ *netlinkReader, err error) {
	r := &netlinkReader{proc: &procReader{path: procPath}, pushed: make(chan struct{}, 1), want: make(chan struct{}, 1),
		quit: make(chan struct{}), ended: make(chan struct{})}
	if r.version, err = moduleVersion(procPath); err != nil {
		return nil, err
	}
	if r.mirror.disks = diskNumbers8; r.version[0] == '9' {
		r.mirror.disks = diskNumbers9
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.dump, err = genetlink.Dial(nil); err != nil {
		return nil, fmt.Errorf("open generic netlink: %w", err)
	}
	if r.family, err = r.dump.GetFamily("drbd"); err != nil {
		return nil, fmt.Errorf("generic netlink family drbd (is the module loaded, and is this the initial network namespace?): %w", err)
	}
	if r.events, err = genetlink.Dial(nil); err != nil {
		return nil, fmt.Errorf("open generic netlink: %w", err)
	}
	for _, g := range r.family.Groups {
		if g.Name == "events" {
			if err = r.events.JoinGroup(g.ID); err != nil {
				return nil, fmt.Errorf("join DRBD's events group: %w", err)
			}
			r.done.Go(r.listen)
			r.done.Go(r.dumps)
			return r, nil
		}
	}
	return nil, errors.New("DRBD's netlink family has no events group")
}

// moduleVersion is the version of DRBD's kernel module.
func moduleVersion(procPath string) (string, error) {
	text, err := readFile(procPath, nil)
	if err != nil {
		text, err = readFile("/sys/module/drbd/version", nil)
		text = append([]byte("version: "), text...)
	}
	if err != nil {
		return "", fmt.Errorf("DRBD's module is not loaded: %w", err)
	}
	version := ""
	if _, err := fmt.Sscanf(string(text), "version: %s", &version); err != nil {
		return "", fmt.Errorf("DRBD's version in %q: %w", clip(string(text)), err)
	}
	return version, nil
}

// listen turns pushes into signals until the connection is closed. After an
// error, such as ENOBUFS when pushes were lost, a dump tells what happened.
func (r *netlinkReader) listen() {
	failures := 0
	for {
		messages, _, err := r.events.Receive()
		if err != nil {
			if failures++; errors.Is(err, os.ErrClosed) || failures > 100 {
				r.broken.Store(&err)
				r.signal()
				return
			}
		} else {
			failures = 0
		}
		if r.mirror.push(messages, err != nil) {
			r.signal()
		}
	}
}

func (r *netlinkReader) signal() {
	select {
	case r.pushed <- struct{}{}:
	default:
	}
}

func (r *netlinkReader) name() string             { return "netlink" }
func (r *netlinkReader) changed() <-chan struct{} { return r.pushed }

func (r *netlinkReader) close() {
	close(r.quit)
	if r.events != nil {
		_ = r.events.Close()
	}
	r.done.Wait()
	if r.dump != nil {
		_ = r.dump.Close()
	}
}

// read returns the state, compared with /proc/drbd.
func (r *netlinkReader) read() (*State, error) {
	if err := r.broken.Load(); err != nil {
		return nil, fmt.Errorf("receive DRBD's events: %w", *err)
	}
	if s := r.pushedState(); s != nil {
		return s, nil
	}
	return crossChecked(r.state, r.proc)
}

// pushedState is the state by the last dump and the pushes since, nil when a
// dump is needed. It waits for no lock of the kernel's: a role is known while
// the command that changes it still runs.
func (r *netlinkReader) pushedState() *State {
	m := r.mirror.model(time.Now())
	if m == nil {
		return nil
	}
	s, err := m.state(r.version)
	if err != nil {
		return nil
	}
	p, err := r.proc.read()
	if err != nil || s.complete(p) != nil || !s.agrees(p) {
		return nil
	}
	return s
}

// ask has a dump made; one that is being made already does not count.
func (r *netlinkReader) ask() {
	select {
	case r.want <- struct{}{}:
	default:
	}
}

// state is that of a dump which began after the call, or of pushes that came
// meanwhile and agree with /proc/drbd.
func (r *netlinkReader) state() (*State, error) {
	r.mu.Lock()
	after := r.began
	r.mu.Unlock()
	r.ask()
	over := time.NewTimer(2 * dumpTimeout)
	defer over.Stop()
	for {
		r.mu.Lock()
		last, ended := r.last, r.ended
		r.mu.Unlock()
		if last.number > after {
			if last.err != nil {
				return nil, last.err
			}
			return last.model.state(r.version)
		}
		select {
		case <-ended:
		case <-r.pushed:
			if s := r.pushedState(); s != nil {
				return s, nil
			}
		case <-over.C:
			return nil, fmt.Errorf("dump DRBD's state: %w", os.ErrDeadlineExceeded)
		case <-r.quit:
			return nil, os.ErrClosed
		}
	}
}

// dumps makes a dump every redump and those that are asked for.
func (r *netlinkReader) dumps() {
	tick := time.NewTicker(redump)
	defer tick.Stop()
	for {
		select {
		case <-r.quit:
			return
		case <-r.want:
		case <-tick.C:
		}
		r.mu.Lock()
		r.began++
		number := r.began
		r.mu.Unlock()
		begun := r.mirror.begin()
		m, err := r.dumpState()
		if err == nil && !r.mirror.end(m, begun, time.Now()) {
			r.ask()
		}
		r.mu.Lock()
		r.last = dumpResult{number, m, err}
		close(r.ended)
		r.ended = make(chan struct{})
		r.mu.Unlock()
		r.signal()
	}
}

// dumpState dumps the state, over a new socket after a failure: what is left of
// a dump that was given up must not be taken for a part of the next.
func (r *netlinkReader) dumpState() (m model, err error) {
	if r.dump == nil {
		if r.dump, err = genetlink.Dial(nil); err != nil {
			return nil, fmt.Errorf("open generic netlink: %w", err)
		}
	}
	defer func() {
		if err != nil {
			_ = r.dump.Close()
			r.dump = nil
		}
	}()
	request := genetlink.Message{Header: genetlink.Header{Command: genlGetInitialState, Version: r.family.Version},
		Data: []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}}
	if err := r.dump.SetDeadline(time.Now().Add(dumpTimeout)); err != nil {
		return nil, fmt.Errorf("dump DRBD's state: %w", err)
	}
	if _, err := r.dump.Send(request, r.family.ID, netlink.Request|netlink.Dump); err != nil {
		return nil, fmt.Errorf("ask for a dump of DRBD's state: %w", err)
	}
	m = make(model)
	for {
		messages, _, err := r.dump.Receive()
		if err != nil {
			return nil, fmt.Errorf("dump DRBD's state: %w", err)
		}
		for i := range messages {
			if messages[i].Header.Command == genlInitialStateDone {
				return m, nil
			}
			if err := m.message(messages[i].Header.Command, messages[i].Data, r.mirror.disks); err != nil {
				return nil, err
			}
		}
	}
}

// aboutState tells whether a command carries state. DRBD sends others beside it,
// such as the events of 8.3.
func aboutState(command uint8) bool {
	return command >= genlResourceState && command <= genlPeerDeviceState
}

// message brings one netlink message into the model. It ignores commands that
// say nothing about the state.
func (m model) message(command uint8, data []byte, disks []string) error {
	if !aboutState(command) {
		return nil
	}
	if len(data) < genlHeaderLen {
		return fmt.Errorf("DRBD netlink message %d has %d bytes", command, len(data))
	}
	top, err := attributes(data[genlHeaderLen:])
	if err != nil {
		return fmt.Errorf("DRBD netlink message %d: %w", command, err)
	}
	context, err := attributes(top[attrContext])
	if err != nil || len(context[2]) == 0 {
		return fmt.Errorf("DRBD netlink message %d names no resource (%v)", command, err)
	}
	name, number := cString(context[2]), int(value(context[1]))
	notification, err := attributes(top[attrNotification])
	if err != nil {
		return fmt.Errorf("DRBD netlink message %d: %w", command, err)
	}
	if value(notification[1])&^notifyContinues == notifyDestroy {
		m.destroy(command, name, number, address(context[4]))
		return nil
	}
	r := m.resource(name)
	switch command {
	case genlResourceState:
		info, err := attributes(top[attrResourceInfo])
		if err != nil {
			return fmt.Errorf("DRBD netlink resource: %w", err)
		}
		r.role = numbered(roleNumbers, value(info[1]))
		s := statusResource{SuspendedUser: value(info[2]) != 0, SuspendedNoData: value(info[3]) != 0,
			SuspendedFence: value(info[4]) != 0, SuspendedQuorum: value(info[5]) != 0}
		r.suspended = s.causes()
	case genlDeviceState:
		info, err := attributes(top[attrDeviceInfo])
		if err != nil {
			return fmt.Errorf("DRBD netlink device: %w", err)
		}
		v := r.volume(number)
		v.minor, v.disk = int(int32(binary.NativeEndian.Uint32(data))), numbered(disks, value(info[1]))
		if q, ok := info[3]; ok {
			if v.quorum = QuorumNo; value(q) != 0 {
				v.quorum = QuorumYes
			}
		}
	case genlConnectionState:
		info, err := attributes(top[attrConnectionInfo])
		if err != nil {
			return fmt.Errorf("DRBD netlink connection: %w", err)
		}
		p := r.peer(address(context[4]))
		p.connection, p.role = numbered(connectionNumbers, value(info[1])), numbered(roleNumbers, value(info[2]))
	case genlPeerDeviceState:
		info, err := attributes(top[attrPeerDeviceInfo])
		if err != nil {
			return fmt.Errorf("DRBD netlink peer device: %w", err)
		}
		v := r.peer(address(context[4])).volume(number)
		v.replication, v.disk = numbered(replicationNumbers, value(info[1])), numbered(disks, value(info[2]))
	}
	return nil
}

// destroy takes out of the model what no longer exists.
func (m model) destroy(command uint8, name string, volume int, peerAddress string) {
	r := m[name]
	if r == nil {
		return
	}
	p := r.peers[peerAddress]
	switch {
	case command == genlResourceState:
		delete(m, name)
	case command == genlDeviceState:
		delete(r.volumes, volume)
	case command == genlConnectionState:
		delete(r.peers, peerAddress)
	case command == genlPeerDeviceState && p != nil:
		delete(p.volumes, volume)
	}
}

// attributes splits b by type; nil has none.
func attributes(b []byte) (map[uint16][]byte, error) {
	list := make(map[uint16][]byte)
	if len(b) == 0 {
		return list, nil
	}
	d, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return nil, err
	}
	for d.Next() {
		list[d.Type()] = d.Bytes()
	}
	return list, d.Err()
}

// value is an attribute of one or four bytes; absent is 0.
func value(b []byte) uint32 {
	switch len(b) {
	case 0:
		return 0
	case 1:
		return uint32(b[0])
	case 4:
		return binary.NativeEndian.Uint32(b)
	}
	return 1<<32 - 1
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// address is a struct sockaddr in words.
func address(b []byte) string {
	if len(b) < 4 {
		return hex.EncodeToString(b)
	}
	port := binary.BigEndian.Uint16(b[2:])
	switch family := binary.NativeEndian.Uint16(b); {
	case family == 2 && len(b) >= 8: // AF_INET
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port).String()
	case family == 10 && len(b) >= 24: // AF_INET6
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), port).String()
	}
	return hex.EncodeToString(b)
}
