package backend

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox/config"
	"signalbox/drbdwatch"
)

// clusterOf makes a cluster that does not run.
func clusterOf(t *testing.T, more string) *Cluster {
	t.Helper()
	cfg, err := config.Parse("test", []byte(`listeners: [{address: "127.0.0.1:3306"}]
users: [{name: app, password: x}]
servers: [{name: db, role: primary, address: "127.0.0.1:3307"}, {name: r1, role: replica, address: "127.0.0.1:3308"}]
authority: {source: static}
health: {user: probe}
`+more))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	watch, err := drbdwatch.New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	return New(cfg, watch, log, prometheus.NewRegistry())
}

func TestModesAreKept(t *testing.T) {
	dir := t.TempDir()
	c := clusterOf(t, "state_dir: "+dir+"\n")
	if err := c.SetMode("r1", Draining); err != nil {
		t.Fatal(err)
	}
	if err := c.SetMode("db", Disabled); err != nil {
		t.Fatal(err)
	}
	again := clusterOf(t, "state_dir: "+dir+"\n").Snapshot()
	if again.Servers[0].Mode != Disabled || again.Servers[1].Mode != Draining {
		t.Errorf("after a restart %v and %v", again.Servers[0].Mode, again.Servers[1].Mode)
	}
	if err := c.SetMode("r1", Enabled); err != nil {
		t.Fatal(err)
	}
	if m := clusterOf(t, "state_dir: "+dir+"\n").Snapshot().Servers[1].Mode; m != Enabled {
		t.Errorf("enabled again, after a restart %v", m)
	}
	events := c.Events().Since(0)
	if len(events) != 3 || events[2].Seq != 3 || events[2].Server != "r1" || !strings.HasPrefix(events[2].Text, "enabled") {
		t.Errorf("events %+v", events)
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 { // the other is the epochs
		t.Errorf("%d files in state_dir, want two", len(files))
	}
}

func TestModeFaults(t *testing.T) {
	c := clusterOf(t, "")
	if err := c.SetMode("nobody", Draining); err == nil || !strings.Contains(err.Error(), "there is no such server") {
		t.Errorf("an unknown server: %v", err)
	}
	if err := c.SetMode("r1", Draining); err == nil || !strings.Contains(err.Error(), "state_dir is not set") {
		t.Errorf("without state_dir: %v", err)
	}
	if c.Snapshot().Servers[1].Mode != Draining {
		t.Error("without state_dir it is done all the same")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, modesFile), []byte(`{"r1": "gone"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadModes(dir); err == nil || !strings.Contains(err.Error(), "none of enabled") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestEventsAreBounded(t *testing.T) {
	var e Events
	if len(e.Since(0)) != 0 || len(e.Since(99)) != 0 {
		t.Error("there are none yet")
	}
	for range 3 * maxEvents {
		e.Add("up", "r1", "x")
	}
	all := e.Since(0)
	if len(all) != maxEvents || all[0].Seq != 2*maxEvents+1 || all[maxEvents-1].Seq != 3*maxEvents {
		t.Errorf("%d events from %d", len(all), all[0].Seq)
	}
	if got := e.Since(3*maxEvents - 2); len(got) != 2 || got[0].Seq != 3*maxEvents-1 {
		t.Errorf("the last two: %+v", got)
	}
	if got := e.Since(9 * maxEvents); len(got) != 0 {
		t.Errorf("%d events after the last", len(got))
	}
}

// What live traffic met since the last probe counts with it.
func TestTraffic(t *testing.T) {
	for _, tt := range []struct {
		name         string
		server       int
		failed, good int
		sample       sample
		ok, proven   bool
	}{
		{"all is well", 1, 0, 5, sample{ok: true}, true, false},
		{"nobody is answered", 1, 3, 0, sample{ok: true}, false, false},
		{"some are answered", 1, 3, 1, sample{ok: true}, true, false},
		{"too few to tell", 1, 2, 0, sample{ok: true}, true, false},
		{"the probe and a client agree", 1, 1, 0, sample{mute: true}, false, true},
		{"the probe alone", 1, 0, 0, sample{mute: true}, false, false},
		{"the probe alone fails", 1, 1, 1, sample{mute: true}, false, false},
		{"the probe hears an error", 1, 1, 0, sample{}, false, false},
		{"clients do not say who may write", 0, 9, 0, sample{mute: true}, false, false},
		{"nor that a primary is down", 0, 9, 0, sample{ok: true}, true, false},
	} {
		c := clusterOf(t, "")
		tk := &taker{c: c, s: c.servers[tt.server]}
		for range tt.failed {
			tk.s.fails()
		}
		for range tt.good {
			tk.s.Load.Begin(0)
			tk.s.Load.Answer(Now(), 1)
			tk.s.Load.End(true)
		}
		tk.traffic(&tt.sample)
		if tt.sample.ok != tt.ok || tt.sample.proven != tt.proven {
			t.Errorf("%s: ok %v, proven %v", tt.name, tt.sample.ok, tt.sample.proven)
		}
	}
}
