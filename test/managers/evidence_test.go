package managers

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder is a signalbox that only writes down what it is asked.
func recorder(t *testing.T) (path string, asked func() string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "asked")
	path = write(t, filepath.Join(t.TempDir(), "signalbox"), "#!/bin/sh\necho \"$*\" >>"+log+"\n", 0o755)
	return path, func() string {
		text, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		_ = os.Remove(log)
		return string(text)
	}
}

func shell(t *testing.T, env []string, script string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(examples, script), args...)
	cmd.Env = append(os.Environ(), env...)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// What a fencing agent says becomes evidence only when a node was certainly
// switched off.
func TestOnlyConfirmedFencingIsEvidence(t *testing.T) {
	const done = "Operation reboot of db1 by db2 for stonith_admin.1@db2: OK (ref=7)"
	for _, c := range []struct {
		name, kind, rc, node, task, desc string
		told                             bool
	}{
		{"as documented: off", "fencing", "0", "db1", "off", "", true},
		{"as documented: reboot", "fencing", "0", "db1", "reboot", "", true},
		{"as it is: reboot", "fencing", "0", "db1", "st_notify_fence", done, true},
		{"as it is: off", "fencing", "0", "db1", "st_notify_fence", strings.Replace(done, "reboot", "off", 1), true},
		{"with a reason", "fencing", "0", "db1", "st_notify_fence", strings.Replace(done, "OK", "OK (done)", 1), true},
		{"failed", "fencing", "1", "db1", "off", done, false},
		{"timed out", "fencing", "-62", "db1", "st_notify_fence", done, false},
		{"no status", "fencing", "", "db1", "off", done, false},
		{"no node", "fencing", "0", "", "off", done, false},
		{"unfencing", "fencing", "0", "db1", "on", "", false},
		{"unfencing, as it is", "fencing", "0", "db1", "st_notify_fence", strings.Replace(done, "reboot", "on", 1), false},
		{"of another node", "fencing", "0", "db3", "st_notify_fence", done, false},
		{"a name that is a pattern", "fencing", "0", "*", "st_notify_fence", done, false},
		{"described as failed", "fencing", "0", "db1", "st_notify_fence", strings.Replace(done, "OK", "Timed Out", 1), false},
		{"no description", "fencing", "0", "db1", "st_notify_fence", "", false},
		{"no task", "fencing", "0", "db1", "", done, false},
		{"a node that left", "node", "0", "db1", "off", "lost", false},
		{"a resource", "resource", "0", "db1", "off", done, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			program, asked := recorder(t)
			out, _ := shell(t, []string{"SIGNALBOX=" + program, "SIGNALBOX_AGENT=/a", "CRM_alert_kind=" + c.kind, "CRM_alert_rc=" + c.rc,
				"CRM_alert_node=" + c.node, "CRM_alert_task=" + c.task, "CRM_alert_desc=" + c.desc}, "pacemaker/alert-fenced")
			if got := asked(); (got == "notify -c /a --quiet --timeout 3s fenced db1\n") != c.told || !c.told && got != "" {
				t.Errorf("signalbox was asked %q, want evidence: %v\n%s", got, c.told, out)
			}
		})
	}
}

func TestOnlyStonithSuccessIsEvidence(t *testing.T) {
	for result, told := range map[string]bool{"OK": true, "bad": false, "badhost": false, "n_stnth": false, "unneeded": false, "": false} {
		program, asked := recorder(t)
		shell(t, []string{"SIGNALBOX=" + program, "HA_node=db1", "HA_result=" + result}, "heartbeat/rc.d/stonith", "stonith")
		if got := asked(); strings.Contains(got, "fenced db1") != told || !told && got != "" {
			t.Errorf("result %q: signalbox was asked %q, want evidence: %v", result, got, told)
		}
	}
	program, asked := recorder(t)
	shell(t, []string{"SIGNALBOX=" + program, "HA_node=", "HA_result=OK"}, "heartbeat/rc.d/stonith", "stonith")
	if got := asked(); got != "" {
		t.Errorf("nobody was fenced, and signalbox was asked %q", got)
	}
}

