package lvs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"signalbox/internal/durable"
)

// drains is what operators have drained, kept in a file so that a restart does
// not put a server back.
type drains struct {
	path string // empty: only in memory

	mu   sync.Mutex // guards list
	list []Drain
}

const drainsName = "lvs-drains.json"

func loadDrains(dir string) (*drains, error) {
	d := new(drains)
	if dir == "" {
		return d, nil
	}
	d.path = filepath.Join(dir, drainsName)
	text, err := os.ReadFile(d.path)
	if errors.Is(err, os.ErrNotExist) {
		return d, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &d.list)
	}
	if err != nil {
		return nil, fmt.Errorf("read the drained servers from %s: %w", d.path, err)
	}
	return d, nil
}

func (d *drains) all() []Drain {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.list)
}

// set adds a drain, or replaces the one of the same server and service.
func (d *drains) set(v Drain) error {
	return d.replace(func(list []Drain) []Drain {
		return append(slices.DeleteFunc(list, v.same), v)
	})
}

// end removes a drain; false when there is none.
func (d *drains) end(v Drain) (found bool, err error) {
	err = d.replace(func(list []Drain) []Drain {
		n := len(list)
		list = slices.DeleteFunc(list, v.same)
		found = len(list) < n
		return list
	})
	return found, err
}

func (v Drain) same(o Drain) bool { return v.Server == o.Server && v.Service == o.Service }

func (d *drains) replace(change func([]Drain) []Drain) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := change(slices.Clone(d.list))
	if d.path != "" {
		text, err := json.MarshalIndent(list, "", " ")
		if err == nil {
			err = durable.Replace(d.path, text)
		}
		if err != nil {
			return fmt.Errorf("keep the drained servers: %w: check that lvs.state_dir exists and can be written", err)
		}
	}
	d.list = list
	return nil
}
