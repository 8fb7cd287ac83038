// Package e2e runs whole parts against each other: real servers, the built
// program, real clients.
package e2e

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"signalbox/test/clients"
)

// Every client must see through the proxy what it sees without it, over plain
// TCP and over TLS, with either password plugin.
func TestClientsSeeTheSameThroughTheProxy(t *testing.T) {
	servers := startServers(t)
	var through []variant
	for _, v := range []variant{
		{name: "plain", plugin: "mysql_native_password"},
		{name: "TLS", plugin: "caching_sha2_password", tls: true},
	} {
		v.at = startProxy(t, servers, v.plugin)
		v.at.TLS = v.tls
		through = append(through, v)
	}
	for _, c := range clients.All() {
		t.Run(c.Name, func(t *testing.T) {
			if err := c.Missing(t.Context()); err != nil {
				absent(t, c.Name, err)
			}
			straight := run(t, c, servers.primary.endpoint())
			for _, v := range through {
				t.Run(v.name, func(t *testing.T) {
					before := servers.replica.selects(t)
					got := run(t, c, v.at)
					for _, d := range clients.Differences(straight, got) {
						t.Errorf("straight against proxied: %s", d)
					}
					// Equal reports prove nothing about a proxy that reads nowhere else.
					if n := servers.replica.selects(t) - before; n < 3 {
						t.Errorf("only %d reads went to the replica", n)
					}
				})
			}
		})
	}
}

// variant is a manner of connecting to the proxy.
type variant struct {
	name, plugin string
	tls          bool
	at           clients.Endpoint
}

func run(t *testing.T, c clients.Client, to clients.Endpoint) []clients.Finding {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	findings, err := c.Run(ctx, to)
	if err != nil {
		t.Fatalf("%s at port %s: %v", c.Name, to.Port, err)
	}
	return findings
}

// selects is how many SELECTs clients have run on the server.
func (s *server) selects(t *testing.T) int {
	t.Helper()
	var name, value string
	if err := s.admin(t).QueryRowContext(t.Context(), "SHOW GLOBAL STATUS LIKE 'Com_select'").Scan(&name, &value); err != nil {
		t.Fatal(fmt.Errorf("count the reads of %s: %w", s.name, err))
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
