package bench

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"signalbox/config"
	"signalbox/drbdwatch"
	"signalbox/router"
)

// statements are of the kinds that the cost of classification depends on.
var statements = map[string]string{
	"point":  pointSelect,
	"insert": "INSERT INTO sbtest1 (id, k, c, pad) VALUES (4711, 17, '" + strings.Repeat("0123456789-", 11) + "', '" + strings.Repeat("9876543210-", 5) + "')",
	"join": `SELECT o.id, o.placed, c.name, SUM(l.quantity * l.price) AS total FROM orders o
		JOIN customers c ON c.id = o.customer_id JOIN order_lines l ON l.order_id = o.id
		LEFT JOIN discounts d ON d.customer_id = c.id AND d.until > '2026-01-01'
		WHERE o.placed BETWEEN '2026-01-01' AND '2026-02-01' AND c.country IN ('CZ', 'PL', 'DE') AND l.price > 10.5
		GROUP BY o.id, o.placed, c.name HAVING total > 100 ORDER BY total DESC LIMIT 50`,
	"begin": "BEGIN",
}

// routing is the router's part of the file at its defaults.
func routing(tb testing.TB) config.Router {
	tb.Helper()
	c, err := config.Parse("bench.yaml", []byte(`listeners: [{address: "127.0.0.1:1"}]
users: [{name: bench, password: bench}]
servers: [{name: db, role: primary, address: "127.0.0.1:2"}]
authority: {source: static}
health: {user: bench, password: bench}
`))
	if err != nil {
		tb.Fatal(err)
	}
	return c.Router
}

// BenchmarkClassifyHit is a statement seen before with other values.
func BenchmarkClassifyHit(b *testing.B) {
	for name, sql := range statements {
		b.Run(name, func(b *testing.B) {
			c, text := router.NewClassifier(routing(b)), []byte(sql)
			c.Classify(text, 0)
			b.ReportAllocs()
			for b.Loop() {
				c.Classify(text, 0)
			}
		})
	}
}

// BenchmarkClassifyMiss is a statement whose like was never seen: it goes
// through the parser.
func BenchmarkClassifyMiss(b *testing.B) {
	for name, table := range map[string]string{"point": "sbtest1", "insert": "sbtest1", "join": "orders"} {
		b.Run(name, func(b *testing.B) {
			c := router.NewClassifier(routing(b))
			before, after, _ := strings.Cut(statements[name], table)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				// A name, unlike a value, makes another statement.
				c.Classify(fmt.Appendf(nil, "%s%s_%d%s", before, table, i, after), 0)
			}
			if s := c.Stats(); s.Hits > 0 {
				b.Fatalf("%d of the statements had been seen before", s.Hits)
			}
		})
	}
}

// BenchmarkDecide is the pure decision for a statement already classified.
func BenchmarkDecide(b *testing.B) {
	rules, err := router.NewRules(routing(b))
	if err != nil {
		b.Fatal(err)
	}
	c := router.NewClassifier(routing(b))
	for name, sql := range statements {
		b.Run(name, func(b *testing.B) {
			st := c.Classify([]byte(sql), 0)
			var s router.Session
			s.Reset()
			b.ReportAllocs()
			for b.Loop() {
				router.Decide(&s, st, rules)
			}
		})
	}
}

// On the way of every statement nothing may be left to the garbage collector.
func TestHitAndDecideAllocateNothing(t *testing.T) {
	rules, err := router.NewRules(routing(t))
	if err != nil {
		t.Fatal(err)
	}
	c := router.NewClassifier(routing(t))
	for name, sql := range statements {
		text := []byte(sql)
		var s router.Session
		s.Reset()
		c.Classify(text, 0)
		n := testing.AllocsPerRun(200, func() { router.Decide(&s, c.Classify(text, 0), rules) })
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// BenchmarkParseProc reads /proc/drbd texts as they are polled.
func BenchmarkParseProc(b *testing.B) {
	for _, name := range []string{"L1", "L9"} {
		b.Run(name, func(b *testing.B) {
			text, err := os.ReadFile("../../drbdwatch/testdata/proc/" + name + ".txt")
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := drbdwatch.ParseProc(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
