// Package managers proves the files in examples/ that tie Signalbox to the
// managers of a cluster: each is checked with the manager's own tool, and run as
// the manager runs it, in the manager's order, against real agents, a real proxy
// and real databases under load.
package managers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == stepWord {
		os.Exit(sendStep(os.Args[2], os.Args[3:]))
	}
	// Debian keeps the servers where a user's PATH may not look.
	_ = os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	code := m.Run()
	if builtIn != "" {
		_ = os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

// builtIn is the directory of the program under test, once it is built.
var builtIn string

var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "signalbox-managers-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	binary := filepath.Join(dir, "signalbox")
	if out, err := exec.Command("go", "build", "-o", binary, "signalbox/cmd/signalbox").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build signalbox: %w: %s", err, out)
	}
	return binary, nil
})

const (
	examples     = "../../examples"
	unpackedMark = "bin/managers"
	unpacked     = "../../" + unpackedMark // see scripts/unpack
)

// skipped says loudly what is not proven here.
func skipped(t *testing.T, what string, err error) {
	t.Helper()
	t.Skipf("SKIPPED %s: %v", what, err)
}

// tool finds a program of this system, or of an unpacked package.
func tool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"usr/sbin", "usr/bin", "usr/share/heartbeat"} {
		path, err := filepath.Abs(filepath.Join(unpacked, dir, name))
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no " + name + " here; see scripts/need and scripts/unpack")
}

// unpackedEnv is an environment that lets the programs of the unpacked packages find what they need.
func unpackedEnv(t *testing.T) []string {
	t.Helper()
	root, err := filepath.Abs(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+root+"/usr/sbin:"+os.Getenv("PATH"), "HOME="+t.TempDir())
	if _, err := exec.LookPath("crm_simulate"); err == nil {
		return env
	}
	libraries, _ := filepath.Glob(root + "/usr/lib/*-linux-gnu*")
	path := root + "/usr/lib"
	for _, dir := range libraries {
		path += ":" + dir
	}
	settings := filepath.Join(t.TempDir(), "crm.conf")
	text := fmt.Sprintf("[path]\nsharedir = %s/usr/share/crmsh\nocf_root = %s/usr/lib/ocf\ncrm_dtd_dir = %s/usr/share/pacemaker\ncrm_daemon_dir = %s/usr/lib/pacemaker\n",
		root, root, root, root)
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return append(env, "LD_LIBRARY_PATH="+path, "PCMK_schema_directory="+root+"/usr/share/pacemaker",
		"PYTHONPATH="+root+"/usr/lib/python3/dist-packages", "CRM_CONFIG_FILE="+settings)
}

// example reads one of the examples.
func example(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(examples, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// write writes a file and returns its path.
func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}
