package lvs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"signalbox/config"
)

func proberFor(kind, to string, change func(*config.LVSCheck)) *prober {
	c := check{server: "web", to: addr(to), cfg: config.LVSCheck{Type: kind, Timeout: 5 * time.Second, Status: 200, Path: "/", Query: "SELECT 1"}}
	if change != nil {
		change(&c.cfg)
	}
	return newProber(c)
}

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestTCPCheckSaysGoodbye(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	end := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			end <- err
			return
		}
		defer c.Close()
		fmt.Fprint(c, "a greeting that nobody wants")
		_, err = bufio.NewReader(c).ReadByte()
		end <- err
	}()
	if err := proberFor("tcp", ln.Addr().String(), nil).run(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-end; err == nil || err.Error() != "EOF" {
		t.Errorf("the server sees %v, not an ordinary end", err)
	}
	if err := proberFor("tcp", closedPort(t), nil).run(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestHTTPCheck(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/health?deep=1" || r.Host != "shop.example" {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer srv.Close()
	right := func(c *config.LVSCheck) { c.Path, c.Host = "/health?deep=1", "shop.example" }
	if err := proberFor("http", srv.Listener.Addr().String(), right).run(t.Context()); err != nil {
		t.Error(err)
	}
	if err := proberFor("http", srv.Listener.Addr().String(), nil).run(t.Context()); err == nil || !strings.Contains(err.Error(), "GET / gives 418, not 200") {
		t.Error(err)
	}
}

func TestCommandCheck(t *testing.T) {
	sh := func(script string) *prober {
		return proberFor("command", "10.0.0.1:80", func(c *config.LVSCheck) { c.Command = []string{"/bin/sh", "-c", script}; c.Timeout = 20 * time.Second })
	}
	if err := sh(`test "$SIGNALBOX_ADDRESS $SIGNALBOX_PORT $SIGNALBOX_SERVER" = "10.0.0.1 80 web"`).run(t.Context()); err != nil {
		t.Error(err)
	}
	if err := sh("exit 3").run(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Error(err)
	}
	slow := sh("sleep 1000 & wait")
	slow.check.cfg.Timeout = 50 * time.Millisecond
	if err := slow.run(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Error(err)
	}
}

func TestMySQLCheckOfSomethingElse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "\x05\x00\x00\x00hello")
			_ = c.Close()
		}
	}()
	p := proberFor("mysql", ln.Addr().String(), nil)
	defer p.asker.Close()
	if err := p.run(t.Context()); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if err := proberFor("mysql", closedPort(t), nil).run(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestTally(t *testing.T) {
	bad := errors.New("bad")
	tests := []struct {
		name    string
		results []error
		want    string
	}{
		{"the first settles it", []error{nil}, "up"},
		{"fall", []error{nil, bad, bad, bad}, "up up up down"},
		{"fall is in a row", []error{nil, bad, bad, nil, bad, bad, bad}, "up up up up up up down"},
		{"refused is certain", []error{nil, fmt.Errorf("dial: %w", syscall.ECONNREFUSED)}, "up down"},
		{"rise", []error{bad, nil, nil}, "down down up"},
		{"rise is in a row", []error{bad, nil, bad, nil, nil}, "down down down down up"},
	}
	for _, tt := range tests {
		var state tally
		var got []string
		for _, err := range tt.results {
			state = state.take(err, 2, 3)
			word := "down"
			if v := state.verdict(err); v.Healthy {
				word = "up"
			}
			got = append(got, word)
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, s, tt.want)
		}
	}
}

// One server in two services with equal checks is checked once.
func TestChecksAreShared(t *testing.T) {
	base := desiredConfig[:strings.Index(desiredConfig, "    - {name: reads")]
	list := checks(parseConfig(t, base+`    - {name: a, address: 10.9.0.1, ports: 80-89, check: {type: tcp, port: 80}, real_servers: [{name: x, address: 10.0.0.1}, {name: y, address: 10.0.0.2}]}
    - {name: b, address: 10.9.0.2, ports: "80", check: {type: tcp, port: 80}, real_servers: [{name: x, address: 10.0.0.1}]}
    - {name: c, address: 10.9.0.3, ports: "80", real_servers: [{name: x, address: 10.0.0.1, check: {type: http}}]}
    - {name: d, address: 10.9.0.4, ports: "3306", servers: replicas}
`))
	if len(list) != 3 {
		t.Errorf("%d checks, want x and y by tcp, and x by http", len(list))
	}
}

func TestAddressOnThisHost(t *testing.T) {
	_, a, _ := net.ParseCIDR("10.9.0.1/32")
	if !anyOf([]net.Addr{a}, map[netip.Addr]bool{netip.MustParseAddr("10.9.0.1"): true}) || anyOf([]net.Addr{a}, map[netip.Addr]bool{netip.MustParseAddr("10.9.0.2"): true}) {
		t.Error("wrong")
	}
}

// A standby checks slowly, and at once when it becomes active.
func TestHealthPublishesVerdicts(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	base := desiredConfig[:strings.Index(desiredConfig, "    - {name: reads")]
	port := srv.Listener.Addr().(*net.TCPAddr).Port
	woken := make(chan struct{}, 100)
	h := newHealth(parseConfig(t, base+fmt.Sprintf("    - {name: a, address: 127.0.0.1, ports: \"80\", check: {type: http, status: 404, interval: 5ms, port: %d}, real_servers: [{name: x, address: 127.0.0.1}]}\n", port)),
		func() { woken <- struct{}{} })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { h.run(ctx); close(done) }()
	<-woken
	v := *h.verdicts.Load()
	if len(v) != 1 || !slices.ContainsFunc(h.list, func(c check) bool { return v[c.id].Healthy }) {
		t.Errorf("%v", v)
	}
	cancel()
	<-done
}