// keepalived's states never are evidence.
func TestVRRPIsNoEvidence(t *testing.T) {
	for _, state := range []string{"MASTER", "BACKUP", "FAULT", "STOP", "DELETED"} {
		program, asked := recorder(t)
		dir := t.TempDir()
		out, code := shell(t, []string{"SIGNALBOX=" + program, "SIGNALBOX_RUN=" + dir, "SIGNALBOX_MOVE=" + write(t, filepath.Join(dir, "move"), "#!/bin/sh\n", 0o755)},
			"keepalived/vrrp", "INSTANCE", "mysql", state, "100")
		want := "demote"
		if state == "MASTER" {
			want = "promote"
		}
		if got := asked(); code != 0 || strings.Contains(got, "fenced") || strings.Count(got, "\n") != 1 || !strings.Contains(got, want+"\n") {
			t.Errorf("%s: signalbox was asked %q, status %d, want %s: %s", state, got, code, want, out)
		}
	}
}

// A failover goes on when the agent is not there, or does not answer.
func TestFailoverDoesNotWaitForTheAgent(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for agents that do not answer")
	}
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	mute, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mute.Close() })
	dir := t.TempDir()
	for name, address := range map[string]string{"away": freeAddress(t), "mute": mute.Addr().String()} {
		write(t, filepath.Join(dir, name+".yaml"), "node: db1\naddress: "+address+"\n", 0o600)
	}
	move := write(t, filepath.Join(dir, "move"), "#!/bin/sh\n", 0o755)
	var group sync.WaitGroup
	for _, agent := range []string{"away.yaml", "mute.yaml", "missing.yaml"} {
		env := []string{"SIGNALBOX=" + binary, "SIGNALBOX_AGENT=" + filepath.Join(dir, agent), "SIGNALBOX_RUN=" + t.TempDir(), "SIGNALBOX_MOVE=" + move,
			"OCF_RESKEY_binary=" + binary, "OCF_RESKEY_config=" + filepath.Join(dir, agent), "OCF_RESKEY_wait=600", "OCF_RESKEY_CRM_meta_timeout=6000",
			"HA_RSCTMP=" + t.TempDir()}
		for _, call := range [][]string{
			{"heartbeat/resource.d/signalbox", "1", "stop"}, {"heartbeat/resource.d/signalbox", "1", "start"},
			{"pacemaker/announce", "stop"}, {"pacemaker/announce", "start"},
			{"keepalived/vrrp", "INSTANCE", "mysql", "BACKUP", "100"},
		} {
			group.Go(func() {
				began := time.Now()
				out, code := shell(t, env, call[0], call[1:]...)
				if code != 0 {
					t.Errorf("%v with the agent %s: status %d: %s", call, agent, code, out)
				}
				if !strings.Contains(out, "WARNING") && call[0] != "keepalived/vrrp" { // which tells syslog
					t.Errorf("%v with the agent %s gives no warning: %s", call, agent, out)
				}
				if took := time.Since(began); took > 3*time.Minute { // 13 s and less on an idle machine; OCF's wait is set to 600 s
					t.Errorf("%v with the agent %s took %s", call, agent, took)
				}
			})
		}
	}
	group.Wait()
}

func TestAnnounceValidates(t *testing.T) {
	good := write(t, filepath.Join(t.TempDir(), "agent.yaml"), "node: db1\n", 0o600)
	for _, c := range []struct {
		env  []string
		verb string
		want int
	}{
		{[]string{"OCF_RESKEY_binary=/bin/true", "OCF_RESKEY_config=" + good}, "validate-all", 0},
		{[]string{"OCF_RESKEY_binary=/nonexistent", "OCF_RESKEY_config=" + good}, "validate-all", 5},
		{[]string{"OCF_RESKEY_binary=/bin/true", "OCF_RESKEY_config=/nonexistent"}, "validate-all", 5},
		{[]string{"OCF_RESKEY_binary=/bin/true", "OCF_RESKEY_config=" + good, "OCF_RESKEY_wait=10s"}, "validate-all", 2},
		{[]string{"HA_RSCTMP=" + t.TempDir()}, "monitor", 7},
		{nil, "dance", 3},
	} {
		if out, code := shell(t, c.env, "pacemaker/announce", c.verb); code != c.want {
			t.Errorf("%s with %q: status %d, want %d: %s", c.verb, c.env, code, c.want, out)
		}
	}
}
