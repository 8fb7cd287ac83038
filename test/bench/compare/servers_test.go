package main

import (
	"bytes"
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
