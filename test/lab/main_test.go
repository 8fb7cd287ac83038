package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"signalbox/internal/sandbox"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == Argument || os.Args[1] == pushesArgument) {
		run := Inside
		if os.Args[1] == pushesArgument {
			run = pushes
		}
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Debian keeps these where a user's PATH may not look.
	_ = os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	if Missing() == nil && !short() {
		inside, code, err := Enter()
		if err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
		}
		if !inside {
			os.Exit(code)
		}
	}
	code := m.Run()
	theFront.close()
	shared.close()
	os.Exit(code)
}

// short tells whether -short was given, before the flags are parsed.
func short() bool {
	for _, a := range os.Args[1:] {
		if a == "-test.short" || a == "-test.short=true" || len(a) > 10 && a[:10] == "-test.list" {
			return true
		}
	}
	return false
}

// common is the one lab of all tests here, booted by the first that needs it.
type common struct {
	once    sync.Once
	lab     *Lab
	err     error
	dir     string
	program string // signalbox, static
}

var shared common

// theLab returns the lab with db1 Primary and serving, both disks up to date.
func theLab(t *testing.T) *Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a lab")
	}
	if err := Missing(); err != nil {
		if os.Getenv("SIGNALBOX_LAB") == "required" {
			t.Fatalf("the lab is required: %v", err)
		}
		t.Skipf("SKIPPED %s: %v", t.Name(), err)
	}
	shared.once.Do(func() { shared.err = shared.start(t) })
	if shared.err != nil {
		t.Fatalf("the lab did not start: %v", shared.err)
	}
	return shared.lab
}

func (c *common) start(t *testing.T) (err error) {
	if c.dir, err = os.MkdirTemp("", "sblab"); err != nil {
		return err
	}
	c.program = filepath.Join(c.dir, "signalbox")
	build := exec.Command("go", "build", "-o", c.program, "signalbox/cmd/signalbox")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build signalbox: %w: %s", err, out)
	}
	data, err := sandbox.DataDir(t.Context())
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.lab, err = Start(t.Context(), Options{Dir: c.dir, Program: self, Data: data})
	return err
}

func (c *common) close() {
	if c.lab != nil {
		c.lab.Close()
	}
	if c.dir != "" {
		_ = os.RemoveAll(c.dir)
	}
}
