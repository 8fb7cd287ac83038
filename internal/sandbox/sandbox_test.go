package sandbox

import (
	"os"
	"testing"
)

func TestClusterSwitchesOverAndLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	c, err := Start(t.Context(), Options{GeneralLog: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	ctx := t.Context()
	if err := c.Exec(ctx, "db1", "CREATE TABLE shop.t (a INT PRIMARY KEY)", "INSERT INTO shop.t VALUES (1),(2)"); err != nil {
		t.Fatal(err)
	}
	count := func(server string, want int) {
		t.Helper()
		var n int
		if err := c.Query(ctx, server, "SELECT COUNT(*) FROM shop.t", &n); err != nil || n != want {
			t.Fatalf("%s has %d rows, want %d (%v)", server, n, want, err)
		}
	}
	if err := c.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	count("r1", 2)
	phases, err := c.Switchover(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("switchover: %+v", phases)
	if c.Active() != "db2" || c.nodes[0].running() {
		t.Fatalf("active %s, db1 running %v", c.Active(), c.nodes[0].running())
	}
	if err := c.Exec(ctx, "db2", "INSERT INTO shop.t VALUES (3)"); err != nil {
		t.Fatal(err)
	}
	if err := c.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	count("r2", 3)
	lost := c.PowerCut()
	if err := c.PromoteSurvivor(ctx, lost); err != nil {
		t.Fatal(err)
	}
	count("db1", 3)
	if err := c.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	dir := c.dir
	c.Stop()
	for _, i := range c.all() {
		if i.running() {
			t.Errorf("%s still runs", i.name)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there", dir)
	}
}
