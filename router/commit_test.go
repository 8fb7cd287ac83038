package router

import (
	"testing"

	"signalbox/config"
)

func TestMayCommit(t *testing.T) {
	c := NewClassifier(config.Router{})
	for text, want := range map[string]bool{
		"COMMIT": true, "COMMIT WORK": true, "COMMIT AND CHAIN": true, "BEGIN": true, "START TRANSACTION": true,
		"CREATE TABLE t (a INT)": true, "DROP TABLE t": true, "TRUNCATE t": true, "GRANT SELECT ON t TO u": true, "SET autocommit = 1": true,
		"LOCK TABLES t READ": true, "CALL p()": true, "EXECUTE s": true, "XA COMMIT 'x'": true, "INSERT INTO t VALUES (1); COMMIT": true,
		"SELECT 1; SELECT 2": true, "FROBNICATE t": true, "ANALYZE TABLE t": true,
		"SELECT 1": false, "SELECT a FROM t FOR UPDATE": false, "INSERT INTO t VALUES (1)": false, "UPDATE t SET a = 1": false,
		"DELETE FROM t": false, "REPLACE INTO t VALUES (1)": false, "ROLLBACK": false, "ROLLBACK TO s": false, "SAVEPOINT s": false,
	} {
		if got := c.Classify([]byte(text), 0).MayCommit(); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}
