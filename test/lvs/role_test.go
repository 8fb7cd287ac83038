package lvslab

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox/config"
	"signalbox/lvs"
)

// cluster is what a test tells the reconciler of the database cluster.
type cluster struct {
	mu      sync.Mutex
	now     lvs.Cluster
	changed chan struct{}
}

func newCluster(c lvs.Cluster) *cluster { return &cluster{now: c, changed: make(chan struct{})} }

func (c *cluster) get() lvs.Cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *cluster) change() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *cluster) set(now lvs.Cluster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
	close(c.changed)
	c.changed = make(chan struct{})
}

// base is the part of the configuration that these tests do not look at. far1
// and far2 are a primary and a replica.
const base = `listeners: [{address: "127.0.0.1:3399"}]
admin: {address: "127.0.0.1:9127"}
users: [{name: app, password: app-secret}]
servers:
  - {name: far1, role: primary, address: "10.9.2.1:3306"}
  - {name: far2, role: replica, address: "10.9.2.2:3306"}
authority: {source: static}
health: {user: signalbox, password: probe-secret}
`

// settings is a whole configuration with a section lvs: services are the lines
// of lvs.services, more the other keys.
func settings(stateDir, more string, services ...string) string {
	return base + fmt.Sprintf("lvs:\n  mode: kernel\n  state_dir: %q\n  interval: 500ms\n%s  services:\n    - %s\n", stateDir, more, strings.Join(services, "\n    - "))
}

// listed writes real servers with a check.
func listed(check string, port int, list ...*space) string {
	var text []string
	for _, s := range list {
		text = append(text, fmt.Sprintf(`{name: %s, address: "%s:%d", check: %s}`, s.name, s.v4, port, check))
	}
	return "real_servers: [" + strings.Join(text, ", ") + "]"
}

const quickCheck = "{type: tcp, interval: 200ms, timeout: 1s, fall: 2, rise: 1}"

// role is a running reconciler.
type role struct {
	*lvs.Reconciler
	owner *lvs.Owner
	log   *bytes.Buffer
	end   func()
}

// start runs a reconciler until the test ends, or end is called.
func start(t *testing.T, text string, c *cluster) *role {
	t.Helper()
	cfg, err := config.Parse("lab.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if c == nil {
		c = newCluster(lvs.Cluster{})
	}
	r := &role{log: new(bytes.Buffer)}
	if r.owner, err = lvs.NewOwner(cfg.LVS.StateDir, lvs.Exclusive(lvs.Virtuals(cfg))); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	r.Reconciler, err = lvs.New(cfg, lvs.Sources{Cluster: c.get, Changed: []func() <-chan struct{}{c.change}}, r.owner, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the reconciler ended: %v", err)
		}
		if t.Failed() {
			t.Logf("the reconciler's log:\n%s", r.log)
		}
	})
	t.Cleanup(r.end)
	return r
}

// stateDir is a directory for a state that outlives a reconciler.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// table is the kernel's table now.
func table(t *testing.T, o *lvs.Owner) lvs.Table {
	t.Helper()
	found, err := o.Dump(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// weights are the weights of a service's destinations, by the name of the host.
func (l *lab) weights(t *testing.T, o *lvs.Owner, k lvs.Key) map[string]int {
	t.Helper()
	found, err := o.Dump(t.Context(), []lvs.Key{k})
	if err != nil {
		t.Fatal(err)
	}
	w := make(map[string]int)
	for _, d := range found[k].Destinations {
		w[l.nameOf(d)] = int(d.Weight)
	}
	return w
}

// become waits until a service's weights are as written, and returns how long it
// took.
func (l *lab) become(t *testing.T, o *lvs.Owner, k lvs.Key, want string) time.Duration {
	t.Helper()
	began := time.Now()
	eventually(t, func() error {
		if got := shares(l.weights(t, o, k)); got != want {
			return fmt.Errorf("%s has %q, not %q", k, got, want)
		}
		return nil
	})
	return time.Since(began)
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
