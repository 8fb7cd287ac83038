package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// A read whose replica is killed under it, or is stalled for longer than
// reads.timeout, is answered by another server; in a transaction it is not.
func TestReadIsRetriedElsewhere(t *testing.T) {
	f := startFront(t, "reads: {timeout: 4s}\n")
	c := f.rawSession(t, true)
	f.onReplica(t, c)
	serving := func() string {
		port := one(t, c, "SELECT @@port")
		for _, r := range f.replicas() {
			if port == fmt.Sprint(f.Port(r)) {
				return r
			}
		}
		t.Fatalf("reads run on port %s, which is no replica's", port)
		return ""
	}
	stalled := serving()
	if err := f.Pause(stalled); err != nil {
		t.Fatal(err)
	}
	if port := one(t, c, "SELECT @@port"); port == fmt.Sprint(f.Port(stalled)) {
		t.Errorf("%s has answered although it is stopped", stalled)
	}
	if err := f.Resume(stalled); err != nil {
		t.Fatal(err)
	}
	f.awaitReason(t, "healthy")
	f.onReplica(t, c)
	killed := serving()
	f.killUnder(t, killed)
	if port := one(t, c, "SELECT @@port, SLEEP(2) AS signalbox_retry"); port == fmt.Sprint(f.Port(killed)) {
		t.Errorf("%s has answered although it was killed", killed)
	}
	if err := f.Restart(t.Context(), killed); err != nil {
		t.Fatal(err)
	}
	f.awaitReason(t, "healthy")
	f.onReplica(t, c)
	runs(t, c, []string{"START TRANSACTION READ ONLY"})
	f.killUnder(t, serving())
	if _, err := c.Execute("SELECT SLEEP(2) AS signalbox_retry"); err == nil || !strings.Contains(err.Error(), "1213") {
		t.Errorf("in a transaction: %v, want error 1213", err)
	}
}

// killUnder kills a replica as soon as it runs a statement of the test.
func (f *front) killUnder(t *testing.T, replica string) {
	go func() {
		f.await(t, func(ctx context.Context) error {
			var n int
			err := f.Query(ctx, replica, "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT%signalbox_retry' AND id<>CONNECTION_ID()", &n)
			if err == nil && n == 0 {
				err = fmt.Errorf("%s does not run the statement yet", replica)
			}
			return err
		})
		f.Kill(replica)
	}()
}
