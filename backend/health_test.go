package backend

import (
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"go.uber.org/goleak"

	"signalbox/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRiseAndFall(t *testing.T) {
	good, bad, refused := &sample{ok: true}, &sample{reason: "slow"}, &sample{reason: "refused", refused: true}
	for _, tt := range []struct {
		name    string
		samples []*sample
		want    string // u or d after each
	}{
		{"the first settles it", []*sample{good}, "u"},
		{"the first settles it down", []*sample{bad, good, good}, "ddu"},
		{"one bad sample is forgiven", []*sample{good, bad, bad, good, bad, bad}, "uuuuuu"},
		{"three in a row are not", []*sample{good, bad, bad, bad}, "uuud"},
		{"refused means down at once", []*sample{good, refused, good, good}, "uddu"},
	} {
		h := &health{rise: 2, fall: 3}
		got := ""
		for _, s := range tt.samples {
			h.take(s)
			got += map[bool]string{true: "u", false: "d"}[h.up]
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if h.reason == "" {
			t.Errorf("%s: no reason", tt.name)
		}
	}
}

// What a probe keeps must not lie in the library's buffer.
func TestProbeKeepsCopies(t *testing.T) {
	r := &mysql.Resultset{Fields: []*mysql.Field{{Type: mysql.MYSQL_TYPE_VAR_STRING}}}
	values, err := mysql.RowData("\x03db2").ParseText(r.Fields, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Values = append(r.Values, values)
	got := cell(r, 0)
	if _, err := mysql.RowData("\x03xyz").ParseText(r.Fields, values); err != nil {
		t.Fatal(err)
	}
	if got != "db2" {
		t.Fatalf("%q, want db2", got)
	}
}

// A replica that has lost its source keeps its lag while nobody writes, so that
// reads go on through a failover, and ages as soon as somebody does.
func TestLagWithoutASource(t *testing.T) {
	h, at := &health{}, time.Now()
	follow := func(known bool, lag time.Duration, after time.Duration, writing bool) Status {
		st := Status{Lag: lag, LagKnown: known, LastProbe: at.Add(after)}
		h.follow(&st, writing)
		return st
	}
	if st := follow(false, 0, 0, true); st.LagKnown {
		t.Fatal("known before it ever was")
	}
	follow(true, time.Second, 1*time.Second, true)
	for _, after := range []time.Duration{2, 30, 60} {
		if st := follow(false, 0, after*time.Second, false); !st.LagKnown || st.Lag != time.Second {
			t.Fatalf("after %d s without a writer: %+v", after, st)
		}
	}
	if st := follow(false, 0, 65*time.Second, true); st.Lag != 6*time.Second {
		t.Fatalf("5 s after a writer came: %v, want 6s", st.Lag)
	}
	if st := follow(true, 0, 70*time.Second, true); st.Lag != 0 {
		t.Fatalf("after it follows again: %v", st.Lag)
	}
}

func replicas(weights ...int) *Snapshot {
	s := new(Snapshot)
	for i, w := range weights {
		s.Servers = append(s.Servers, Status{Server: &Server{Index: i, Name: string(rune('a' + i)), Role: config.RoleReplica, Weight: w}, Up: true, LagKnown: true})
	}
	return s
}

func TestPickByWeight(t *testing.T) {
	s := replicas(1, 2, 1)
	count := make(map[string]int)
	for i := range uint64(4000) {
		count[Pick(s, &Need{}, 0, i).Name]++
	}
	if count["a"] != 1000 || count["b"] != 2000 || count["c"] != 1000 {
		t.Fatalf("%v, want 1000, 2000 and 1000", count)
	}
}

func TestPickOnlyWhatServes(t *testing.T) {
	s := replicas(1, 1, 1, 1, 1)
	s.Servers[0].Up = false
	s.Servers[1].Lag = time.Minute
	s.Servers[2].LagKnown = false
	s.Servers[3].Server.Role = config.RoleDRBD
	s.Servers[4].Position = position(t, "0-1-7")
	need := Need{Position: position(t, "0-1-7")}
	for i := range uint64(50) {
		if got := Pick(s, &need, time.Second, i); got == nil || got.Name != "e" {
			t.Fatalf("picked %v", got)
		}
	}
	need.Position = position(t, "0-1-8")
	if got := Pick(s, &need, time.Second, 1); got != nil {
		t.Fatalf("picked %s, which does not have the position", got.Name)
	}
	if got := Pick(s, &Need{Exclude: 1 << 4}, time.Second, 1); got != nil {
		t.Fatalf("picked %s, which is excluded", got.Name)
	}
	if n := testing.AllocsPerRun(100, func() { Pick(s, &need, time.Second, 3) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
