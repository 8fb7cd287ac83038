// Package lab is two virtual machines with real DRBD 8.4 and MariaDB on the DRBD
// device, on one machine and without KVM: User-Mode-Linux guests that boot the
// host's own files, read-only, in a network namespace of the lab's own.
//
// It plays the cluster manager too: it promotes, mounts, starts, and announces
// what it does to the agents. It runs as root, and starts and stops nothing that
// is not its own. The tests beside it put the proxy in front.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// Options size a lab.
type Options struct {
	Dir     string // where disks, logs and configurations go; it must exist
	Program string // the guests' control program, see Inside
	Data    string // a MariaDB data directory to put on the device
}

// Lab is a running pair.
type Lab struct {
	Nodes [2]*Node // db1, db2
	opts  Options
}

// Addresses. The replication link and the service network are apart, so that a
// test can cut one and not the other.
const (
	replicationNet = "10.77.0."
	serviceNet     = "10.77.1."
	Host           = serviceNet + "254" // the namespace's own address
	Floating       = serviceNet + "100" // of the node that serves, for replicas
	diskMiB        = 256
	dataMiB        = 240 // the file system; DRBD's metadata come after it
)

// Packages are what the lab needs: a command or file, and Debian's package.
var Packages = map[string]string{"linux.uml": "user-mode-linux", "drbdadm": "drbd-utils", "ip": "iproute2", "modprobe": "kmod",
	"ethtool": "ethtool", "mke2fs": "e2fsprogs", "mariadbd": "mariadb-server-core"}

// Missing names the packages that are not there.
func Missing() error {
	var missing []string
	for command, name := range Packages {
		if _, err := exec.LookPath(command); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("install Debian's %v", missing)
	}
	if os.Geteuid() != 0 {
		return errors.New("the lab makes a network namespace: run as root")
	}
	return nil
}

// Start boots both guests and brings the pair to Connected, UpToDate on both
// sides, with db1 Primary and its MariaDB running. On failure nothing is left.
func Start(ctx context.Context, o Options) (*Lab, error) {
	l := &Lab{opts: o}
	if err := l.start(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context) error {
	o := l.opts
	if err := writeModules(ctx, o.Dir); err != nil {
		return err
	}
	if err := writeDisks(ctx, o); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "drbd.conf"), []byte(resource("dont-care")), 0o644); err != nil {
		return err
	}
	for i := range l.Nodes {
		l.Nodes[i] = &Node{Name: fmt.Sprintf("db%d", i+1), Address: fmt.Sprintf("%s%d", serviceNet, i+1), number: i + 1, lab: l}
	}
	if err := l.both(func(n *Node) error { return n.Boot(ctx) }); err != nil {
		return err
	}
	// The disks are equal: the first synchronisation can be left out.
	if err := l.Nodes[0].until(ctx, "Connected"); err != nil {
		return err
	}
	if err := l.Nodes[0].run(ctx, "drbdadm new-current-uuid --clear-bitmap mysql/0"); err != nil {
		return err
	}
	if err := l.Nodes[0].until(ctx, "ds:UpToDate/UpToDate"); err != nil {
		return err
	}
	return l.Nodes[0].Activate(ctx)
}

func (l *Lab) both(do func(*Node) error) error {
	var errs [2]error
	var group sync.WaitGroup
	for i, n := range l.Nodes {
		group.Go(func() { errs[i] = do(n) })
	}
	group.Wait()
	return errors.Join(errs[:]...)
}

// Close ends both guests, as a power cut does.
func (l *Lab) Close() {
	for _, n := range l.Nodes {
		if n != nil {
			n.PowerCut()
		}
	}
}

// writeModules makes a tree in which modprobe finds UML's modules.
func writeModules(ctx context.Context, dir string) error {
	tree := filepath.Join(dir, "modules")
	if err := os.MkdirAll(filepath.Join(tree, "lib"), 0o755); err != nil {
		return err
	}
	if err := os.Symlink("/usr/lib/uml/modules", filepath.Join(tree, "lib", "modules")); err != nil {
		return err
	}
	versions, err := os.ReadDir("/usr/lib/uml/modules")
	if err != nil || len(versions) == 0 {
		return fmt.Errorf("user-mode-linux has no modules (%v)", err)
	}
	for _, v := range versions {
		if out, err := exec.CommandContext(ctx, "depmod", "-b", tree, v.Name()).CombinedOutput(); err != nil {
			return fmt.Errorf("depmod %s: %w: %s", v.Name(), err, out)
		}
	}
	return nil
}

// writeDisks makes one file system with the data directory, for both nodes.
func writeDisks(ctx context.Context, o Options) error {
	first := disk(o.Dir, 1)
	f, err := os.Create(first)
	if err == nil {
		err = f.Truncate(diskMiB << 20)
		_ = f.Close()
	}
	if err != nil {
		return fmt.Errorf("make a disk: %w", err)
	}
	out, err := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d", o.Data,
		first, fmt.Sprintf("%dm", dataMiB)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make a file system of %s: %w: %s", o.Data, err, out)
	}
	if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", first, disk(o.Dir, 2)).CombinedOutput(); err != nil {
		return fmt.Errorf("copy a disk: %w: %s", err, out)
	}
	return nil
}

func disk(dir string, node int) string { return filepath.Join(dir, fmt.Sprintf("disk%d", node)) }

const resyncRate = "resync-rate 40M"

// resource is drbd.conf. The timers are shorter than DRBD's defaults, so that a
// lost peer is noticed in about two seconds rather than ten.
func resource(fencing string) string {
	return fmt.Sprintf(`global { usage-count no; }
resource mysql {
  device /dev/drbd0;
  disk /dev/ubdb;
  meta-disk internal;
  net { protocol C; cram-hmac-alg sha1; shared-secret lab; verify-alg sha1; timeout 30; ping-int 1; ping-timeout 15; connect-int 1; }
  disk { `+resyncRate+`; c-plan-ahead 0; c-min-rate 40M; fencing %s; }
  on db1 { address %s1:7789; }
  on db2 { address %s2:7789; }
}
`, fencing, replicationNet, replicationNet)
}
