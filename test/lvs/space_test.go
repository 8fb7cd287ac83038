package lvslab

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"signalbox/lvs"
)

// The lab's networks. The director is the guest's own network namespace, between
// the two: clients, and real servers that answer them directly, are in front;
// real servers that answer through the director are at the back.
const (
	front4, back4 = "10.9.1.", "10.9.2."
	front6, back6 = "fd00:9:1::", "fd00:9:2::"
	self          = "254" // the director's host number on both
)

// space is a network namespace that plays one host.
type space struct {
	name, bridge string
	v4, v6       netip.Addr
	file         *os.File
}

// lab is the whole.
type lab struct {
	home    *os.File // the director's namespace
	clients [2]*space
	near    [3]*space // in front, for direct routing and tunnels
	far     [3]*space // at the back, for masquerading
	standby *space    // another director, in front
	vips    int
}

// theLab is laid out by the first test that needs it.
var theLab *lab

// director returns the lab in its first state, or skips the test, or fails it
// where the lab is required.
func director(t *testing.T) *lab {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a guest")
	}
	if missing != "" {
		if os.Getenv("SIGNALBOX_LAB") == "required" {
			t.Fatalf("the lab is required: %s", missing)
		}
		t.Skipf("SKIPPED %s: %s", t.Name(), missing)
	}
	if theLab == nil {
		l, err := layOut()
		if err != nil {
			t.Fatalf("the lab did not start: %v", err)
		}
		theLab = l
	}
	theLab.fresh(t)
	return theLab
}

// run runs a shell script, here or in the namespace named first.
func run(t testing.TB, script string) string {
	t.Helper()
	out, err := shell(script)
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return out
}

func shell(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-ec", script)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// vips is how many virtual addresses there are for the tests.
const vips = 40

// layOut makes it with few processes: starting one is slow in a guest.
func layOut() (*lab, error) {
	l := new(lab)
	var err error
	if l.home, err = os.Open("/proc/self/ns/net"); err != nil {
		return nil, err
	}
	if out, err := shell("modprobe -d /mnt/lab/modules ip_vs"); err != nil {
		return nil, fmt.Errorf("load ip_vs: %w: %s", err, out)
	}
	for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := lvs.WriteSysctl("net/"+path, "1"); err != nil {
			return nil, err
		}
	}
	for _, path := range []string{"ipv4/conf/all/send_redirects", "ipv4/conf/default/send_redirects", "ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter",
		"ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad"} {
		if err := lvs.WriteSysctl("net/"+path, "0"); err != nil {
			return nil, err
		}
	}
	var batch strings.Builder
	for _, n := range [][3]string{{"front", front4, front6}, {"back", back4, back6}} {
		fmt.Fprintf(&batch, "link add %[1]s type bridge\naddr add %[2]s%[4]s/24 dev %[1]s\naddr add %[3]s%[4]s/64 dev %[1]s nodad\nlink set %[1]s up\n", n[0], n[1], n[2], self)
	}
	for i := range l.clients {
		l.clients[i] = newSpace(&batch, fmt.Sprint("client", i+1), "front", i+1)
	}
	for i := range l.near {
		l.near[i] = newSpace(&batch, fmt.Sprint("near", i+1), "front", i+11)
		l.far[i] = newSpace(&batch, fmt.Sprint("far", i+1), "back", i+1)
	}
	l.standby = newSpace(&batch, "standby", "front", 20)
	for i := range vips {
		// As a source address the kernel must never choose one: preferred_lft 0.
		fmt.Fprintf(&batch, "addr add %s%d/32 dev front\naddr add %s%d/128 dev front nodad preferred_lft 0\n", front4, 101+i, front6, 101+i)
	}
	for _, s := range l.all() {
		if err := s.unshare(l.home); err != nil {
			return nil, err
		}
	}
	if err := ipBatch("", batch.String()); err != nil {
		return nil, err
	}
	for _, s := range l.all() {
		gateway4, gateway6 := front4, front6
		if s.bridge == "back" {
			gateway4, gateway6 = back4, back6
		}
		err := ipBatch(s.name, fmt.Sprintf("link set lo up\naddr add %s/24 dev eth0\naddr add %s/64 dev eth0 nodad\nlink set eth0 up\nroute add default via %s%s\nroute add default via %s%s\n",
			s.v4, s.v6, gateway4, self, gateway6, self))
		if err != nil {
			return nil, err
		}
	}
	return l, nil
}

