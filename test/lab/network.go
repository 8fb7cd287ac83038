package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

const namespacePrefix = "sblab"

func tap(kind string, node int) string { return fmt.Sprintf("%s%d", kind, node) }

// Enter runs this program anew, with its arguments, inside a network namespace
// made for it, and returns its exit status. inside is true in that second run,
// where nothing but the lab can be reached. The namespace goes when the second
// run has ended, however it ended.
func Enter() (inside bool, code int, err error) {
	const mark = "SIGNALBOX_LAB_NAMESPACE"
	if os.Getenv(mark) != "" {
		return true, 0, nil
	}
	removeStale()
	name := namespacePrefix + strconv.Itoa(os.Getpid())
	defer remove(name)
	if err := layOut(name); err != nil {
		return false, 1, err
	}
	self, err := os.Executable()
	if err != nil {
		return false, 1, err
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", name, self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), mark+"="+name)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return false, exit.ExitCode(), nil
	}
	return false, 0, err
}

// layOut makes the namespace: a bridge for the replication link, without an
// address, and one for the service network.
func layOut(name string) error {
	if err := ip("netns", "add", name); err != nil {
		return err
	}
	commands := []string{"link set lo up", "link add repl type bridge", "link add svc type bridge", "addr add " + Host + "/24 dev svc"}
	for node := 1; node <= 2; node++ {
		for _, pair := range [][2]string{{tap("r", node), "repl"}, {tap("s", node), "svc"}} {
			commands = append(commands, "tuntap add dev "+pair[0]+" mode tap", "link set "+pair[0]+" master "+pair[1], "link set "+pair[0]+" up")
		}
	}
	for _, c := range append(commands, "link set repl up", "link set svc up") {
		if err := ip(append([]string{"-n", name}, strings.Fields(c)...)...); err != nil {
			return err
		}
	}
	// A guest drops the large frames that offloading makes.
	for _, t := range []string{"r1", "r2", "s1", "s2", "svc", "repl"} {
		out, err := exec.Command("ip", "netns", "exec", name, "ethtool", "-K", t, "tso", "off", "gso", "off", "gro", "off", "tx", "off").CombinedOutput()
		if err != nil {
			return fmt.Errorf("ethtool -K %s: %w: %s", t, err, out)
		}
	}
	return nil
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// removeStale removes the namespaces of runs that were killed.
func removeStale() {
	entries, _ := os.ReadDir("/run/netns")
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), namespacePrefix)
		pid, err := strconv.Atoi(digits)
		if ok && err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			remove(e.Name())
		}
	}
}

// remove ends what still runs in a lab's namespace, such as the threads that a
// killed guest leaves, and removes the namespace.
func remove(name string) {
	out, _ := exec.Command("ip", "netns", "pids", name).Output()
	for _, word := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(word); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = ip("netns", "del", name)
}
