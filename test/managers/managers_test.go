package managers

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Each manager moves the database there and back in its own order, under load
// and without one error; and those that can confirm fencing do so.
func TestManagersMoveTheDatabase(t *testing.T) {
	t.Parallel()
	c := start(t)
	for _, m := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{{"heartbeat", heartbeat}, {"pacemaker", pacemakerMoves}, {"drbd-reactor", reactor}, {"keepalived", keepalived}} {
		if !t.Run(m.name, func(t *testing.T) { m.run(t, c) }) {
			return // the next would not find the database where it starts
		}
	}
}

// announced checks the order that every manager must keep.
func announced(t *testing.T, c *cluster, from, to string) {
	t.Helper()
	c.order(t, from+" notify demote", from+" mysql stop", from+" drbd demoted", to+" drbd promoted", to+" mysql start", to+" notify promote")
}

// heartbeat runs Heartbeat's own ResourceManager on our haresources and scripts.
func heartbeat(t *testing.T, c *cluster) {
	manager, err := tool("ResourceManager")
	if err != nil {
		skipped(t, "Heartbeat's ResourceManager", err)
	}
	env := make(map[string][]string)
	run := make(map[string]string)
	for _, node := range []string{"db1", "db2"} {
		run[node], env[node] = c.heartbeatNode(t, node, manager)
	}
	move := func(node, verb string) {
		if out, code := c.run(t, env[node], run[node], verb, "drbddisk::mysql"); code != 0 {
			t.Fatalf("ResourceManager %s on %s: status %d: %s", verb, node, code, out)
		}
	}
	c.underLoad(t, func() { move("db1", "givegroup"); move("db2", "takegroup") })
	announced(t, c, "db1", "db2")
	if out, code := c.run(t, env["db2"], run["db2"], "status", "signalbox"); code != 0 {
		t.Errorf("signalbox is not running on db2: %d %s", code, out)
	}
	c.underLoad(t, func() { move("db2", "givegroup"); move("db1", "takegroup") })
	announced(t, c, "db2", "db1")

	c.isolated(t, func() { move("db2", "takegroup") })
	hook := filepath.Join(examples, "heartbeat/rc.d/stonith")
	for _, result := range []string{"bad", "badhost", "n_stnth", "unneeded", ""} {
		c.run(t, append(env["db2"], "HA_node=db1", "HA_result="+result), hook, "stonith")
		c.stillHeld(t, "STONITH's result "+result)
	}
	c.run(t, append(env["db2"], "HA_node=db1", "HA_result=OK"), hook, "stonith")
	c.permitted(t)
	c.underLoad(t, func() { move("db2", "givegroup"); move("db1", "takegroup") })
}

// heartbeatNode lays out what Heartbeat has in /etc/ha.d on a node.
func (c *cluster) heartbeatNode(t *testing.T, node, manager string) (run string, env []string) {
	t.Helper()
	dir := filepath.Join(c.dir, node, "ha.d")
	root := filepath.Join(filepath.Dir(manager), "../../..")
	ocf := filepath.Join(root, "usr/lib/ocf")
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	// Its directory is built in; and when a stop fails it would restart this machine.
	text := strings.NewReplacer("HA_DIR=/etc/ha.d", "HA_DIR="+dir, "/sbin/reboot", "/nonexistent", "/sbin/init", "/nonexistent", "pkill", ":",
		"/usr/share/heartbeat/hb_standby", ":").Replace(read(manager))
	run = write(t, filepath.Join(dir, "ResourceManager"), text, 0o755)
	write(t, filepath.Join(dir, "shellfuncs"), strings.ReplaceAll(read(filepath.Join(root, "etc/ha.d/shellfuncs")), "/usr/lib/ocf", ocf), 0o644)
	write(t, filepath.Join(dir, "haresources"), example(t, "heartbeat/haresources"), 0o644)
	write(t, filepath.Join(dir, "resource.d/signalbox"), example(t, "heartbeat/resource.d/signalbox"), 0o755)
	for script, what := range map[string]string{"drbddisk": "drbd", "Filesystem": "fs", "IPaddr2": "ip", "mysql": "mysql"} {
		c.stub(t, filepath.Join(dir, "resource.d", script), node, what)
	}
	if node == "db1" {
		write(t, filepath.Join(c.dir, node, "signalbox-heartbeat"), "", 0o644)
	}
	return run, []string{"OCF_ROOT=" + ocf, "HA_CURHOST=" + node, "HA_RESOURCEDIR=" + dir + "/resource.d", "HA_DEBUGLOG=" + dir + "/debug", "HA_LOGFILE=" + dir + "/log",
		"SIGNALBOX=" + c.wrapper(t, node), "SIGNALBOX_AGENT=" + c.files[node], "SIGNALBOX_RUN=" + filepath.Join(c.dir, node)}
}

