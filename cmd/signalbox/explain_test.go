package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares explain's output for every statement of a file, one a line
// with \n and \t written out, with the file beside it. Lines that begin with
// "# " name the row of the routing table.
func golden(t *testing.T, name string, args ...string) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("../../router/testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	var std stdio
	std.out, std.err = &got, os.Stderr
	flush := func(statements []string) {
		if len(statements) > 0 && runExplain(append(append([]string{"--json"}, args...), statements...), std) != 0 {
			t.Fatal("explain failed")
		}
	}
	var batch []string
	n := 0
	for _, line := range strings.Split(strings.TrimSuffix(string(source), "\n"), "\n") {
		if row, ok := strings.CutPrefix(line, "# "); ok && !strings.Contains(line, `\n`) {
			flush(batch)
			batch = nil
			got.WriteString("# " + row + "\n")
			continue
		}
		batch = append(batch, strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(line))
		n++
	}
	flush(batch)
	t.Logf("%d statements", n)
	file := filepath.Join("../../router/testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("line %d differs; after a look at it: go test ./cmd/signalbox -run %s -update\n got %s\nwant %s", i+1, t.Name(), at(g, i), at(w, i))
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "nothing"
}

func TestExplainGolden(t *testing.T) { golden(t, "statements") }

func TestExplainScripts(t *testing.T) {
	files, err := filepath.Glob("../../router/testdata/script_*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		t.Run(name, func(t *testing.T) { golden(t, name, "--script") })
	}
}
