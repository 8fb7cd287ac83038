package managers

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The managers' scripts call programs: mysqld's service, drbdadm, mount. In their
// place stand scripts that run this test's binary, which tells the test, which
// does it to the sandbox. So the manager's order is what happens.

const stepWord = "take-step"

// sendStep is the other program: it asks the test on socket for a step, prints
// the answer and returns the exit status.
func sendStep(socket string, step []string) int {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer conn.Close()
	fmt.Fprintln(conn, strings.Join(step, " "))
	text, err := io.ReadAll(conn)
	var code int
	head, rest, _ := strings.Cut(string(text), "\n")
	if _, bad := fmt.Sscan(head, &code); err != nil || bad != nil {
		fmt.Fprintln(os.Stderr, "no answer to", step, err, bad)
		return 1
	}
	fmt.Print(rest)
	return code
}

// serveSteps takes steps until the test ends.
func (c *cluster) serveSteps(t *testing.T) {
	t.Helper()
	c.socket = filepath.Join(c.dir, "steps")
	ln, err := net.Listen("unix", c.socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			c.steps.Go(func() {
				defer conn.Close()
				line, _ := bufio.NewReader(conn).ReadString('\n')
				out, err := c.step(strings.Fields(line))
				code := 0
				if err != nil {
					code, out = 1, err.Error()+"\n"
				}
				fmt.Fprintf(conn, "%d\n%s", code, out)
			})
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
		c.steps.Wait()
	})
}

// step does one step: node, what, action.
func (c *cluster) step(words []string) (out string, err error) {
	if len(words) < 3 {
		return "", fmt.Errorf("no step: %q", words)
	}
	node, what, action := words[0], words[1], words[len(words)-1]
	if what == "notify" {
		action = strings.Join(words[2:], " ")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch what + " " + action {
	case "mysql start":
		err = c.StartDatabase(ctx, node)
	case "mysql stop":
		c.StopDatabase(node)
	case "mysql status":
		return running(c.DatabaseRuns(node)), nil
	case "drbd start", "drbd promote", "drbd primary":
		err = c.StepUp(node)
	case "drbd stop", "drbd demote", "drbd secondary":
		err = c.StepDown(node)
	case "drbd status":
		return running(c.Primary() == node), nil
	case "drbd role":
		return map[bool]string{true: "Primary\n", false: "Secondary\n"}[c.Primary() == node], nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch action {
	case "status":
		return running(c.on[node+" "+what]), nil
	case "start", "stop":
		c.on[node+" "+what] = action == "start"
	}
	if what == "drbd" {
		action = map[string]string{"start": "promoted", "promote": "promoted", "primary": "promoted"}[action]
		if action == "" {
			action = "demoted"
		}
	}
	if err == nil {
		c.journal = append(c.journal, node+" "+what+" "+action)
	}
	return "", err
}

func running(yes bool) string { return map[bool]string{true: "running\n", false: "stopped\n"}[yes] }

// stub writes a program that takes steps of node: what, and its own last
// argument.
func (c *cluster) stub(t *testing.T, path, node, what string) {
	t.Helper()
	write(t, path, fmt.Sprintf("#!/bin/sh\nexec %q %s %s %s %s \"$@\"\n", c.self, stepWord, c.socket, node, what), 0o755)
}

// wrapper writes a signalbox that notes what is notified, and does it, with the
// agent of node.
func (c *cluster) wrapper(t *testing.T, node string) string {
	t.Helper()
	return write(t, filepath.Join(c.dir, node, "signalbox"), fmt.Sprintf(`#!/bin/sh
for word; do
	case $word in
	promote|demote) %[1]q %[2]s %[3]s %[4]s notify "$word" ;;
	fenced) %[1]q %[2]s %[3]s %[4]s notify fenced ;;
	esac
done
shift
exec %[5]q notify -c %[6]s "$@"
`, c.self, stepWord, c.socket, node, c.binary, c.files[node]), 0o755)
}

// order checks that the journal has these steps, in this order, with others
// between them; and forgets it.
func (c *cluster) order(t *testing.T, want ...string) {
	t.Helper()
	c.mu.Lock()
	journal := c.journal
	c.journal = nil
	c.mu.Unlock()
	rest := journal
	for _, step := range want {
		i := slices.Index(rest, step)
		if i < 0 {
			t.Errorf("%q is missing or too early in %q", step, journal)
			return
		}
		rest = rest[i+1:]
	}
}
