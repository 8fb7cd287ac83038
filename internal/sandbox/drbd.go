package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	procHead = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: STANDIN0000000000000000 \n"
	procTail = "    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0\n"
)

func (c *Cluster) procFile(node string) string { return filepath.Join(c.dir, node+".proc-drbd") }

// SetDRBD makes a node's stand-in for /proc/drbd say state, the part of a
// device's line after cs:, such as
// "Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----".
func (c *Cluster) SetDRBD(node, state string) error {
	text := procHead + " 0: cs:" + state + "\n" + procTail
	next := c.procFile(node) + ".new"
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(next, c.procFile(node)) // a reader sees the old or the new, never half
}

// roles sets both files to a connected pair.
func (c *Cluster) roles(first, second string) {
	c.mustSet("db1", fmt.Sprintf("Connected ro:%s/%s ds:UpToDate/UpToDate C r-----", first, second))
	c.mustSet("db2", fmt.Sprintf("Connected ro:%s/%s ds:UpToDate/UpToDate C r-----", second, first))
}

func (c *Cluster) mustSet(node, state string) {
	if err := c.SetDRBD(node, state); err != nil {
		panic(err) // the sandbox's own directory
	}
}

func (c *Cluster) demoteBoth() { c.roles("Secondary", "Secondary") }

// promote makes node n Primary, then starts its database, then moves the
// floating address: the order of a cluster manager.
func (c *Cluster) promote(ctx context.Context, n int) error {
	if n == 0 {
		c.roles("Primary", "Secondary")
	} else {
		c.roles("Secondary", "Primary")
	}
	return c.serve(ctx, n)
}

func (c *Cluster) serve(ctx context.Context, n int) error {
	for _, other := range c.nodes {
		if other.running() {
			return fmt.Errorf("%s still runs; two servers on one device would destroy it", other.name)
		}
	}
	if err := c.nodes[n].start(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	c.active = n
	c.mu.Unlock()
	c.floating.point(fmt.Sprintf("127.0.0.1:%d", c.nodes[n].port))
	return nil
}

// Phases are how long the steps of a switchover took.
type Phases struct {
	Stop    time.Duration // the old database's orderly end
	Promote time.Duration // both Secondary, to the other Primary
	Start   time.Duration // the new database's start
}

// Switchover moves the Primary to the other node in the planned way: stop the
// database, demote, promote there, start it there.
//
// demoting, when not nil, is called first, as a cluster manager calls signalbox
// notify demote.
func (c *Cluster) Switchover(ctx context.Context, demoting func(node string) error) (p Phases, err error) {
	c.mu.Lock()
	from := c.active
	c.mu.Unlock()
	if from < 0 {
		return p, fmt.Errorf("no node is active")
	}
	if demoting != nil {
		if err := demoting(c.nodes[from].name); err != nil {
			return p, fmt.Errorf("announce the demotion of %s: %w", c.nodes[from].name, err)
		}
	}
	at := time.Now()
	lap := func(d *time.Duration) { *d, at = time.Since(at), time.Now() }
	c.floating.point("")
	c.nodes[from].stop()
	c.mu.Lock()
	c.active = -1
	c.mu.Unlock()
	lap(&p.Stop)
	c.demoteBoth()
	if from == 1 {
		c.roles("Primary", "Secondary")
	} else {
		c.roles("Secondary", "Primary")
	}
	lap(&p.Promote)
	err = c.serve(ctx, 1-from)
	lap(&p.Start)
	return p, err
}

// PowerCut ends the active node as a loss of power does: its database is gone
// without a word and its DRBD cannot be read. The other node sees its peer
// vanish and stays Secondary.
func (c *Cluster) PowerCut() (lost string) {
	c.mu.Lock()
	from := c.active
	c.active = -1
	c.mu.Unlock()
	c.floating.point("")
	c.nodes[from].kill()
	_ = os.Remove(c.procFile(c.nodes[from].name))
	c.mustSet(c.nodes[1-from].name, "WFConnection ro:Secondary/Unknown ds:UpToDate/DUnknown C r-----")
	return c.nodes[from].name
}

// PromoteSurvivor makes the node that was not cut Primary, alone.
func (c *Cluster) PromoteSurvivor(ctx context.Context, lost string) error {
	n := 0
	if lost == "db1" {
		n = 1
	}
	c.mustSet(c.nodes[n].name, "WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----")
	return c.serve(ctx, n)
}

// Return brings the node that was cut back, as Secondary, and connects the pair.
func (c *Cluster) Return(lost string) {
	if lost == "db1" {
		c.roles("Secondary", "Primary")
	} else {
		c.roles("Primary", "Secondary")
	}
}

// SplitBrain makes both nodes claim to be Primary without a connection. The
// database goes on where it runs.
func (c *Cluster) SplitBrain() {
	for _, n := range c.nodes {
		c.mustSet(n.name, "StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown   r-----")
	}
}

// Freeze makes DRBD on the active node say that its I/O is suspended. The
// database there does not notice: the DRBD is a stand-in.
func (c *Cluster) Freeze() {
	c.mustSet(c.Active(), "Connected ro:Primary/Secondary ds:UpToDate/UpToDate C s-----")
}

// Heal ends a SplitBrain in favour of the active node, and a Freeze.
func (c *Cluster) Heal() {
	if c.Active() == "db2" {
		c.roles("Secondary", "Primary")
	} else {
		c.roles("Primary", "Secondary")
	}
}
