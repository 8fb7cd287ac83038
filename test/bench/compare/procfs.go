package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of /proc/PID/stat's times, USER_HZ: 100 on every
// Linux port that Go and HAProxy run on.
const ticksPerSecond = 100

// cpu is processor time a process has used.
type cpu struct{ user, system time.Duration }

func (c cpu) sub(before cpu) cpu { return cpu{c.user - before.user, c.system - before.system} }

// memory of a process in KiB: resident now, and at most since it was last reset.
type memory struct{ resident, peak int64 }

// procfs reads one process under /proc.
type procfs struct{ dir string }

func procOf(pid int) procfs { return procfs{filepath.Join("/proc", strconv.Itoa(pid))} }

func (p procfs) cpu() (cpu, error) {
	text, err := os.ReadFile(filepath.Join(p.dir, "stat"))
	if err != nil {
		return cpu{}, fmt.Errorf("read processor time: %w", err)
	}
	return parseStat(text)
}

func (p procfs) memory() (memory, error) {
	text, err := os.ReadFile(filepath.Join(p.dir, "status"))
	if err != nil {
		return memory{}, fmt.Errorf("read memory: %w", err)
	}
	return parseStatus(text)
}

// resetPeak starts the peak anew. Where the kernel does not allow it, the peak
// stays the process's whole life's, which is only less telling.
func (p procfs) resetPeak() { _ = os.WriteFile(filepath.Join(p.dir, "clear_refs"), []byte("5"), 0) }

// parseStat reads utime and stime, fields 14 and 15 of proc_pid_stat(5). The
// command's name, field 2, may itself hold spaces and parentheses.
func parseStat(text []byte) (cpu, error) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return cpu{}, errors.New("a /proc/PID/stat without a command name")
	}
	fields := strings.Fields(string(text[end+1:])) // from field 3 on
	if len(fields) < 13 {
		return cpu{}, fmt.Errorf("a /proc/PID/stat of only %d fields", len(fields)+2)
	}
	user, err := parseTicks(fields[11])
	if err != nil {
		return cpu{}, err
	}
	system, err := parseTicks(fields[12])
	return cpu{user, system}, err
}

func parseTicks(s string) (time.Duration, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("processor time of /proc/PID/stat: %w", err)
	}
	return time.Duration(n) * time.Second / ticksPerSecond, nil
}

// parseStatus reads VmRSS and VmHWM of proc_pid_status(5).
func parseStatus(text []byte) (memory, error) {
	m := memory{-1, -1}
	for line := range strings.Lines(string(text)) {
		key, rest, _ := strings.Cut(line, ":")
		into := &m.resident
		switch key {
		case "VmRSS":
		case "VmHWM":
			into = &m.peak
		default:
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) != 2 || fields[1] != "kB" {
			return memory{}, fmt.Errorf("%s of /proc/PID/status is %q, not a number of kB", key, strings.TrimSpace(rest))
		}
		n, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return memory{}, fmt.Errorf("%s of /proc/PID/status: %w", key, err)
		}
		*into = n
	}
	if m.resident < 0 || m.peak < 0 {
		return memory{}, errors.New("a /proc/PID/status without VmRSS and VmHWM: the process has ended")
	}
	return m, nil
}
