package lvs

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"signalbox/config"
	"signalbox/internal/sandbox"
)

// On a real server: the check logs in, asks, keeps its connection, and leaves no
// aborted connection behind.
func TestMySQLCheck(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	cluster, err := sandbox.Start(t.Context(), sandbox.Options{Replicas: 1})
	if err != nil {
		if os.Getenv("SIGNALBOX_E2E") == "required" {
			t.Fatal(err)
		}
		t.Skipf("no server program: %v", err)
	}
	defer cluster.Stop()
	at := fmt.Sprintf("127.0.0.1:%d", cluster.Port("r1"))
	status := func(name string) (n int) {
		var key string
		if err := cluster.Query(t.Context(), "r1", "SHOW GLOBAL STATUS LIKE '"+name+"'", &key, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	probe := func(query, password string) error {
		p := proberFor("mysql", at, func(c *config.LVSCheck) {
			c.User, c.Password, c.Query, c.Timeout = sandbox.AppUser, config.Secret(password), query, 30*time.Second
		})
		defer p.asker.Close()
		err := p.run(t.Context())
		if err == nil {
			err = p.run(t.Context()) // over the same connection
		}
		return err
	}
	aborted := status("Aborted_clients") + status("Aborted_connects")
	for _, tt := range []struct{ query, password, want string }{
		{"SELECT 1", sandbox.AppPassword, ""},
		{"SELECT @@read_only = 0", sandbox.AppPassword, `the check's query gives "0"`},
		{"SELECT NULL", sandbox.AppPassword, `the check's query gives ""`},
		{"SELECT 1 FROM DUAL WHERE 1 = 0", sandbox.AppPassword, "the check's query gives no row"},
		{"DO 1", sandbox.AppPassword, "the check's query gives no row"},
		{"SELEC", sandbox.AppPassword, "You have an error in your SQL syntax"},
	} {
		err := probe(tt.query, tt.password)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %s", tt.query, err, tt.want)
		}
	}
	if n := status("Aborted_clients") + status("Aborted_connects") - aborted; n != 0 {
		t.Errorf("%d connections count as aborted", n)
	}
	if err := probe("SELECT 1", "wrong"); err == nil || !strings.Contains(err.Error(), "the check's account is refused") {
		t.Errorf("wrong password: %v", err)
	}
	cluster.Kill("r1")
	if err := probe("SELECT 1", sandbox.AppPassword); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody listens: %v", err)
	}
}
