package lvslab

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"signalbox/internal/child"
	"signalbox/internal/sandbox"
)

//go:embed init.sh
var initScript []byte

// insideMark is set in the environment of the run inside the guest: the lab's
// directory, writable there.
const insideMark = "SIGNALBOX_LVS_LAB"

// dataMark is the environment's name for a MariaDB data directory to copy.
const dataMark = "SIGNALBOX_LVS_DATA"

// packages are what the lab needs: a command, and Debian's package.
var packages = map[string]string{"linux.uml": "user-mode-linux", "ipvsadm": "ipvsadm", "ip": "iproute2", "modprobe": "kmod",
	"keepalived": "keepalived", "tc": "iproute2", "drbdadm": "drbd-utils", "mariadbd": "mariadb-server-core"}

// missing says what the lab lacks, "" when it can run.
var missing string

func TestMain(m *testing.M) {
	// Debian keeps these where a user's PATH may not look.
	_ = os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	if os.Getenv(insideMark) != "" {
		code := m.Run()
		endDirector()
		os.Exit(code)
	}
	missing = lacking()
	if missing != "" || short() {
		os.Exit(m.Run())
	}
	code, err := runInGuest()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lvs lab:", err)
		code = 1
	}
	os.Exit(code)
}

func lacking() string {
	var list []string
	for command, name := range packages {
		if _, err := exec.LookPath(command); err != nil {
			list = append(list, name)
		}
	}
	if len(list) > 0 {
		return fmt.Sprintf("install Debian's %v", list)
	}
	return ""
}

// short tells whether -short was given, or a listing, before the flags are
// parsed.
func short() bool {
	for _, a := range os.Args[1:] {
		if a == "-test.short" || a == "-test.short=true" || strings.HasPrefix(a, "-test.list") {
			return true
		}
	}
	return false
}

// runInGuest boots a guest in which this program runs with the same arguments,
// and returns its exit status.
func runInGuest() (int, error) {
	dir, err := os.MkdirTemp("", "sblvs")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := furnish(dir); err != nil {
		return 0, err
	}
	output, toHost, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	fromHost, toGuest, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer toGuest.Close()
	console, err := os.Create(filepath.Join(dir, "console"))
	if err != nil {
		return 0, err
	}
	defer console.Close()
	cmd := exec.Command("linux.uml", "mem=1536M", "rootfstype=hostfs", "rootflags=/", "ro", "init="+filepath.Join(dir, "init.sh"), "lab_dir="+dir,
		"ubdb="+filepath.Join(dir, "disk0"), "ubdc="+filepath.Join(dir, "disk1"), "con=null", "con0=null,fd:1", "ssl0=fd:3,fd:4", "umid=lvs"+strconv.Itoa(os.Getpid()), "quiet")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, console, console
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.ExtraFiles = []*os.File{fromHost, toHost}
	if err := child.Launch(cmd); err != nil {
		return 0, fmt.Errorf("boot the guest: %w", err)
	}
	_, _ = fromHost.Close(), toHost.Close()
	copied := make(chan struct{})
	go func() {
		_, _ = io.Copy(os.Stdout, output)
		close(copied)
	}()
	_ = cmd.Wait() // its status says nothing; the file does
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	<-copied
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		text, _ := os.ReadFile(console.Name())
		return 0, fmt.Errorf("the guest ended early: %s", text[max(0, len(text)-3000):])
	}
	return strconv.Atoi(strings.TrimSpace(string(status)))
}

// furnish writes what the guest needs into dir.
func furnish(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "init.sh"), initScript, 0o755); err != nil {
		return err
	}
	for _, disk := range []string{"disk0", "disk1"} { // DRBD's, see drbd_test.go
		if err := os.WriteFile(filepath.Join(dir, disk), make([]byte, 8<<20), 0o600); err != nil {
			return err
		}
	}
	if err := writeModules(dir); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "signalbox"), "signalbox/cmd/signalbox")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build signalbox: %w: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	data, err := sandbox.DataDir(context.Background())
	if err != nil {
		return err
	}
	words := []string{"cd", quote(here), "&&", "TMPDIR=/run/tmp", "HOME=/run/tmp", insideMark + "=/mnt/lab", dataMark + "=" + quote(data), quote(self)}
	for _, a := range os.Args[1:] {
		// The go command's own files lie where the guest cannot write.
		if !strings.HasPrefix(a, "-test.testlogfile") {
			words = append(words, quote(a))
		}
	}
	return os.WriteFile(filepath.Join(dir, "run.sh"), []byte(strings.Join(words, " ")+"\n"), 0o644)
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// writeModules makes a tree in which modprobe finds the guest kernel's modules.
func writeModules(dir string) error {
	const installed = "/usr/lib/uml/modules"
	versions, err := os.ReadDir(installed)
	if err != nil || len(versions) == 0 {
		return fmt.Errorf("user-mode-linux has no modules (%v)", err)
	}
	for _, v := range versions {
		tree := filepath.Join(dir, "modules", "lib", "modules", v.Name())
		if err := os.MkdirAll(tree, 0o755); err != nil {
			return err
		}
		if err := os.Symlink(filepath.Join(installed, v.Name(), "kernel"), filepath.Join(tree, "kernel")); err != nil {
			return err
		}
		for _, list := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
			if text, err := os.ReadFile(filepath.Join(installed, v.Name(), list)); err == nil {
				if err := os.WriteFile(filepath.Join(tree, list), text, 0o644); err != nil {
					return err
				}
			}
		}
		if out, err := exec.Command("depmod", "-b", filepath.Join(dir, "modules"), v.Name()).CombinedOutput(); err != nil {
			return fmt.Errorf("depmod %s: %w: %s", v.Name(), err, out)
		}
	}
	return nil
}
