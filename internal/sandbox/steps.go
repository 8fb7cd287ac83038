package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
)

// The steps of a switchover one by one, for a cluster manager under test that
// takes them itself; Switchover takes them all.

// StopDatabase ends a node's database in order and moves the floating address
// away. It may have ended already.
func (c *Cluster) StopDatabase(node string) {
	i := c.find(node)
	if !i.running() {
		return
	}
	c.floating.point("")
	i.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active = -1
}

// StartDatabase starts a node's database. Its node must be Primary: the device
// could not be mounted otherwise.
func (c *Cluster) StartDatabase(ctx context.Context, node string) error {
	if c.Primary() != node {
		return fmt.Errorf("%s is not Primary", node)
	}
	return c.serve(ctx, c.number(node))
}

// DatabaseRuns tells whether a node's database runs.
func (c *Cluster) DatabaseRuns(node string) bool { return c.find(node).running() }

// Primary is the node whose DRBD says that it is Primary, empty for none.
func (c *Cluster) Primary() string {
	for _, n := range c.nodes {
		if text, _ := os.ReadFile(c.procFile(n.name)); bytes.Contains(text, []byte("ro:Primary/")) {
			return n.name
		}
	}
	return ""
}

// StepUp makes a node Primary, unless the other is: of the connected pair, or
// alone after a PowerCut.
func (c *Cluster) StepUp(node string) error {
	if p := c.Primary(); p != "" && p != node {
		return fmt.Errorf("%s is Primary already", p)
	}
	n := c.number(node)
	if _, err := os.Stat(c.procFile(c.nodes[1-n].name)); err != nil {
		return c.SetDRBD(node, "WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----")
	}
	if n == 0 {
		c.roles("Primary", "Secondary")
	} else {
		c.roles("Secondary", "Primary")
	}
	return nil
}

// StepDown makes a node Secondary, unless its database holds the device open.
func (c *Cluster) StepDown(node string) error {
	if c.find(node).running() {
		return fmt.Errorf("the database holds the device of %s open", node)
	}
	if c.Primary() == node {
		c.demoteBoth()
	}
	return nil
}

func (c *Cluster) number(node string) int {
	for n, i := range c.nodes {
		if i.name == node {
			return n
		}
	}
	panic("sandbox: there is no node " + node)
}
