package e2e

import "testing"

// A COMMIT that was sent, and whose server lost its authority before the answer,
// may have taken effect: it must not be called a deadlock, which drivers retry.
func TestLostCommitIsUnknown(t *testing.T) {
	f := startFront(t, "")
	ctx := t.Context()
	conn, err := f.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, s := range []string{"CREATE TABLE c (id INT PRIMARY KEY)", "BEGIN", "INSERT INTO c VALUES (1)"} {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Pause("db1"); err != nil {
		t.Fatal(err)
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	if err := f.Resume("db1"); err != nil {
		t.Fatal(err)
	}
	if code(err) != 1105 {
		t.Errorf("a COMMIT without an answer: %v, want 1105", err)
	}
	f.awaitReason(t, "healthy")
	for _, s := range []string{"BEGIN", "INSERT INTO c VALUES (2)", "COMMIT"} {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			t.Fatalf("the session does not live on: %s: %v", s, err)
		}
	}
}