// newSpace describes a host, and what connects it to its bridge.
func newSpace(batch *strings.Builder, name, bridge string, number int) *space {
	s := &space{name: name, bridge: bridge, v4: netip.MustParseAddr(fmt.Sprint(front4, number)), v6: netip.MustParseAddr(fmt.Sprint(front6, number))}
	if bridge == "back" {
		s.v4, s.v6 = netip.MustParseAddr(fmt.Sprint(back4, number)), netip.MustParseAddr(fmt.Sprint(back6, number))
	}
	fmt.Fprintf(batch, "link add %[1]s type veth peer name eth0 netns %[1]s\nlink set %[1]s master %[2]s up\n", name, bridge)
	return s
}

// unshare makes the namespace, named where iproute2 looks for it.
func (s *space) unshare(home *os.File) error {
	path := "/run/netns/" + s.name
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return err
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		return fmt.Errorf("make namespace %s: %w", s.name, err)
	}
	var err error
	s.file, err = os.Open(path)
	return err
}

// ipBatch runs commands of ip(8) in a namespace, "" for the director's.
func ipBatch(space, commands string) error {
	args := []string{"-batch", "-"}
	if space != "" {
		args = append([]string{"-n", space}, args...)
	}
	cmd := exec.Command("ip", args...)
	cmd.Stdin = strings.NewReader(commands)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s: %s", args, err, out, commands)
	}
	return nil
}

func (l *lab) all() []*space {
	list := append([]*space{l.standby}, l.clients[:]...)
	return append(append(list, l.near[:]...), l.far[:]...)
}

// fresh empties the kernel's table, and takes back what a test may have changed.
func (l *lab) fresh(t *testing.T) {
	t.Helper()
	l.flush(t)
	for name, value := range map[string]string{"expire_nodest_conn": "1", "expire_quiescent_template": "1", "conn_reuse_mode": "1", "conntrack": "0", "sloppy_tcp": "0"} {
		if err := lvs.WriteSysctl("net/ipv4/vs/"+name, value); err != nil {
			t.Fatal(err)
		}
	}
}

// flush empties the kernel's table.
func (l *lab) flush(t *testing.T) {
	t.Helper()
	found, err := owner(t).Dump(t.Context(), nil)
	if err == nil {
		err = lvs.Flush(t.Context(), slices.Collect(maps.Keys(found))...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// vip is a virtual address of the director that no test had before.
func (l *lab) vip(t *testing.T) (v4, v6 netip.Addr) {
	t.Helper()
	if l.vips == vips {
		t.Fatal("there are more tests than virtual addresses")
	}
	l.vips++
	return netip.MustParseAddr(fmt.Sprint(front4, 100+l.vips)), netip.MustParseAddr(fmt.Sprint(front6, 100+l.vips))
}

// do calls f in the namespace. Sockets that f makes stay there.
func (l *lab) do(s *space, f func()) {
	if s == nil { // the director
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(fmt.Sprintf("enter namespace %s: %v", s.name, err))
		}
		f()
		if unix.Setns(int(l.home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	<-done
}

// dial connects from a namespace.
func (l *lab) dial(s *space, network string, to netip.AddrPort) (c net.Conn, err error) {
	d := net.Dialer{Timeout: 3 * time.Second}
	l.do(s, func() { c, err = d.Dial(network, to.String()) })
	return c, err
}