// pacemakerMoves does what Pacemaker's own scheduler decides, in its order.
func pacemakerMoves(t *testing.T, c *cluster) {
	file, tools := cib(t)
	_, file = simulate(t, tools, file, map[string]string{"db1": promotable, "db2": promotable}, "-u", "db1", "-u", "db2")
	agent := filepath.Join(examples, "pacemaker/announce")
	env := make(map[string][]string)
	for _, node := range []string{"db1", "db2"} {
		env[node] = []string{"OCF_RESOURCE_INSTANCE=signalbox", "HA_RSCTMP=" + filepath.Join(c.dir, node), "OCF_RESKEY_wait=10",
			"OCF_RESKEY_CRM_meta_timeout=30000", "OCF_RESKEY_config=" + c.files[node], "OCF_RESKEY_binary=" + c.wrapper(t, node)}
	}
	take := func(actions [][]string) {
		if len(actions) < 10 {
			t.Errorf("Pacemaker decided %q only", actions)
		}
		for _, action := range actions {
			node, resource, verb := action[0], action[1], action[2]
			switch resource {
			case "signalbox":
				if out, code := c.run(t, env[node], agent, verb); code != 0 {
					t.Errorf("announce %s on %s: status %d: %s", verb, node, code, out)
				}
			case "drbd_mysql":
				if verb == "promote" || verb == "demote" { // start and stop are those of the whole device
					mustStep(t, c, node, "drbd", verb)
				}
			default:
				mustStep(t, c, node, resource, verb)
			}
		}
	}
	monitor := func(node string, want int) {
		t.Helper()
		if out, code := c.run(t, env[node], agent, "monitor"); code != want {
			t.Errorf("monitor on %s: status %d, want %d: %s", node, code, want, out)
		}
	}
	there, file := simulate(t, tools, file, map[string]string{"db1": standby, "db2": promotable})
	c.underLoad(t, func() { take(there) })
	announced(t, c, "db1", "db2")
	monitor("db1", 7)
	monitor("db2", 0)
	_, file = simulate(t, tools, file, map[string]string{"db1": promotable, "db2": promotable})
	back, _ := simulate(t, tools, file, map[string]string{"db1": promotable, "db2": standby})
	c.underLoad(t, func() { take(back) })
	announced(t, c, "db2", "db1")
	monitor("db2", 7)

	c.isolated(t, func() {
		for _, step := range []string{"drbd promote", "fs start", "mysql start", "ip start"} {
			what, verb, _ := strings.Cut(step, " ")
			mustStep(t, c, "db2", what, verb)
		}
	})
	alert := func(rc string) {
		c.run(t, []string{"SIGNALBOX=" + c.wrapper(t, "db2"), "SIGNALBOX_AGENT=" + c.files["db2"], "CRM_alert_kind=fencing", "CRM_alert_node=db1", "CRM_alert_rc=" + rc,
			"CRM_alert_task=st_notify_fence", "CRM_alert_desc=Operation reboot of db1 by db2 for pacemaker-controld.7@db2: OK (ref=1)"},
			filepath.Join(examples, "pacemaker/alert-fenced"))
	}
	alert("1")
	c.stillHeld(t, "failed fencing")
	alert("0")
	c.permitted(t)
	c.underLoad(t, func() { take(back) })
}

func mustStep(t *testing.T, c *cluster, words ...string) {
	t.Helper()
	if _, err := c.step(words); err != nil {
		t.Errorf("%q: %v", words, err)
	}
}

