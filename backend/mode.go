package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"signalbox/config"
	"signalbox/internal/durable"
)

// Mode is what an operator has set a server to. It concerns reads only: who may
// take writes is never set by hand.
type Mode uint8

// The modes.
const (
	Enabled  Mode = iota
	Draining      // takes no new reads; what runs may end
	Disabled      // takes no reads; what runs is moved or cut
)

var modeNames = [...]string{"enabled", "draining", "disabled"}

// String is the mode's stable word.
func (m Mode) String() string { return modeNames[m] }

// MarshalText is the mode's stable word.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads it.
func (m *Mode) UnmarshalText(text []byte) error {
	for i, n := range modeNames {
		if n == string(text) {
			*m = Mode(i)
			return nil
		}
	}
	return fmt.Errorf("%q is none of enabled, draining, disabled", text)
}

// ErrNoServer: the configuration has no server of that name.
var ErrNoServer = errors.New("there is no such server")

// SetMode drains, disables or enables a server for reads, and keeps it where
// state_dir is set. An error about keeping it comes after it has taken effect.
func (c *Cluster) SetMode(name string, m Mode) error {
	s := c.Server(name)
	if s == nil {
		return fmt.Errorf("%s: %w; signalbox server list shows them", name, ErrNoServer)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.snapshot.Load().Servers[s.Index].Mode == m {
		return nil
	}
	c.change(func(next *Snapshot) {
		st := &next.Servers[s.Index]
		st.Mode, st.Since = m, Now()
	})
	text := "by an operator; it takes no new reads"
	if m == Enabled {
		text = "by an operator"
	}
	c.note("mode", s, m.String()+" "+text)
	if err := c.saveModes(); err != nil {
		return fmt.Errorf("%s is %s, but that will be forgotten at a restart: %w", name, m, err)
	}
	return nil
}

// Server is the server of that name, nil for none.
func (c *Cluster) Server(name string) *Server {
	for _, s := range c.servers {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// modesFile is the file in state_dir.
const modesFile = "servers.json"

func (c *Cluster) saveModes() error {
	if c.cfg.StateDir == "" {
		return errors.New("state_dir is not set")
	}
	modes := make(map[string]Mode)
	for _, st := range c.snapshot.Load().Servers {
		if st.Mode != Enabled {
			modes[st.Server.Name] = st.Mode
		}
	}
	text, err := json.MarshalIndent(modes, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.cfg.StateDir, 0o750); err != nil {
		return err
	}
	return durable.Replace(filepath.Join(c.cfg.StateDir, modesFile), append(text, '\n'))
}

// loadModes reads what saveModes wrote; no file means that all are enabled.
func loadModes(dir string) (map[string]Mode, error) {
	if dir == "" {
		return nil, nil
	}
	text, err := os.ReadFile(filepath.Join(dir, modesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	modes := make(map[string]Mode)
	if err == nil {
		err = json.Unmarshal(text, &modes)
	}
	if err != nil {
		return nil, fmt.Errorf("read which servers are drained from state_dir: %w", err)
	}
	return modes, nil
}

// sweep is how often it is looked for stalled servers and for connections to
// servers that are being drained.
const sweep = 100 * time.Millisecond

// drainGrace is how long after a server was taken out a session may still begin
// a statement there that it had decided on before.
const drainGrace = time.Second

// tend has servers probed that owe answers, and closes the connections that are
// idle to servers that are taken out.
func (c *Cluster) tend(ctx context.Context) {
	tick := time.NewTicker(sweep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := Now()
		for _, st := range c.snapshot.Load().Servers {
			if st.Server.Load.Mute(now) > c.cfg.Health.Stall {
				st.Server.hurry()
			}
			if st.Mode != Enabled && st.Server.Role == config.RoleReplica && now-st.Since > drainGrace {
				c.empty(&st)
			}
		}
	}
}

func (c *Cluster) empty(st *Status) {
	which := idle
	if st.Mode == Disabled {
		which = every
	}
	if n := st.Server.cut(which); n > 0 {
		c.log.Info("connections to a server that is taken out were closed", "server", st.Server.Name, "mode", st.Mode.String(), "connections", n)
	}
}
