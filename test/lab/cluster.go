package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	my "github.com/go-sql-driver/mysql"
)

// Accounts of the data directory that a lab is given.
const (
	User, Password, Schema = "app", "app-secret", "shop"
)

// Proc is the node's /proc/drbd.
func (n *Node) Proc(ctx context.Context) (string, error) { return n.File(ctx, "/proc/drbd") }

// until waits until /proc/drbd contains text.
func (n *Node) until(ctx context.Context, text string) error {
	return condition(ctx, n.Name+" to show "+text, func() error {
		proc, err := n.Proc(ctx)
		if err == nil && !strings.Contains(proc, text) {
			err = errors.New(proc)
		}
		return err
	})
}

// Until is until, for tests.
func (n *Node) Until(ctx context.Context, text string) error { return n.until(ctx, text) }

// Promote makes the node DRBD Primary.
func (n *Node) Promote(ctx context.Context) error { return n.run(ctx, "drbdadm primary mysql") }

// Demote makes the node DRBD Secondary.
func (n *Node) Demote(ctx context.Context) error { return n.run(ctx, "drbdadm secondary mysql") }

// Activate promotes the node, mounts the device and starts MariaDB on it: the
// order of a cluster manager.
func (n *Node) Activate(ctx context.Context) error {
	if err := n.Promote(ctx); err != nil {
		return err
	}
	if err := n.Serve(ctx); err != nil {
		return err
	}
	return n.TakeAddress(ctx)
}

// Serve mounts the device and starts MariaDB on it.
func (n *Node) Serve(ctx context.Context) error {
	script := `mountpoint -q /mnt/data || { mkdir -p /mnt/data && mount /dev/drbd0 /mnt/data; } || exit 1
setsid mariadbd --no-defaults --user=root --datadir=/mnt/data --socket=/run/mysqld/s --pid-file=/run/mysqld/pid --bind-address=0.0.0.0 \
 --port=3306 --server-id=1 --skip-name-resolve --tmpdir=/run/tmp --innodb-use-native-aio=0 --innodb-buffer-pool-size=32M \
 --loose-innodb-buffer-pool-size-max=64M --innodb-flush-log-at-trx-commit=1 --sync-binlog=1 --performance-schema=OFF \
 --log-bin=/mnt/data/binlog --binlog-format=ROW --gtid-strict-mode=ON --log-slave-updates=ON --innodb-log-file-size=48M \
 --general-log=ON --general-log-file=/run/general.log </dev/null >/run/mariadbd.log 2>&1 &`
	if err := n.run(ctx, script); err != nil {
		return err
	}
	db, err := n.Open()
	if err != nil {
		return err
	}
	defer db.Close()
	err = condition(ctx, "MariaDB on "+n.Name, func() error { return db.PingContext(ctx) })
	if err != nil {
		log, _ := n.Run(ctx, "tail -20 /run/mariadbd.log")
		return fmt.Errorf("%w: %s", err, log)
	}
	return nil
}

// TakeAddress brings the floating address here, and has the host forget where it
// was, as an announcement by ARP would.
func (n *Node) TakeAddress(ctx context.Context) error {
	if err := n.run(ctx, "ip addr replace "+Floating+"/24 dev vec1"); err != nil {
		return err
	}
	return ip("neigh", "flush", "to", Floating)
}

// quietDriver keeps the driver from printing what the caller reports anyway.
type quietDriver struct{}

func (quietDriver) Print(...any) {}

// Open opens the node's MariaDB, past any proxy.
func (n *Node) Open() (*sql.DB, error) { return Open(n.Address + ":3306") }

