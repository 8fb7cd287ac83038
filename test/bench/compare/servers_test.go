package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"signalbox/config"
)

func TestSignalboxConfigIsValid(t *testing.T) {
	for _, replica := range []string{"", "127.0.0.1:3"} {
		c, err := config.Parse("bench.yaml", []byte(signalboxConfig("127.0.0.1:1", "127.0.0.1:2", replica)))
		if err != nil {
			t.Fatal(err)
		}
		if want := 1 + len(replica)/len("127.0.0.1:3"); len(c.Servers) != want || c.TLS.Mode != "off" {
			t.Errorf("servers %v, TLS %q", c.Servers, c.TLS.Mode)
		}
	}
}

func TestProcessStops(t *testing.T) {
	p, err := start(t.TempDir(), "sleeper", "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	p.stop()
	p.stop() // harmless
	if _, err := procOf(p.pid()).cpu(); err == nil {
		t.Error("still there")
	}
}

func TestAwaitTellsWhy(t *testing.T) {
	never := func(context.Context) error { return errors.New("not yet") }
	p, err := start(t.TempDir(), "short", "sh", "-c", "echo no such option >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	err = p.await(t.Context(), time.Minute, never)
	if err == nil || !strings.Contains(err.Error(), "no such option") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, err = start(t.TempDir(), "sleeper", "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	if err := p.await(ctx, time.Minute, never); err == nil || !strings.Contains(err.Error(), "not yet") {
		t.Errorf("got %v", err)
	}
}

func TestFlags(t *testing.T) {
	o, err := parseFlags([]string{"-quick", "-workloads", "text", "-clients", "4"}, io.Discard)
	if err != nil || o.rounds != 1 || o.length != time.Second || o.idle != 200 {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := parseFlags([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
	for _, wrong := range [][]string{{"-rounds", "0"}, {"-workloads", "", "-idle", "0"}, {"-workloads", "x"}, {"-clients", "x"}, {"-rows", "1"}} {
		if _, err := parseFlags(wrong, io.Discard); err == nil {
			t.Errorf("%v was accepted", wrong)
		}
	}
}

// The whole program once, as small as it goes, without the proxy under test.
func TestCompareSmoke(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	for _, name := range []string{"mariadbd", "mariadb-install-db", "sysbench", "haproxy"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("SIGNALBOX_E2E") == "required" {
				t.Fatalf("%s is not installed", name)
			}
			t.Skipf("SKIPPED: %s is not installed", name)
		}
	}
	o, err := parseFlags([]string{"-quick", "-no-signalbox", "-workloads", "text,connect", "-clients", "2", "-idle", "20", "-json", t.TempDir() + "/r.json"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := compare(t.Context(), o, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if n := strings.Count(out.String(), "  haproxy  "); n != 3 {
		t.Errorf("lines of haproxy: %d, want 3\n%s", n, out.String())
	}
}
