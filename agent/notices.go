package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"signalbox/drbdwatch"
	"signalbox/internal/durable"
)

// notices is what cluster managers and fencing agents have told this agent.
type notices struct {
	file  string // where confirmed fencing is kept; empty for nowhere
	boot  string // of this host
	leave time.Duration

	mu      sync.Mutex // guards what follows
	leaving time.Time  // since when; zero: not leaving
	fences  []drbdwatch.Fence
}

// mostFences bounds the nodes that are confirmed to be off.
const mostFences = 64

// kept is what the file holds.
type kept struct {
	Boot   string            `json:"boot"`
	Fences []drbdwatch.Fence `json:"fences"`
}

// loadNotices reads what an agent before this one was told. What was told before
// this host started is dropped: the node that it fenced then may have fenced it
// since, and be Primary.
func loadNotices(dir, boot string, leave time.Duration) (*notices, error) {
	n := &notices{boot: boot, leave: leave}
	if dir == "" {
		return n, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	n.file = filepath.Join(dir, "fences.json")
	text, err := os.ReadFile(n.file)
	if errors.Is(err, os.ErrNotExist) {
		return n, nil
	}
	var k kept
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	if err != nil {
		return nil, fmt.Errorf("state_dir: %s: %w; remove the file if no node is fenced", n.file, err)
	}
	if k.Boot == boot {
		n.fences = k.Fences
	}
	return n, nil
}

// save writes the fences; the caller holds n.mu.
func (n *notices) save() error {
	if n.file == "" {
		return nil
	}
	text, err := json.Marshal(kept{n.boot, n.fences})
	if err != nil {
		return err
	}
	if err := durable.Replace(n.file, text); err != nil {
		return fmt.Errorf("keep confirmed fencing: %w", err)
	}
	return nil
}

// now is whether the node is about to be demoted, and which others are off.
func (n *notices) now() (leaving bool, fences []drbdwatch.Fence) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.leaving.IsZero() && time.Since(n.leaving) > n.leave {
		n.leaving = time.Time{}
	}
	return !n.leaving.IsZero(), slices.Clone(n.fences)
}

// demote records that the node is about to be demoted.
func (n *notices) demote() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leaving = time.Now()
}

// left ends that: the node has been demoted, or was promoted again.
func (n *notices) left() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leaving = time.Time{}
}

// fence records that another node is off.
func (n *notices) fence(node string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fences = slices.DeleteFunc(n.fences, func(f drbdwatch.Fence) bool { return f.Node == node })
	if len(n.fences) >= mostFences {
		return fmt.Errorf("%d nodes are fenced already", len(n.fences))
	}
	n.fences = append(n.fences, drbdwatch.Fence{Node: node, ID: token()})
	return n.save()
}

// unfence takes back what fence recorded, and tells whether there was anything.
func (n *notices) unfence(node string) (bool, error) {
	return n.drop(func(f drbdwatch.Fence) bool { return f.Node == node })
}

// void drops fences whose nodes were seen alive by a proxy, and tells whether
// there were any.
func (n *notices) void(ids []string) (bool, error) {
	return n.drop(func(f drbdwatch.Fence) bool { return slices.Contains(ids, f.ID) })
}

func (n *notices) drop(which func(drbdwatch.Fence) bool) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := len(n.fences)
	n.fences = slices.DeleteFunc(n.fences, which)
	if len(n.fences) == before {
		return false, nil
	}
	return true, n.save()
}
