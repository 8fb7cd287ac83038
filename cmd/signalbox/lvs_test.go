package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox/admin"
	"signalbox/config"
	"signalbox/internal/poll"
	"signalbox/lvs"
)

const lvsConfig = `listeners: [{address: "127.0.0.1:3306"}]
users: [{name: app, password: x}]
servers: [{name: db, role: primary, address: "127.0.0.1:3307"}]
authority: {source: static}
health: {user: probe}
lvs:
  mode: socket
  socket: SOCKET
  state_dir: ""
  services: [{name: web, address: 10.9.0.1, ports: 80-82, real_servers: [{name: a, address: 10.0.0.1, check: {type: none}}]}]
`

// tableOnly is a kernel's table that only answers what it is told.
type tableOnly struct{ table lvs.Table }

func (k *tableOnly) Dump(context.Context, []lvs.Key) (lvs.Table, error) { return k.table, nil }
func (k *tableOnly) Apply(_ context.Context, list []lvs.Operation) ([]error, error) {
	return make([]error, len(list)), nil
}
func (k *tableOnly) Close() error { return nil }

func TestLVSCommands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(lvsConfig, "SOCKET", "/nonexistent/s", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	foreign, _ := lvs.ParseKey("tcp/10.9.0.1:80")
	sources := lvs.Sources{Cluster: func() lvs.Cluster { return lvs.Cluster{Settled: true} }}
	r, err := lvs.New(cfg, sources, &tableOnly{lvs.Table{foreign: {Settings: lvs.Settings{Scheduler: "rr"}}}}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	defer func() { cancel(); <-done }()
	err = poll.Until(t.Context(), 30*time.Second, func(context.Context) error {
		if r.Status().Compared.IsZero() {
			return errors.New("the reconciler has not looked at the table")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(admin.New(admin.Sources{Status: func() admin.Status { return admin.Status{} }, LVS: lvsAPI(r)}, prometheus.NewRegistry()))
	defer srv.Close()
	for _, tt := range []struct {
		args, want string
		status     int
	}{
		{"status", "conflict: tcp/10.9.0.1:80 is taken: rr with 0 real servers; another program made this service", 0},
		{"status", "web  tcp/10.9.0.1:80 and 2 more", 0},
		{"status", "not ours: tcp/10.9.0.1:80 rr", 0},
		{"status --json", `"mode": "socket"`, 0},
		{"plan", "add-service tcp/10.9.0.1:81 wlc (it is missing)", 0},
		{"apply --dry-run", "add-service tcp/10.9.0.1:82 wlc (it is missing)", 0},
		{"apply", "the whole table is being compared", 0},
		{"events", "conflict web  tcp/10.9.0.1:80 is taken", 0},
		{"drain a --service web --patience 30s", "a: drained", 0},
		{"status --json", `"service": "web"`, 0},
		{"drain b", `there is no real server "b"`, 1},
		{"drain a --patience soon", "patience is not a duration", 1},
		{"drain", "which server?", 1},
		{"undrain a --service web", "a: back", 0},
		{"undrain a", "a is not drained in all services", 1},
		{"flush", `there is no command "flush"`, 2},
	} {
		args := append(append([]string{"lvs"}, strings.Fields(tt.args)...), "--url", srv.URL)
		status, out, errors := runCommand("", args...)
		if status != tt.status || !strings.Contains(out+errors, tt.want) {
			t.Errorf("%s: status %d\n%s%s\nwant %s", tt.args, status, out, errors, tt.want)
		}
	}
	if status, _, errors := runCommand("", "lvs", "status", "-c", file); status != 1 || !strings.Contains(errors, "is it running, and is admin.address right?") {
		t.Errorf("no proxy: %d %s", status, errors)
	}
	if status, _, errors := runCommand("", "lvs", "serve", "-c", file); status != 1 || !strings.Contains(errors, "lvs.socket") {
		t.Errorf("no socket: %d %s", status, errors)
	}
}

func TestLVSChangesAreGuarded(t *testing.T) {
	srv := httptest.NewServer(admin.New(admin.Sources{Status: func() admin.Status { return admin.Status{} }, LVS: &admin.LVS{
		Apply: func() { t.Error("it was done") }}}, prometheus.NewRegistry()))
	defer srv.Close()
	for name, change := range map[string]func(*http.Request){
		"a page":       func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"an old page":  func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"another verb": func(r *http.Request) { r.Method = http.MethodGet },
	} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/lvs/apply", strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		change(r)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/lvs/apply", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	r.RemoteAddr = net.JoinHostPort("192.0.2.1", "1234")
	srv.Config.Handler.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("from another host: %d", w.Code)
	}
}
