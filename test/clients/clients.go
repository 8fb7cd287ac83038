// Package clients runs real MySQL clients against an endpoint and collects what
// each of them saw: rows, counts, warnings, errors. The same client run straight
// and through the proxy must see the same.
//
// Each client does the same work in its own manner: it writes, reads, commits
// and rolls back, prepares, sends and reads back 20 MiB, uploads a file, calls a
// procedure and provokes errors. What it reports holds no id, address or time,
// so that two reports can be compared byte by byte. The package starts no
// server and judges nothing.
package clients

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// LargeSize is the length in bytes of the large value; max_allowed_packet of
// the servers must exceed it.
const LargeSize = 20 << 20

// Endpoint is where a client connects. Host is an IP address. The account needs
// all privileges on Schema, which must exist; tables in it are dropped and made
// anew. TLS asks for an encrypted connection whose certificate is not verified.
type Endpoint struct {
	Host, Port             string
	User, Password, Schema string
	TLS                    bool
}

// Finding is what a client saw of one check.
type Finding struct {
	Check string          `json:"check"`
	Saw   json.RawMessage `json:"saw"`
}

// Client is one real client.
type Client struct {
	Name string
	// Missing tells what must be installed before Run can work; nil for nothing.
	Missing func(context.Context) error
	// Run does the work and returns the findings in order. An error means that
	// the client could not go on, not that the server refused something.
	Run func(context.Context, Endpoint) ([]Finding, error)
}

// All lists the clients, the quickest to start first.
func All() []Client {
	return []Client{
		{"mariadb command line", missingProgram("mariadb", "mariadb-client"), runCommandLine},
		{"go-sql-driver", func(context.Context) error { return nil }, runGoDriver},
		{"pymysql", missingPyMySQL, runPyMySQL},
		{"mysql2", missingMySQL2, runMySQL2},
	}
}

func missingProgram(name, debian string) func(context.Context) error {
	return func(context.Context) error {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is not installed (Debian: apt-get install %s): %w", name, debian, err)
		}
		return nil
	}
}

// saw makes a finding; v must be encodable.
func saw(check string, v any) Finding {
	text, err := json.Marshal(v)
	if err != nil {
		text = []byte(strconv.Quote(err.Error()))
	}
	return Finding{check, text}
}

// refusal is a server's error as a client shows it.
type refusal struct {
	Code     uint16 `json:"code"`
	SQLState string `json:"sqlstate"`
	Message  string `json:"message"`
}

// program runs a client program, which gets the endpoint as JSON in its one
// argument and prints one finding a line.
func program(ctx context.Context, to Endpoint, argv ...string) ([]Finding, error) {
	where, err := json.Marshal(map[string]any{
		"host": to.Host, "port": to.Port, "user": to.User, "password": to.Password,
		"schema": to.Schema, "tls": to.TLS, "large": LargeSize,
	})
	if err != nil {
		return nil, err
	}
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], string(where))...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	ran := cmd.Run()
	findings, err := parse(out.Bytes())
	if ran != nil {
		return findings, fmt.Errorf("%s: %w: %s", argv[0], ran, strings.TrimSpace(complaints.String()))
	}
	return findings, err
}

// parse reads findings, one JSON object a line.
func parse(text []byte) ([]Finding, error) {
	var findings []Finding
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var f Finding
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return findings, fmt.Errorf("the client printed %.200q, which is no finding: %w", lines.Text(), err)
		}
		if f.Check == "" || f.Saw == nil {
			return findings, fmt.Errorf("the client printed %.200q, a finding without check or saw", lines.Text())
		}
		findings = append(findings, f)
	}
	if len(findings) == 0 {
		return nil, errors.New("the client reported nothing")
	}
	return findings, lines.Err()
}

// Differences lists, in words, where two reports of the same client differ.
func Differences(a, b []Finding) []string {
	var lines []string
	other := make(map[string]json.RawMessage, len(b))
	for _, f := range b {
		other[f.Check] = f.Saw
	}
	for _, f := range a {
		got, ok := other[f.Check]
		delete(other, f.Check)
		switch {
		case !ok:
			lines = append(lines, fmt.Sprintf("%s: only the first saw %s", f.Check, f.Saw))
		case !bytes.Equal(f.Saw, got):
			lines = append(lines, fmt.Sprintf("%s: the first saw %s, the second %s", f.Check, f.Saw, got))
		}
	}
	for _, f := range b {
		if _, left := other[f.Check]; left {
			lines = append(lines, fmt.Sprintf("%s: only the second saw %s", f.Check, f.Saw))
		}
	}
	return lines
}
