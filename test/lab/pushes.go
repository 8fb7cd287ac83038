package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/genetlink"
)

// pushesArgument is the first argument with which a guest starts Pushes.
const pushesArgument = "pushes-in-the-lab"

// roleChanges is DRBD's notification that a resource changed (RESOURCE_STATE in
// drbd/linux/drbd_genl.h); its role is one of its fields.
const roleChanges = 34

// pushes prints the time at which each notification of a resource's change
// reaches a process in this guest: the earliest that any watcher could know.
func pushes() error {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("open generic netlink: %w", err)
	}
	defer c.Close()
	family, err := c.GetFamily("drbd")
	if err != nil {
		return fmt.Errorf("DRBD's netlink family: %w", err)
	}
	for _, g := range family.Groups {
		if g.Name == "events" {
			err = c.JoinGroup(g.ID)
		}
	}
	if err != nil {
		return fmt.Errorf("join DRBD's events group: %w", err)
	}
	for {
		messages, _, err := c.Receive()
		at := time.Now()
		if err != nil {
			return fmt.Errorf("receive DRBD's events: %w", err)
		}
		for _, m := range messages {
			if m.Header.Command == roleChanges {
				fmt.Fprintln(os.Stdout, at.UnixNano())
				break
			}
		}
	}
}

// WatchPushes starts Pushes in the guest, scheduled as the agent is.
func (n *Node) WatchPushes(ctx context.Context) error {
	return n.Spawn(ctx, "pushes", "chrt --rr 1 "+n.lab.opts.Program+" "+pushesArgument)
}

// Pushed is when the first of the notifications after the skipped ones came, by
// the guest's clock, which is the host's; skip is how many there were before.
func (n *Node) Pushed(ctx context.Context, skip int) (at time.Time, seen int, err error) {
	text, err := n.File(ctx, "/run/pushes.log")
	if err != nil {
		return at, 0, err
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		nanos, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			return at, seen, errors.New(lines.Text())
		}
		if seen++; seen == skip+1 {
			at = time.Unix(0, nanos)
		}
	}
	if at.IsZero() {
		return at, seen, errors.New("no notification")
	}
	return at, seen, nil
}