// reactor starts and stops the units of mysql.toml as the dependencies that
// drbd-reactor writes have systemd do it: each after the one before it, and
// stopped in reverse.
func reactor(t *testing.T, c *cluster) {
	const read = `import json, sys, tomllib; print(json.dumps(tomllib.load(open(sys.argv[1], "rb"))))`
	text, err := exec.Command("python3", "-c", read, filepath.Join(examples, "drbd-reactor/mysql.toml")).Output()
	if err != nil {
		skipped(t, "the TOML of drbd-reactor", err)
	}
	var config struct {
		Promoter []struct {
			Resources map[string]struct{ Start []string }
		}
	}
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	units := config.Promoter[0].Resources["mysql"].Start
	for node := range c.files {
		c.wrapper(t, node)
	}
	unit := func(node, name, verb string) {
		switch name, _, _ := strings.Cut(name, " "); name {
		case "var-lib-mysql.mount":
			mustStep(t, c, node, "fs", verb)
		case "mariadb.service":
			mustStep(t, c, node, "mysql", verb)
		case "ocf:heartbeat:IPaddr2":
			mustStep(t, c, node, "ip", verb)
		case "signalbox-announce.service":
			key := map[string]string{"start": "ExecStart=-", "stop": "ExecStop=-"}[verb]
			for line := range strings.Lines(example(t, "drbd-reactor/signalbox-announce.service")) {
				if command, found := strings.CutPrefix(strings.TrimSpace(line), key+"/usr/local/bin/signalbox "); found {
					if out, code := c.run(t, nil, filepath.Join(c.dir, node, "signalbox"), strings.Fields(command)...); code != 0 {
						t.Errorf("%s on %s: status %d: %s", line, node, code, out)
					}
				}
			}
		default:
			t.Errorf("no unit %q", name)
		}
	}
	move := func(from, to string) {
		for i := len(units) - 1; i >= 0; i-- {
			unit(from, units[i], "stop")
		}
		mustStep(t, c, from, "drbd", "demote")
		mustStep(t, c, to, "drbd", "promote")
		for _, name := range units {
			unit(to, name, "start")
		}
	}
	c.underLoad(t, func() { move("db1", "db2") })
	announced(t, c, "db1", "db2")
	c.underLoad(t, func() { move("db2", "db1") })
	announced(t, c, "db2", "db1")
}

// keepalived tells both nodes at the same time, and waits for neither.
func keepalived(t *testing.T, c *cluster) {
	env := make(map[string][]string)
	for _, node := range []string{"db1", "db2"} {
		bin := filepath.Join(c.dir, node, "bin")
		for name, what := range map[string]string{"drbdadm": "drbd ${1:-}", "mount": "fs start", "umount": "fs stop", "systemctl": `mysql ${1:-}`} {
			write(t, filepath.Join(bin, name), "#!/bin/sh\nexec "+strings.Join([]string{c.self, stepWord, c.socket, node, what}, " ")+"\n", 0o755)
		}
		write(t, filepath.Join(bin, "mountpoint"), "#!/bin/sh\n[ \"$("+strings.Join([]string{c.self, stepWord, c.socket, node, "fs status"}, " ")+")\" = running ]\n", 0o755)
		env[node] = []string{"PATH=" + bin + ":/usr/bin:/bin", "SIGNALBOX=" + c.wrapper(t, node), "SIGNALBOX_AGENT=" + c.files[node], "SIGNALBOX_RUN=" + filepath.Join(c.dir, node)}
	}
	script := filepath.Join(examples, "keepalived/vrrp")
	state := func(node, state string) {
		if out, code := c.run(t, env[node], script, "INSTANCE", "mysql", state, "100"); code != 0 {
			t.Errorf("%s on %s: status %d: %s", state, node, code, out)
		}
	}
	move := func(from, leaves, to string) func() {
		return func() {
			var group sync.WaitGroup
			group.Go(func() { state(to, "MASTER") })
			group.Go(func() { state(from, leaves) })
			group.Wait()
		}
	}
	c.underLoad(t, move("db1", "BACKUP", "db2"))
	announced(t, c, "db1", "db2")
	c.underLoad(t, move("db2", "STOP", "db1"))
	announced(t, c, "db2", "db1")
	if _, code := c.run(t, env["db1"], script, "INSTANCE", "mysql", "NONSENSE", "100"); code != 2 {
		t.Errorf("an unknown state: status %d, want 2", code)
	}
}
