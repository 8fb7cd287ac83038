package proxy

import (
	"testing"

	"signalbox/config"
	"signalbox/router"
)

func TestPlacement(t *testing.T) {
	c := router.NewClassifier(config.Router{})
	ok := commitFacts{places: true}
	with := func(change func(*commitFacts)) commitFacts {
		f := ok
		change(&f)
		return f
	}
	reported := with(func(f *commitFacts) { f.reported = true })
	failed := with(func(f *commitFacts) { f.failed = true })
	failedInside := with(func(f *commitFacts) { f.failed, f.wasOpen, f.open = true, true, true })
	silent := with(func(f *commitFacts) { f.silent = true })
	silentInside := with(func(f *commitFacts) { f.silent, f.wasOpen, f.open = true, true, true })
	inside := with(func(f *commitFacts) { f.changed, f.wasOpen, f.open = true, true, true })
	changed := with(func(f *commitFacts) { f.changed = true })
	for _, tt := range []struct {
		sql   string
		facts commitFacts
		want  placement
	}{
		{"SELECT 1", silent, placedBefore},
		{"INSERT INTO t VALUES (1)", reported, placedReport},
		{"INSERT INTO t VALUES (1)", inside, placedBefore},
		{"INSERT INTO t VALUES (1)", changed, placedNowhere},
		{"UPDATE t SET a=1", ok, placedBefore},
		{"UPDATE t SET a=1", commitFacts{}, placedUnknown},
		{"COMMIT", reported, placedReport},
		{"COMMIT", ok, placedBefore},
		{"COMMIT", failedInside, placedUnknown},
		{"INSERT INTO t VALUES (1)", failed, placedUnknown},
		{"INSERT INTO t VALUES (1)", failedInside, placedBefore},
		{"DROP TABLE t", failedInside, placedUnknown},
		{"SHOW MASTER STATUS", failedInside, placedBefore},
		{"CALL p()", failed, placedUnknown},
		{"CALL p()", failedInside, placedUnknown},
		{"CALL p()", changed, placedBefore},
		{"INSERT INTO t VALUES (1) RETURNING a", silent, placedUnknown},
		{"INSERT INTO t VALUES (1) RETURNING a", silentInside, placedBefore},
		{"INSERT INTO t VALUES (1); SELECT 1", silentInside, placedUnknown},
		{"INSERT INTO t VALUES (1); SELECT x", with(func(f *commitFacts) { f.reported, f.failed = true, true }), placedUnknown},
		{"SELECT f()", silent, placedUnknown},
	} {
		if got := placementOf(c.Classify([]byte(tt.sql), 0), tt.facts); got != tt.want {
			t.Errorf("%s, %+v: %d, want %d", tt.sql, tt.facts, got, tt.want)
		}
	}
}
