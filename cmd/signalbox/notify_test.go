package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What notify prints and how it ends, for scripts, by what the agent answers.
func TestNotifyCommand(t *testing.T) {
	answers := map[string]string{
		"demote":  `{"proxies":2,"writing":1,"message":"the wait is over"}`,
		"promote": `{"proxies":2}`,
	}
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := new(bytes.Buffer)
		_, _ = body.ReadFrom(r.Body)
		for action, answer := range answers {
			if strings.Contains(body.String(), `"action":"`+action+`","node":"db1"`) {
				_, _ = w.Write([]byte(answer))
				return
			}
		}
		http.Error(w, "no", http.StatusConflict)
	}))
	t.Cleanup(agent.Close)
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, []byte("node: db1\naddress: "+strings.TrimPrefix(agent.URL, "http://")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args     string
		want     int
		out, err string // parts of what is printed; empty: nothing is
	}{
		{"promote", 0, "promote db1: told; proxies listening: 2", ""},
		{"--quiet promote db1", 0, "", ""},
		{"demote", 3, "the wait is over", "1 of them may still write to db1"},
		{"--quiet --wait 1s demote", 3, "", "may still write"},
		{"fenced db2", 1, "", "the agent answers 409"},
		{"fenced", 2, "", "which node?"},
		{"unfenced", 2, "", "which node?"},
		{"dance db1", 2, "", "want promote, demote, fenced or unfenced"},
	} {
		var out, errors bytes.Buffer
		got := runNotify(append([]string{"-c", file}, strings.Fields(c.args)...), stdio{out: &out, err: &errors})
		if got != c.want || !strings.Contains(out.String(), c.out) || c.out == "" && out.Len() > 0 || !strings.Contains(errors.String(), c.err) {
			t.Errorf("notify %s: status %d, want %d; printed %q and %q", c.args, got, c.want, &out, &errors)
		}
	}
}