// Open opens a MariaDB or a proxy in front of one.
func Open(address string) (*sql.DB, error) {
	c := my.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName, c.Logger = User, Password, "tcp", address, Schema, quietDriver{}
	c.Timeout, c.ReadTimeout, c.AllowNativePasswords = 5*time.Second, 60*time.Second, true
	connector, err := my.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// StopServing stops MariaDB in order and unmounts.
func (n *Node) StopServing(ctx context.Context) error {
	return n.run(ctx, "ip addr del "+Floating+`/24 dev vec1 2>/dev/null; pid=$(cat /run/mysqld/pid) && kill "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done; umount /mnt/data`)
}

// KillDatabase ends MariaDB as kill -9 does; the device stays mounted.
func (n *Node) KillDatabase(ctx context.Context) error {
	return n.run(ctx, `kill -9 "$(cat /run/mysqld/pid)"; true`)
}

// Switchover moves the Primary in the planned way. announce, when not nil, is
// called first.
func (l *Lab) Switchover(ctx context.Context, from, to *Node, announce func() error) error {
	if announce != nil {
		if err := announce(); err != nil {
			return err
		}
	}
	if err := from.StopServing(ctx); err != nil {
		return err
	}
	if err := from.Demote(ctx); err != nil {
		return err
	}
	return to.Activate(ctx)
}

// CutLink cuts the replication link at one end; the service network stays.
func (l *Lab) CutLink(ctx context.Context) error {
	return l.Nodes[1].run(ctx, "ip link set vec0 down")
}

// HealLink mends it.
func (l *Lab) HealLink(ctx context.Context) error {
	return l.Nodes[1].run(ctx, "ip link set vec0 up")
}

// CutService takes the node off the service network; HealService brings it back.
func (n *Node) CutService(ctx context.Context) error { return n.run(ctx, "ip link set vec1 down") }

// HealService ends CutService.
func (n *Node) HealService(ctx context.Context) error { return n.run(ctx, "ip link set vec1 up") }

// Detach takes the node's own disk away; Attach gives it back.
func (n *Node) Detach(ctx context.Context) error { return n.run(ctx, "drbdadm detach mysql") }

// Attach ends Detach.
func (n *Node) Attach(ctx context.Context) error { return n.run(ctx, "drbdadm attach mysql") }

// ReplaceDisk gives the node an empty disk for its own, to be filled from the
// peer at 1 MiB/s: in minutes, of which Restore makes seconds. Unlike drbdadm
// invalidate, after which DRBD 8.4 was seen to hang under writes, this stops
// nothing on a Primary.
func (n *Node) ReplaceDisk(ctx context.Context) error {
	return n.run(ctx, "sed 's/"+resyncRate+"/resync-rate 1M/' "+n.lab.opts.Dir+"/drbd.conf >/etc/drbd.conf && "+emptyDisk)
}

// emptyDisk has the node forget what its disk is worth.
const emptyDisk = "drbdadm detach mysql && drbdadm create-md --force mysql && drbdadm attach mysql"

// SuspendIO freezes the device; ResumeIO lets it go on.
func (n *Node) SuspendIO(ctx context.Context) error { return n.run(ctx, "drbdadm suspend-io mysql") }

// ResumeIO ends SuspendIO.
func (n *Node) ResumeIO(ctx context.Context) error { return n.run(ctx, "drbdadm resume-io mysql") }

// Invalidate makes the node's data inconsistent, to be brought up to date from
// the peer.
func (n *Node) Invalidate(ctx context.Context) error { return n.run(ctx, "drbdadm invalidate mysql") }

// Verify starts an online verify.
func (n *Node) Verify(ctx context.Context) error { return n.run(ctx, "drbdadm verify mysql") }

// Fencing sets the fencing policy on both nodes, and the exit code with which
// the fence handler answers (drbd.conf(5), fence-peer). drbdadm adjust would
// connect too what is not, and drbdadm disk-options leaves fencing out.
func (l *Lab) Fencing(ctx context.Context, policy string, exit int) error {
	if err := os.WriteFile(filepath.Join(l.opts.Dir, "drbd.conf"), []byte(resource(policy)), 0o644); err != nil {
		return err
	}
	return l.both(func(n *Node) error {
		return n.run(ctx, fmt.Sprintf("cat %s/drbd.conf >/etc/drbd.conf && echo %d >/run/fence-exit && "+
			"{ grep -q ds:Diskless /proc/drbd || drbdsetup disk-options 0 --set-defaults --fencing=%s --%s --c-plan-ahead=0 --c-min-rate=40M; }",
			l.opts.Dir, exit, policy, strings.Replace(resyncRate, " ", "=", 1)))
	})
}

// settle ends what runs on the device, and makes the node a Secondary that is
// connected to nobody. The database goes before the address, so that replicas
// hear of it.
const settle = `end=$(($(date +%s) + 30))
within() { until "$@"; do [ "$(date +%s)" -lt $end ] || { echo "not in 30 s: $*"; cat /proc/drbd; exit 1; }; sleep 0.1; done; }
unmounted() { drbdadm resume-io mysql 2>/dev/null; ! mountpoint -q /mnt/data || umount /mnt/data 2>/dev/null; }
apart() { grep -q -e cs:StandAlone -e cs:Unconfigured /proc/drbd || { drbdadm disconnect --force mysql 2>/dev/null; false; }; }
kill -9 "$(cat /run/mysqld/pid 2>/dev/null)" 2>/dev/null
within unmounted
ip addr del ` + Floating + `/24 dev vec1 2>/dev/null
within apart
within drbdadm secondary mysql
! grep -q ds:Diskless /proc/drbd || drbdadm attach mysql`

// Restore ends whatever was done to the pair, in favour of survivor's data, and
// leaves survivor serving.
func (l *Lab) Restore(ctx context.Context, survivor *Node) error {
	victim := l.Nodes[0]
	if survivor == victim {
		victim = l.Nodes[1]
	}
	for _, n := range l.Nodes {
		if n.Off() {
			if err := n.Boot(ctx); err != nil {
				return err
			}
		}
	}
	if err := l.Fencing(ctx, "dont-care", 5); err != nil {
		return err
	}
	// As long as the two are apart neither can become the other's source.
	err := l.both(func(n *Node) error {
		if n.run(ctx, settle) == nil {
			return nil
		}
		n.PowerCut() // something hangs in its kernel
		if err := n.Boot(ctx); err != nil {
			return err
		}
		return n.run(ctx, settle)
	})
	if err != nil {
		return err
	}
	if err := l.both(func(n *Node) error { return n.run(ctx, "ip link set vec0 up && ip link set vec1 up") }); err != nil {
		return err
	}
	if err := survivor.run(ctx, "drbdadm primary --force mysql && drbdadm connect mysql"); err != nil {
		return err
	}
	if err := victim.run(ctx, "drbdadm connect --discard-my-data mysql"); err != nil {
		return err
	}
	if err := survivor.rejoined(ctx, victim); err != nil {
		return err
	}
	if err := survivor.Serve(ctx); err != nil {
		return err
	}
	return survivor.TakeAddress(ctx)
}

// rejoined waits until both disks are good. When survivor, the Primary, refuses
// victim's data because they are newer than its own, victim gets an empty disk.
func (n *Node) rejoined(ctx context.Context, victim *Node) error {
	const good = "cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate"
	return condition(ctx, n.Name+" to show "+good, func() error {
		proc, err := n.Proc(ctx)
		switch {
		case err != nil:
			return err
		case strings.Contains(proc, good):
			return nil
		case strings.Contains(proc, "cs:StandAlone"):
			if err := victim.run(ctx, "drbdadm disconnect --force mysql; "+emptyDisk+" && drbdadm connect mysql"); err != nil {
				return err
			}
			if err := n.run(ctx, "drbdadm connect mysql"); err != nil {
				return err
			}
		}
		return errors.New(proc)
	})
}

// Off tells whether the guest does not run.
func (n *Node) Off() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd == nil
}

// Spawn starts a long-running program in the guest; its output goes to
// /run/NAME.log there.
func (n *Node) Spawn(ctx context.Context, name, command string) error {
	return n.run(ctx, fmt.Sprintf("setsid %s </dev/null >/run/%s.log 2>&1 & echo $! >/run/%s.pid", command, name, name))
}

// Log is what a program started by Spawn has printed.
func (n *Node) Log(ctx context.Context, name string, to io.Writer) {
	text, err := n.Run(ctx, "tail -c 20000 /run/"+name+".log")
	fmt.Fprintln(to, text, err)
}
