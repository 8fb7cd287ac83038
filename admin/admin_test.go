package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox/drbdwatch"
)

func TestEndpoints(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "signalbox_test_total", Help: "x"})
	c.Inc()
	reg.MustRegister(c)
	ready := true
	handler := New(Sources{
		Status: func() Status {
			return Status{Version: "v", Authority: drbdwatch.Authority{Writer: "db1", Verdict: drbdwatch.Route, Reason: "healthy"}}
		},
		Ready: func() (bool, string) { return ready, "db1 takes writes" },
	}, reg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, ln, handler, slog.New(slog.DiscardHandler)) }()
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + ln.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if code, body := get("/metrics"); code != 200 || !strings.Contains(body, "signalbox_test_total 1") {
		t.Errorf("metrics: %d %s", code, body)
	}
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("healthz: %d", code)
	}
	if code, body := get("/readyz"); code != 200 || !strings.Contains(body, "db1") {
		t.Errorf("readyz: %d %s", code, body)
	}
	ready = false
	if code, _ := get("/readyz"); code != 503 {
		t.Errorf("readyz when not ready: %d", code)
	}
	_, body := get("/status")
	var s struct {
		Authority struct{ Writer, Decision, Reason string }
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil || s.Authority.Writer != "db1" || s.Authority.Decision != "route" {
		t.Errorf("status: %v %s", err, body)
	}
	if code, body := get("/"); code != 200 || !strings.Contains(body, "<title>Signalbox</title>") {
		t.Errorf("page: %d", code)
	}
	if code, _ := get("/nothing"); code != 404 {
		t.Errorf("unknown path: %d", code)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What changes something is taken from this host, or with the token, and never
// from a page of another site.
func TestChanges(t *testing.T) {
	set := ""
	src := Sources{
		Status: func() Status { return Status{Servers: []Server{{Name: "r1"}}} },
		Events: func(since uint64) []Event { return []Event{{Seq: since + 1, Kind: "up"}} },
		SetMode: func(server, mode string) error {
			if server == "nobody" {
				return fmt.Errorf("%s: %w", server, ErrUnknown)
			}
			set = server + " " + mode
			if server == "r2" {
				return errors.New("it will be forgotten")
			}
			return nil
		},
	}
	request := func(method, path, from string, header ...string) (int, string) {
		r := httptest.NewRequest(method, "http://127.0.0.1:9127"+path, nil)
		r.RemoteAddr = from
		for i := 0; i < len(header); i += 2 {
			if r.Header.Set(header[i], header[i+1]); header[i] == "Host" {
				r.Host = header[i+1]
			}
		}
		w := httptest.NewRecorder()
		New(src, prometheus.NewRegistry()).ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	const here, there = "127.0.0.1:4000", "192.0.2.7:4000"
	for _, tt := range []struct {
		name, token, method, path, from string
		header                          []string
		code                            int
		set, says                       string
	}{
		{name: "drain", method: "POST", path: "/servers/r1/drain", from: here, code: 200, set: "r1 draining", says: `"mode": "draining"`},
		{name: "disable", method: "POST", path: "/servers/r1/disable", from: "[::1]:4000", code: 200, set: "r1 disabled"},
		{name: "enable", method: "POST", path: "/servers/r1/enable", from: here, code: 200, set: "r1 enabled"},
		{name: "a warning", method: "POST", path: "/servers/r2/drain", from: here, code: 200, set: "r2 draining", says: "it will be forgotten"},
		{name: "an unknown server", method: "POST", path: "/servers/nobody/drain", from: here, code: 404},
		{name: "an unknown action", method: "POST", path: "/servers/r1/explode", from: here, code: 404},
		{name: "not by GET", method: "GET", path: "/servers/r1/drain", from: here, code: 405},
		{name: "from elsewhere", method: "POST", path: "/servers/r1/drain", from: there, code: 403, says: "admin.token"},
		{name: "another site's page", method: "POST", path: "/servers/r1/drain", from: here, header: []string{"Sec-Fetch-Site", "cross-site"}, code: 403},
		{name: "another site's page, old browser", method: "POST", path: "/servers/r1/drain", from: here, header: []string{"Origin", "http://evil.example"}, code: 403},
		{name: "a stranger's name for this host", method: "POST", path: "/servers/r1/drain", from: here, header: []string{"Host", "evil.example"}, code: 403},
		{name: "token missing", token: "t", method: "POST", path: "/servers/r1/drain", from: here, code: 401},
		{name: "token wrong", token: "t", method: "POST", path: "/servers/r1/drain", from: here, header: []string{"Authorization", "Bearer x"}, code: 401},
		{name: "token from elsewhere", token: "t", method: "POST", path: "/servers/r1/drain", from: there, header: []string{"Authorization", "Bearer t"}, code: 200, set: "r1 draining"},
		{name: "list", method: "GET", path: "/servers", from: there, code: 200, says: `"name": "r1"`},
		{name: "events", method: "GET", path: "/events?since=41", from: there, code: 200, says: `"seq": 42`},
	} {
		set, src.Token = "", tt.token
		code, body := request(tt.method, tt.path, tt.from, tt.header...)
		if code != tt.code || set != tt.set || !strings.Contains(body, tt.says) {
			t.Errorf("%s: %d, set %q: %s", tt.name, code, set, body)
		}
	}
}
