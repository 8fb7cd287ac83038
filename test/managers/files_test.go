package managers

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"signalbox/config"
)

func scripts(t *testing.T) (list []string) {
	t.Helper()
	err := filepath.WalkDir(examples, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.HasPrefix(string(text), "#!") {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestScriptsAreCleanShell(t *testing.T) {
	list := scripts(t)
	if len(list) != 6 {
		t.Errorf("%d scripts, want 6: %v", len(list), list)
	}
	for _, path := range list {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm()&0o111 == 0 {
			t.Errorf("%s is not executable (%v)", path, err)
		}
		if !strings.HasPrefix(example(t, strings.TrimPrefix(path, examples)), "#!/bin/sh\n") {
			t.Errorf("%s is not for /bin/sh", path)
		}
		if out, err := exec.Command("/bin/sh", "-n", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", path, err, out)
		}
	}
	check, err := tool("shellcheck")
	if err != nil {
		skipped(t, "shellcheck", err)
	}
	if out, err := exec.Command(check, append([]string{"-s", "sh"}, list...)...).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// silent runs a checker that prints what it does not like, whatever its status.
func silent(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := tool(name)
	if err != nil {
		skipped(t, name, err)
	}
	cmd := exec.Command(path, args...)
	if strings.Contains(path, unpackedMark) {
		cmd.Env = unpackedEnv(t)
	}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%s %v: %v: %s", name, args, err, out)
	}
}

func TestKeepalivedConfiguration(t *testing.T) {
	silent(t, "keepalived", "-t", "-f", filepath.Join(examples, "keepalived/keepalived.conf"))
}

func TestSystemdUnits(t *testing.T) {
	dir := t.TempDir()
	var units []string
	for _, name := range []string{"systemd/signalbox.service", "systemd/signalbox-agent.service", "drbd-reactor/signalbox-announce.service", "drbd-reactor/var-lib-mysql.mount"} {
		text := strings.ReplaceAll(example(t, name), "/usr/local/bin/signalbox", "/bin/true")
		units = append(units, write(t, filepath.Join(dir, filepath.Base(name)), text, 0o644))
	}
	silent(t, "systemd-analyze", append([]string{"verify", "--man=no"}, units...)...)
}

func TestHeartbeatConfiguration(t *testing.T) {
	lines := strings.Fields(lastLine(example(t, "heartbeat/haresources")))
	if lines[len(lines)-1] != "signalbox" || lines[len(lines)-2] != "mysql" {
		t.Errorf("signalbox is not last, after mysql: %q", lines)
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func TestExampleConfigurationsLoad(t *testing.T) {
	if _, err := config.LoadAgent(filepath.Join(examples, "agent.yaml")); err != nil {
		t.Error(err)
	}
}

func TestOCFMetadata(t *testing.T) {
	out, err := exec.Command(filepath.Join(examples, "pacemaker/announce"), "meta-data").Output()
	if err != nil {
		t.Fatal(err)
	}
	lint, err := tool("xmllint")
	if err != nil {
		skipped(t, "xmllint", err)
	}
	args := []string{"--noout", write(t, filepath.Join(t.TempDir(), "meta.xml"), string(out), 0o644)}
	dtd, _ := filepath.Abs(filepath.Join(unpacked, "usr/share/resource-agents/ra-api-1.dtd"))
	if _, err := os.Stat(dtd); err == nil {
		args = append([]string{"--dtdvalid", dtd}, args...)
	} else {
		t.Logf("SKIPPED the DTD of OCF resource agents: %v", err)
	}
	if out, err := exec.Command(lint, args...).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

var cibOnce struct {
	sync.Once
	text string
}

// cib is what crmsh makes of signalbox.crm, and what Pacemaker's programs need.
func cib(t *testing.T) (file string, env []string) {
	t.Helper()
	cibOnce.Do(func() {
		file, env = makeCIB(t)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cibOnce.text = string(text)
	})
	if cibOnce.text == "" {
		t.Skip("SKIPPED Pacemaker's own tools: see above")
	}
	return write(t, filepath.Join(t.TempDir(), "cib.xml"), cibOnce.text, 0o644), unpackedEnv(t)
}

func makeCIB(t *testing.T) (file string, env []string) {
	t.Helper()
	crm, err := tool("crm")
	if err == nil {
		_, err = tool("crm_simulate")
	}
	if err != nil {
		skipped(t, "Pacemaker's own tools", err)
	}
	env = unpackedEnv(t)
	dir := t.TempDir()
	text, err := pacemaker(t, env, "cibadmin", "--empty")
	if err != nil {
		t.Fatalf("cibadmin --empty: %v: %s", err, text)
	}
	file = write(t, filepath.Join(dir, "cib.xml"), text, 0o644)
	source := write(t, filepath.Join(dir, "all.crm"), "node db1\nnode db2\n"+example(t, "pacemaker/signalbox.crm"), 0o644)
	args := []string{crm, "-F", "configure", "load", "update", source}
	if strings.Contains(crm, unpackedMark) {
		args = append([]string{"/usr/bin/python3", "testdata/crm.py"}, args[1:]...) // Debian's: its modules are built for it
	}
	load := exec.Command(args[0], args[1:]...)
	load.Env = append(slices.Clone(env), "CIB_file="+file)
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("crm configure load: %v: %s", err, out)
	}
	return file, env
}

func TestPacemakerConfiguration(t *testing.T) {
	file, env := cib(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`type="announce"`, `<select_fencing/>`, `path="/usr/local/lib/signalbox/alert-fenced"`, `name="critical" value="false"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("crmsh left out %s", want)
		}
	}
	_, started := simulate(t, env, file, map[string]string{"db1": promotable, "db2": promotable}, "-u", "db1", "-u", "db2")
	out, err := pacemaker(t, env, "crm_verify", "-V", "--xml-file", started)
	if err != nil {
		t.Errorf("crm_verify: %v: %s", err, out)
	}
}

// pacemaker runs one of Pacemaker's own programs.
func pacemaker(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	path, err := tool(name)
	if err != nil {
		skipped(t, name, err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const (
	promotable = `<nvpair id="%s-score" name="master-drbd_mysql" value="10000"/>`
	standby    = promotable + `<nvpair id="%[1]s-standby" name="standby" value="on"/>`
)

var (
	nodeLine   = regexp.MustCompile(`(?s)<node uname="(db\d)"[^>]*?(/>|>.*?</node>)`)
	actionLine = regexp.MustCompile(`Resource action: (\S+)\s+(start|stop|promote|demote) on (db\d)`)
)

// simulate has Pacemaker's scheduler say what it would do with a configuration
// and these attributes of the nodes, in its order, and what is there afterwards.
func simulate(t *testing.T, env []string, file string, attributes map[string]string, more ...string) (actions [][]string, after string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := nodeLine.ReplaceAllStringFunc(string(text), func(line string) string {
		node := nodeLine.FindStringSubmatch(line)[1]
		return fmt.Sprintf(`<node uname="%s" id="%[1]s"><instance_attributes id="%[1]s-attributes">%s</instance_attributes></node>`, node, fmt.Sprintf(attributes[node], node))
	})
	before := write(t, file+".before", changed, 0o644)
	after = filepath.Join(t.TempDir(), "after.xml")
	out, err := pacemaker(t, env, "crm_simulate", append([]string{"-x", before, "--quorum=1", "-S", "-O", after}, more...)...)
	if err != nil {
		t.Fatalf("crm_simulate: %v: %s", err, out)
	}
	for _, match := range actionLine.FindAllStringSubmatch(out, -1) {
		resource, _, _ := strings.Cut(match[1], ":")
		actions = append(actions, []string{match[3], resource, match[2]})
	}
	return actions, after
}
