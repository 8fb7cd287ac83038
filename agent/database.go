package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"golang.org/x/sys/unix"

	"signalbox/config"
	"signalbox/drbdwatch"
)

// asker asks the node's own mysqld who it is, over a connection that it keeps.
type asker struct {
	cfg   config.AgentDatabase
	conn  *client.Conn
	nc    net.Conn
	query string
}

// askTimeout is the longest that mysqld may take to say who it is.
const askTimeout = 2 * time.Second

// ask returns nil where there is no mysqld to ask.
func (k *asker) ask(ctx context.Context) *drbdwatch.Database {
	if k == nil {
		return nil
	}
	d, err := k.try(ctx)
	if err != nil {
		again := k.conn != nil
		k.close()
		if again { // the server may have closed an idle connection
			d, err = k.try(ctx)
		}
	}
	if err != nil {
		k.close()
		text, _, _ := strings.Cut(err.Error(), "\n")
		return &drbdwatch.Database{Err: text}
	}
	return d
}

func (k *asker) try(ctx context.Context) (d *drbdwatch.Database, err error) {
	defer func() {
		if r := recover(); r != nil { // the library slices a greeting unguarded
			err = fmt.Errorf("ask mysqld: %v", r)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if k.conn == nil {
		if err := k.connect(ctx); err != nil {
			return nil, err
		}
	}
	t, _ := ctx.Deadline()
	_ = k.nc.SetDeadline(t)
	r, err := k.conn.Execute(k.query)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// The library's strings lie in a buffer that it uses again.
	text := func(i int) string { v, _ := r.GetString(0, i); return strings.Clone(v) }
	d = &drbdwatch.Database{Hostname: text(0), DataDir: text(3), UUID: text(4)}
	d.ServerID, _ = strconv.ParseUint(text(1), 10, 32)
	d.ReadOnly = text(2) != "0" && !strings.EqualFold(text(2), "OFF")
	return d, nil
}

func (k *asker) connect(ctx context.Context) error {
	network, address := config.Network(k.cfg.Address)
	dialer := func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		nc, err := d.DialContext(ctx, network, address)
		if err == nil {
			t, _ := ctx.Deadline()
			_ = nc.SetDeadline(t)
			k.nc = nc
		}
		return nc, err
	}
	conn, err := client.ConnectWithDialer(ctx, network, address, k.cfg.User, k.cfg.Password.Reveal(), "", dialer, func(c *client.Conn) error {
		c.SetAttributes(map[string]string{"program_name": "signalbox agent"})
		return nil
	})
	if err != nil {
		return err
	}
	k.conn = conn
	k.query = "SELECT @@hostname, @@server_id, @@global.read_only, @@datadir, @@server_uuid"
	if strings.Contains(strings.ToLower(conn.GetServerVersion()), "mariadb") {
		k.query = "SELECT @@hostname, @@server_id, @@global.read_only, @@datadir, ''"
	}
	return nil
}

func (k *asker) close() {
	if k == nil {
		return
	}
	if k.conn != nil {
		_ = k.nc.SetDeadline(time.Now().Add(100 * time.Millisecond))
		_ = k.conn.Quit()
	}
	if k.nc != nil {
		_ = k.nc.Close()
	}
	k.conn, k.nc = nil, nil
}

// drbdMajor is DRBD's block device number (LANANA_DRBD_MAJOR in drbd.h).
const drbdMajor = 147

// mountOf tells on which device a directory lies, and which DRBD devices are
// under that.
func mountOf(dir string) *drbdwatch.Mount {
	m := &drbdwatch.Mount{DataDir: dir}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		m.Err = (&os.PathError{Op: "stat", Path: dir, Err: err}).Error()
		return m
	}
	major, minor := unix.Major(st.Dev), unix.Minor(st.Dev)
	m.Device = fmt.Sprintf("%d:%d", major, minor)
	m.Point = mountPoint(m.Device)
	m.Minors = drbdUnder(m.Device, 0)
	return m
}

// mountPoint is where a device is mounted (proc(5), mountinfo).
func mountPoint(device string) string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && fields[2] == device {
			return fields[4]
		}
	}
	return ""
}

// deepest is how many device mapper layers are looked through.
const deepest = 8

// drbdUnder lists the minors of DRBD devices that a device is or lies on, such
// as a logical volume on a DRBD device (sysfs-block, slaves).
func drbdUnder(device string, depth int) []int {
	major, minor, _ := strings.Cut(device, ":")
	if major == strconv.Itoa(drbdMajor) {
		if n, err := strconv.Atoi(minor); err == nil {
			return []int{n}
		}
	}
	if depth == deepest {
		return nil
	}
	var found []int
	slaves, _ := filepath.Glob("/sys/dev/block/" + device + "/slaves/*/dev")
	for _, s := range slaves {
		text, err := os.ReadFile(s)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		found = append(found, drbdUnder(strings.TrimSpace(string(text)), depth+1)...)
	}
	slices.Sort(found)
	return slices.Compact(found)
}
