package clients

import (
	"context"
	"crypto/sha256"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// sources are the client programs in other languages.
//
//go:embed pymysql/client.py mysql2/client.mjs mysql2/package.json mysql2/package-lock.json
var sources embed.FS

// systemPython is Debian's own interpreter: python3-pymysql is installed for
// it, and not for another that may come first in the PATH.
const systemPython = "/usr/bin/python3"

func missingPyMySQL(ctx context.Context) error {
	if out, err := exec.CommandContext(ctx, systemPython, "-c", "import pymysql").CombinedOutput(); err != nil {
		return fmt.Errorf("pymysql is not installed (Debian: apt-get install python3-pymysql): %w: %s", err, out)
	}
	return nil
}

func runPyMySQL(ctx context.Context, to Endpoint) ([]Finding, error) {
	text, err := sources.ReadFile("pymysql/client.py")
	if err != nil {
		return nil, err
	}
	return program(ctx, to, systemPython, "-c", string(text))
}

func missingMySQL2(ctx context.Context) error {
	if err := missingProgram("node", "nodejs npm")(ctx); err != nil {
		return err
	}
	_, err := installMySQL2(ctx)
	return err
}

func runMySQL2(ctx context.Context, to Endpoint) ([]Finding, error) {
	dir, err := installMySQL2(ctx)
	if err != nil {
		return nil, err
	}
	return program(ctx, to, "node", filepath.Join(dir, "client.mjs"))
}

// installMySQL2 installs the locked packages once into the user's cache, in a
// directory of their own for each state of the program, and returns it.
func installMySQL2(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the packages of mysql2: %w", err)
	}
	files := map[string][]byte{}
	sum := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json", "client.mjs"} {
		if files[name], err = sources.ReadFile("mysql2/" + name); err != nil {
			return "", err
		}
		sum.Write(files[name])
	}
	dir := filepath.Join(cache, "signalbox-test", fmt.Sprintf("mysql2-%x", sum.Sum(nil)[:8]))
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err == nil {
		return dir, nil
	}
	return dir, install(ctx, dir, files)
}

// install fills a new directory and puts it in place whole, so that a broken
// attempt is never mistaken for an installation.
func install(ctx context.Context, dir string, files map[string][]byte) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make a place for the packages of mysql2: %w", err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return fmt.Errorf("make a place for the packages of mysql2: %w", err)
	}
	defer os.RemoveAll(fresh)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(fresh, name), text, 0o644); err != nil {
			return fmt.Errorf("install mysql2: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = fresh
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install mysql2 (npm ci, Debian: apt-get install npm): %w: %s", err, out)
	}
	err = os.Rename(fresh, dir)
	if _, there := os.Stat(filepath.Join(dir, "node_modules")); there == nil {
		return nil // now, or by another test at the same time
	}
	return err
}
