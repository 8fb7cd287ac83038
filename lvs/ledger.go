package lvs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"signalbox/internal/durable"
)

// ledger is which services of the kernel's table are ours. It is kept in a file,
// so that after a crash it is known; of another boot or network namespace it says
// nothing.
type ledger struct {
	path    string // empty: only in memory
	kernel  string // boot and network namespace
	entries map[Key]entry
	dirty   bool
}

// entry is one service of ours. It is written before the service is made, with
// what it will be: if the process dies in between, a service that is found counts
// as ours only when it is just that.
type entry struct {
	Made     bool     `json:"made"`
	Settings Settings `json:"settings"`
}

type ledgerFile struct {
	Version  int           `json:"version"`
	Kernel   string        `json:"kernel"`
	Services map[Key]entry `json:"services"`
}

const ledgerName = "lvs-services.json"

// thisKernel names the running kernel and the network namespace.
func thisKernel() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	space, err2 := os.Readlink("/proc/self/ns/net")
	if err != nil || err2 != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + space
}

// loadLedger reads the ledger in dir; empty dir keeps it in memory.
func loadLedger(dir, kernel string) (*ledger, error) {
	l := &ledger{kernel: kernel, entries: make(map[Key]entry)}
	if dir == "" {
		return l, nil
	}
	l.path = filepath.Join(dir, ledgerName)
	text, err := os.ReadFile(l.path)
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the list of own virtual services: %w", err)
	}
	f, err := parseLedger(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: without it own virtual services cannot be told from others'; move it away, and set lvs.adopt for one start", l.path, err)
	}
	if f.Kernel == kernel && kernel != "" {
		l.entries = f.Services
	}
	return l, nil
}

func parseLedger(text []byte) (*ledgerFile, error) {
	f := new(ledgerFile)
	if err := json.Unmarshal(text, f); err != nil {
		return nil, fmt.Errorf("not a list of services: %w", err)
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("version %d is not known", f.Version)
	}
	if f.Services == nil {
		f.Services = make(map[Key]entry)
	}
	return f, nil
}

func (l *ledger) set(k Key, e entry) {
	if l.entries[k] != e {
		l.entries[k], l.dirty = e, true
	}
}

func (l *ledger) drop(k Key) {
	if _, ok := l.entries[k]; ok {
		delete(l.entries, k)
		l.dirty = true
	}
}

// owns: the service found under k is ours.
func (l *ledger) owns(k Key, found Settings) bool {
	e, ok := l.entries[k]
	return ok && (e.Made || e.Settings == found)
}

// save writes what has changed.
func (l *ledger) save() error {
	if !l.dirty {
		return nil
	}
	if l.path != "" {
		text, err := json.MarshalIndent(ledgerFile{Version: 1, Kernel: l.kernel, Services: l.entries}, "", " ")
		if err == nil {
			err = durable.Replace(l.path, text)
		}
		if err != nil {
			return fmt.Errorf("keep the list of own virtual services: %w: check that lvs.state_dir exists and can be written", err)
		}
	}
	l.dirty = false
	return nil
}
