package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite docs/configuration.md")

const reference = "../docs/configuration.md"

func TestReference(t *testing.T) {
	if *update {
		if err := os.WriteFile(reference, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Reference() {
		t.Fatalf("%s is not what the types say; run: go generate ./config", reference)
	}
}

func TestExamples(t *testing.T) {
	files, _ := filepath.Glob("../examples/*.yaml")
	if len(files) == 0 {
		t.Fatal("no examples")
	}
	for _, f := range files {
		err := error(nil)
		if strings.Contains(filepath.Base(f), "agent") {
			_, err = LoadAgent(f)
		} else {
			_, err = Load(f)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

const minimal = `listeners: [{address: "127.0.0.1:3306"}]
users: [{name: app, password: x}]
servers: [{name: db, role: primary, address: "127.0.0.1:3307"}]
authority: {source: static}
health: {user: probe}
`

func TestDefaultsAndUnits(t *testing.T) {
	t.Setenv("SIGNALBOX_TEST_PASSWORD", "from-env")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Parse("x.yaml", []byte(strings.Replace(minimal, "password: x", "password: \"${SIGNALBOX_TEST_PASSWORD}\"", 1)+
		"limits: {max_packet: 64MiB, idle_timeout: 7d}\nauth: {server_version: \"\"}\nhold: {timeout: 250ms}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Users[0].Password.Reveal() != "from-env" || c.Users[0].Password.String() != "***" {
		t.Errorf("password %q shown as %q", c.Users[0].Password.Reveal(), c.Users[0].Password)
	}
	if c.Limits.MaxPacket != 64<<20 || c.Limits.IdleTimeout != 7*24*time.Hour || c.Hold.Timeout != 250*time.Millisecond {
		t.Errorf("units: %+v %+v", c.Limits, c.Hold)
	}
	if c.Authority.Poll != 100*time.Millisecond || c.Servers[0].Weight != 1 || c.Admin.Address != "127.0.0.1:9127" {
		t.Errorf("defaults: %+v %+v %+v", c.Authority, c.Servers[0], c.Admin)
	}
	c, err = Parse("x.yaml", []byte(strings.Replace(minimal, "password: x", "password: file:"+secret, 1)))
	if err != nil || c.Users[0].Password.Reveal() != "from-file" {
		t.Errorf("secret from a file: %v", err)
	}
}

func TestFaultsAreNamedWithPlaceAndRemedy(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown key", "listenerz: []\n", `x.yaml:1:1: unknown key "listenerz" in the file; did you mean "listeners"?`},
		{"unknown nested key", minimal + "hold: {timout: 3s}\n", `x.yaml:6:8: unknown key "timout" in hold; did you mean "timeout"?`},
		{"unlike any key", minimal + "zzzzzzzzzzzz: 1\n", `unknown key "zzzzzzzzzzzz" in the file; known are listeners, admin,`},
		{"duration", minimal + "hold: {timeout: 3 sec}\n", `x.yaml:6:17: hold.timeout: "3 sec" is not a duration; write it as`},
		{"negative duration", minimal + "hold: {timeout: -3s}\n", `"-3s" is not a duration`},
		{"size", minimal + "limits: {max_packet: 3XB}\n", `"3XB" is not a size; write it as`},
		{"enum", minimal + "log: {level: loud}\n", `x.yaml:6:14: log.level: "loud" is none of debug, info, warn, error`},
		{"number", strings.Replace(minimal, "user: probe", "user: probe, rise: two", 1), `"two" is not a whole number`},
		{"list wanted", "listeners: 3\n", `listeners: want a list, found "3"`},
		{"mapping wanted", "admin: 3\n", `admin: want keys and values, found "3"`},
		{"value wanted", "log: {level: [a]}\n", `log.level: want one value, found a list`},
		{"duplicate key", "admin: {address: \"a:1\", address: \"b:1\"}\n", `key "address"`},
		{"environment", strings.Replace(minimal, "password: x", "password: \"${SIGNALBOX_UNSET}\"", 1), "environment variable SIGNALBOX_UNSET is not set"},
		{"brace", strings.Replace(minimal, "password: x", "password: \"${A\"", 1), "has no closing brace"},
		{"secret file", strings.Replace(minimal, "password: x", "password: file:/nonexistent", 1), "check that the file exists"},
		{"no listeners", strings.Replace(minimal, `listeners: [{address: "127.0.0.1:3306"}]`, "", 1), "listeners: at least one is needed"},
		{"bad address", strings.Replace(minimal, `"127.0.0.1:3306"`, "somewhere", 1), `"somewhere" is not HOST:PORT`},
		{"bad port", strings.Replace(minimal, "3306", "99999", 1), `port "99999" is not a number from 1 to 65535`},
		{"socket path", strings.Replace(minimal, `"127.0.0.1:3306"`, "unix:relative", 1), "not an absolute socket path"},
		{"server twice", strings.Replace(minimal, "servers: [", `servers: [{name: db, role: replica, address: "127.0.0.1:3308"}, `, 1), "server db is listed twice"},
		{"address twice", strings.Replace(minimal, "servers: [", `servers: [{name: r, role: replica, address: "127.0.0.1:3307"}, `, 1), "is r's address too"},
		{"user twice", strings.Replace(minimal, "users: [", "users: [{name: app}, ", 1), "user app is listed twice"},
		{"two static primaries", strings.Replace(minimal, "servers: [", `servers: [{name: b, role: primary, address: "127.0.0.1:3308"}, `, 1), "static needs exactly one server of role primary, there are 2"},
		{"drbd without nodes", strings.Replace(minimal, "static", "drbd", 1), "drbd needs servers of role drbd"},
		{"drbd on a replica", strings.Replace(minimal, "role: primary,", "role: primary, drbd: {file: /x},", 1), "only a server of role drbd has it"},
		{"pin without server", strings.Replace(minimal, "source: static", "source: static, policy: pinned", 1), "authority.pin: it must name a server of role drbd"},
		{"weight", strings.Replace(minimal, "role: primary,", "role: primary, weight: 0,", 1), "0 is outside 1 to 1000"},
		{"certificate alone", minimal + "tls: {cert_file: /x}\n", "cert_file and key_file go together"},
		{"freshness", strings.Replace(minimal, "source: static", "source: static, local_fresh: 50ms", 1), "longer than authority.poll"},
		{"lag return", minimal + "reads: {lag_return: 0}\n", "0 is outside 1 to 100"},
		{"primary cap", minimal + "reads: {primary_cap: 0}\n", "set reads.primary to never"},
		{"zone capacity", minimal + "reads: {zone_capacity: 0}\n", "reads.zone_capacity: it must be more than 0"},
		{"balance", minimal + "reads: {balance: random}\n", "none of least-time, least-connections, weighted, first"},
		{"heartbeat without a table", strings.Replace(minimal, "user: probe", "user: probe, heartbeat: {write: true}", 1), "write needs a table"},
		{"heartbeat table", strings.Replace(minimal, "user: probe", "user: probe, heartbeat: {table: \"a.b; DROP\"}", 1), "is not SCHEMA.TABLE"},
		{"heartbeat without schema", strings.Replace(minimal, "user: probe", "user: probe, heartbeat: {table: beat}", 1), "is not SCHEMA.TABLE"},
		{"heartbeat too often", strings.Replace(minimal, "user: probe", "user: probe, heartbeat: {table: a.b, interval: 1ms}", 1), "10ms or more"},
		{"rule without target", minimal + "router: {rules: [{name: x}]}\n", "a rule needs one"},
		{"rule with max_lag alone", minimal + "router: {rules: [{name: x, max_lag: 1s}]}\n", ""},
		{"not YAML", "a: [", "not YAML"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("x.yaml", []byte(tt.text))
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	_, err := Parse("x.yaml", []byte("listenerz: []\nlog: {level: loud}\nhold: {timeout: x, mode: y}\n"))
	if n := strings.Count(err.Error(), "x.yaml:"); n != 4 {
		t.Fatalf("%d faults, want 4:\n%v", n, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("listeners: &a [*a]"))
	f.Add([]byte("a: !!binary x\nservers: [{}, 3]"))
	if b, err := os.ReadFile("../examples/signalbox.yaml"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("x.yaml", text)
		if (c == nil) == (err == nil) {
			t.Fatal("either a configuration or an error")
		}
	})
}
