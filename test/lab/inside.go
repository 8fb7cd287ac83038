package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Argument is the first argument with which a guest starts the control program.
const Argument = "inside-the-lab"

// order is a shell command for a guest, or a file to print: a new process is
// dear there. result is what became of it.
type order struct {
	ID      uint64        `json:"id"`
	Script  string        `json:"script,omitempty"`
	File    string        `json:"file,omitempty"`
	Timeout time.Duration `json:"timeout"`
}

type result struct {
	ID   uint64 `json:"id"`
	Code int    `json:"code"`
	Out  string `json:"out"`
}

// mostOutput bounds what a command may print, in bytes.
const mostOutput = 256 << 10

// Inside is the control program: in a guest it runs what it is told over the
// serial line, until that ends. Commands run side by side, so that one that
// hangs on frozen I/O stops no other.
func Inside() error {
	line, err := os.OpenFile("/dev/ttyS0", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open the serial line: %w", err)
	}
	if err := raw(int(line.Fd())); err != nil {
		return fmt.Errorf("make the serial line raw: %w", err)
	}
	var mu sync.Mutex // guards writing
	answer := func(r result) {
		text, _ := json.Marshal(r) // of plain fields
		mu.Lock()
		defer mu.Unlock()
		_, _ = line.Write(append(text, '\n'))
	}
	answer(result{})
	lines := bufio.NewScanner(line)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			continue // noise of the line; the host's deadline notices
		}
		go func() { answer(carryOut(o)) }()
	}
	return lines.Err()
}

func raw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag |= unix.CREAD | unix.CLOCAL | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// carryOut runs one command. What it leaves running in the background must have
// its output elsewhere.
func carryOut(o order) result {
	if o.File != "" {
		text, err := os.ReadFile(o.File)
		if err != nil {
			return result{ID: o.ID, Code: -1, Out: err.Error()}
		}
		return result{ID: o.ID, Out: string(text[:min(len(text), mostOutput)])}
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", o.Script)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	r := result{ID: o.ID, Out: string(out[:min(len(out), mostOutput)])}
	exit := (*exec.ExitError)(nil)
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		r.Code = exit.ExitCode()
	case err != nil:
		r.Code = -1
		r.Out += err.Error()
	}
	return r
}

// read takes results from a guest until its line ends.
func read(from io.Reader, each func(result)) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 2*mostOutput)
	for lines.Scan() {
		var r result
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			each(r)
		}
	}
}
