package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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
	"signalbox/internal/ask"
)

// asker asks the node's own mysqld who it is.
type asker struct{ ask.Asker }

func newAsker(cfg *config.AgentDatabase) *asker {
	network, address := config.Network(cfg.Address)
	return &asker{ask.Asker{Network: network, Address: address, User: cfg.User, Password: cfg.Password.Reveal(), Program: "signalbox agent"}}
}

// askTimeout is the longest that mysqld may take to say who it is.
const askTimeout = 2 * time.Second

// ask returns nil where there is no mysqld to ask.
func (k *asker) ask(ctx context.Context) *drbdwatch.Database {
	if k == nil {
		return nil
	}
	kept := k.Connected()
	d, err := k.try(ctx)
	if err != nil && kept { // the server may have closed an idle connection
		d, err = k.try(ctx)
	}
	if err != nil {
		text, _, _ := strings.Cut(err.Error(), "\n")
		return &drbdwatch.Database{Err: text}
	}
	return d
}

func (k *asker) try(ctx context.Context) (d *drbdwatch.Database, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err = k.Do(ctx, func(c *client.Conn) error {
		query := "SELECT @@hostname, @@server_id, @@global.read_only, @@datadir, @@server_uuid"
		if ask.MariaDB(c.GetServerVersion()) {
			query = "SELECT @@hostname, @@server_id, @@global.read_only, @@datadir, ''"
		}
		r, err := c.Execute(query)
		if err != nil {
			return err
		}
		defer r.Close()
		text := func(i int) string { return ask.Cell(r.Resultset, i) }
		d = &drbdwatch.Database{Hostname: text(0), DataDir: text(3), UUID: text(4)}
		d.ServerID, _ = strconv.ParseUint(text(1), 10, 32)
		d.ReadOnly = text(2) != "0" && !strings.EqualFold(text(2), "OFF")
		return nil
	})
	return d, err
}

func (k *asker) close() {
	if k != nil {
		k.Close()
	}
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
