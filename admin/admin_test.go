package admin

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
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
