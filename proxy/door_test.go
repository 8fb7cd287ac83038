package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	driver "github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"signalbox/config"
	"signalbox/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// doorConfig has an account for each plugin, and one that takes either.
func doorConfig() *config.Config {
	return &config.Config{
		TLS:  config.TLS{Mode: "optional"},
		Auth: config.Auth{Plugin: pluginSHA2},
		Users: []config.User{
			{Name: "native", Password: "secret", Plugin: pluginNative},
			{Name: "sha2", Password: "secret", Plugin: pluginSHA2},
			{Name: "any", Password: "secret", MaxConnections: 2},
			{Name: "empty"},
		},
		Limits: config.Limits{MaxConnections: 5, HandshakeTimeout: 5 * time.Second, HandshakeBytes: 64 << 10},
	}
}

// openDoor serves a door whose sessions answer every command with OK, until the
// test ends.
func openDoor(t testing.TB, cfg *config.Config, network, address string) (*Door, net.Addr) {
	t.Helper()
	d, err := NewDoor(cfg, DoorOptions{}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		_ = Serve(ctx, []net.Listener{ln}, func(ctx context.Context, nc net.Conn) {
			c, err := d.Admit(ctx, nc)
			if err != nil {
				return
			}
			defer c.Close()
			defer c.Conn.Close()
			stop := context.AfterFunc(ctx, func() { _ = c.Conn.Close() })
			defer stop()
			echo(c)
		})
	})
	t.Cleanup(func() { cancel(); group.Wait() })
	return d, ln.Addr()
}

func echo(c *Client) {
	var h [wire.HeaderLen]byte
	for {
		if _, err := io.ReadFull(c.Conn, h[:]); err != nil {
			return
		}
		p := make([]byte, wire.PayloadLen(h[:]))
		if _, err := io.ReadFull(c.Conn, p); err != nil || p[0] == wire.ComQuit {
			return
		}
		if _, err := c.Conn.Write(wire.AppendOK(nil, 1, 0, &wire.Result{Status: wire.StatusAutocommit}, false)); err != nil {
			return
		}
	}
}

// ping authenticates with a real driver and sends a command.
func ping(t testing.TB, at net.Addr, user, password string, change func(*driver.Config)) error {
	t.Helper()
	c := driver.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.Timeout = user, password, at.Network(), at.String(), 5*time.Second
	c.Logger = log{}
	if change != nil {
		change(c)
	}
	connector, err := driver.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	return db.PingContext(t.Context())
}

type log struct{}

func (log) Print(...any) {}

func code(err error) uint16 {
	var my *driver.MySQLError
	if errors.As(err, &my) {
		return my.Number
	}
	return 0
}

func TestDoorAdmitsAndRefuses(t *testing.T) {
	withTLS := func(c *driver.Config) { c.TLSConfig = "skip-verify" }
	for _, network := range []struct{ name, network, address string }{
		{"IPv4", "tcp", "127.0.0.1:0"}, {"IPv6", "tcp", "[::1]:0"}, {"socket", "unix", t.TempDir() + "/s"},
	} {
		t.Run(network.name, func(t *testing.T) {
			_, at := openDoor(t, doorConfig(), network.network, network.address)
			for _, user := range []string{"native", "sha2", "any"} {
				if err := ping(t, at, user, "secret", nil); err != nil {
					t.Errorf("%s: %v", user, err)
				}
				if err := ping(t, at, user, "secret", withTLS); err != nil && network.network == "tcp" {
					t.Errorf("%s over TLS: %v", user, err)
				}
				if err := ping(t, at, user, "wrong", nil); code(err) != 1045 || !strings.Contains(err.Error(), "(using password: YES)") {
					t.Errorf("%s with a wrong password: %v", user, err)
				}
			}
			if err := ping(t, at, "empty", "", nil); err != nil {
				t.Errorf("empty password: %v", err)
			}
			if err := ping(t, at, "nobody", "secret", nil); code(err) != 1045 {
				t.Errorf("unknown user: %v", err)
			}
			if err := ping(t, at, "nobody", "", nil); code(err) != 1045 || !strings.Contains(err.Error(), "(using password: NO)") {
				t.Errorf("unknown user without a password: %v", err)
			}
		})
	}
}

func TestTLSRequired(t *testing.T) {
	cfg := doorConfig()
	cfg.TLS.Mode = "required"
	_, at := openDoor(t, cfg, "tcp", "127.0.0.1:0")
	if err := ping(t, at, "any", "secret", nil); code(err) != 3159 {
		t.Errorf("plain: %v, want 3159", err)
	}
	if err := ping(t, at, "any", "secret", func(c *driver.Config) { c.TLS = &tls.Config{InsecureSkipVerify: true} }); err != nil {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	d, at := openDoor(t, doorConfig(), "tcp", "127.0.0.1:0")
	hold := func(user string) (*sql.DB, error) {
		c := driver.NewConfig()
		c.User, c.Passwd, c.Net, c.Addr, c.Logger = user, "secret", "tcp", at.String(), log{}
		connector, _ := driver.NewConnector(c)
		db := sql.OpenDB(connector)
		t.Cleanup(func() { db.Close() })
		return db, db.PingContext(t.Context())
	}
	for range 2 {
		if _, err := hold("any"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := hold("any"); code(err) != 1226 {
		t.Errorf("third of two: %v, want 1226", err)
	}
	var last *sql.DB
	for range 3 {
		db, err := hold("native")
		if err != nil {
			t.Fatal(err)
		}
		last = db
	}
	if _, err := hold("native"); code(err) != 1040 {
		t.Errorf("sixth of five: %v, want 1040", err)
	}
	_ = last.Close()
	deadline := time.Now().Add(5 * time.Second)
	for _, err := hold("native"); err != nil; _, err = hold("native") {
		if time.Now().After(deadline) {
			t.Fatalf("a place that was given back is not free: %v", err)
		}
	}
	_ = d
}

// The whole password, encrypted with the proxy's key, where the short proof is
// wrong: what a client sends when its server has nothing cached.
func TestFullExchangeWithRSA(t *testing.T) {
	_, at := openDoor(t, doorConfig(), "tcp", "127.0.0.1:0")
	for password, want := range map[string]bool{"secret": true, "wrong": false} {
		nc, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		salt := greetingSalt(t, packet(t, nc))
		send(t, nc, 1, handshakeResponse("sha2", pluginSHA2, bytes.Repeat([]byte{7}, 32), 0))
		if p := packet(t, nc); !bytes.Equal(p, []byte{1, 4}) {
			t.Fatalf("want the full exchange, got %x", p)
		}
		send(t, nc, 3, []byte{2})
		pub, err := parsePublicKey(packet(t, nc)[1:])
		if err != nil {
			t.Fatal(err)
		}
		secret, err := mysql.EncryptPassword(password, salt, pub)
		if err != nil {
			t.Fatal(err)
		}
		send(t, nc, 5, secret)
		if p := packet(t, nc); (p[0] == 0) != want {
			t.Errorf("password %q: %q", password, p)
		}
		nc.Close()
	}
}

// What follows the handshake in one segment must not be lost.
func TestNoByteIsLost(t *testing.T) {
	_, at := openDoor(t, doorConfig(), "tcp", "127.0.0.1:0")
	nc, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	salt := greetingSalt(t, packet(t, nc))
	r := handshakeResponse("native", pluginNative, mysql.CalcNativePassword(salt, []byte("secret")), 0)
	b, _ := wire.AppendPacket(nil, 1, r)
	b, _ = wire.AppendPacket(b, 0, []byte{wire.ComPing})
	if _, err := nc.Write(b); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if p := packet(t, nc); p[0] != 0 {
			t.Fatalf("%q", p)
		}
	}
}

func TestBudgetAndDeadline(t *testing.T) {
	cfg := doorConfig()
	cfg.Limits.HandshakeTimeout = 100 * time.Millisecond
	cfg.Limits.HandshakeBytes = 1 << 10
	_, at := openDoor(t, cfg, "tcp", "127.0.0.1:0")
	for name, b := range map[string][]byte{"silent": nil, "too much": {0xff, 0xff, 0xff, 1}, "empty": {0, 0, 0, 1}} {
		nc, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		packet(t, nc)
		_, _ = nc.Write(b)
		_ = nc.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, nc); err != nil && errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: still open", name)
		}
		nc.Close()
	}
}

func packet(t testing.TB, nc net.Conn) []byte {
	t.Helper()
	_ = nc.SetReadDeadline(time.Now().Add(5 * time.Second))
	var h [4]byte
	if _, err := io.ReadFull(nc, h[:]); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, wire.PayloadLen(h[:]))
	if _, err := io.ReadFull(nc, p); err != nil {
		t.Fatal(err)
	}
	return p
}

func send(t testing.TB, nc net.Conn, seq byte, payload []byte) {
	t.Helper()
	b, _ := wire.AppendPacket(nil, seq, payload)
	if _, err := nc.Write(b); err != nil {
		t.Fatal(err)
	}
}

func greetingSalt(t testing.TB, p []byte) []byte {
	t.Helper()
	at := bytes.IndexByte(p, 0) + 5
	return append(bytes.Clone(p[at:at+8]), p[at+8+19:at+8+19+12]...)
}

func handshakeResponse(user, plugin string, proof []byte, more uint32) []byte {
	capability := wire.ClientProtocol41 | wire.ClientSecureConnection | wire.ClientPluginAuth | wire.ClientConnectAttrs | more
	p := binary.LittleEndian.AppendUint32(nil, capability)
	p = append(append(p, 0, 0, 0, 1, 45), make([]byte, 23)...)
	p = append(append(p, user...), 0, byte(len(proof)))
	p = append(append(p, proof...), plugin...)
	p = append(p, 0)
	attrs := wire.AppendLenencString(wire.AppendLenencString(nil, "_client_name"), "test")
	return wire.AppendLenencString(p, string(attrs))
}

func TestResponseFields(t *testing.T) {
	r, err := parseResponse(handshakeResponse("u", pluginNative, []byte("proof"), 0))
	if err != nil || r.user != "u" || string(r.proof) != "proof" || r.plugin != pluginNative || r.attributes != "_client_name=test" || r.collation != 45 {
		t.Fatalf("%+v %v", r, err)
	}
}

func FuzzParseResponse(f *testing.F) {
	f.Add(handshakeResponse("u", pluginNative, []byte("proof"), 0))
	f.Add(handshakeResponse("u", pluginSHA2, nil, wire.ClientConnectWithDB|clientPluginAuthLenenc))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := parseResponse(p)
		if (r == nil) == (err == nil) {
			t.Fatal("either a response or an error")
		}
		if r != nil && len(r.attributes) > maxAttributes+2 {
			t.Fatal("too much is kept")
		}
	})
}

// fakePackets answers an exchange of COM_CHANGE_USER.
type fakePackets struct {
	answer func(salt []byte) []byte
	salt   []byte
	wrote  [][]byte
}

func (p *fakePackets) ReadPacket() ([]byte, error) { return p.answer(p.salt), nil }
func (p *fakePackets) WritePacket(b []byte) error {
	p.wrote = append(p.wrote, b)
	if i := bytes.IndexByte(b, 0); b[0] == 0xfe && i > 0 {
		p.salt = b[i+1 : len(b)-1]
	}
	return nil
}

func TestChangeUser(t *testing.T) {
	cfg := doorConfig()
	d, err := NewDoor(cfg, DoorOptions{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{User: d.users["any"], Remote: "127.0.0.1:5", Capability: wire.ClientPluginAuth, limits: d.limits}
	d.limits.enter()
	d.limits.take("any", 0)
	payload := append([]byte{wire.ComChangeUser}, "native\x00\x01xshop\x00\x2d\x00mysql_native_password\x00"...)
	good := &fakePackets{answer: func(salt []byte) []byte { return mysql.CalcNativePassword(salt, []byte("secret")) }}
	next, err := d.ChangeUser(c, payload, good)
	if err != nil || next.User.Name != "native" || next.Schema != "shop" || next.Collation != 45 {
		t.Fatalf("%+v %v", next, err)
	}
	if d.limits.byUser["any"] != 0 || d.limits.byUser["native"] != 1 {
		t.Fatalf("counts %v", d.limits.byUser)
	}
	bad := &fakePackets{answer: func([]byte) []byte { return make([]byte, 20) }}
	var f *Fault
	if _, err := d.ChangeUser(next, payload, bad); !errors.As(err, &f) || f.Code != 1045 {
		t.Fatalf("wrong proof: %v", err)
	}
}

func FuzzChangeUser(f *testing.F) {
	d, err := NewDoor(doorConfig(), DoorOptions{}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append([]byte{wire.ComChangeUser}, "native\x00\x01xshop\x00\x2d\x00mysql_native_password\x00"...))
	f.Fuzz(func(t *testing.T, payload []byte) {
		c := &Client{User: d.users["any"], Remote: "127.0.0.1:5", Capability: wire.ClientPluginAuth, limits: d.limits}
		if next, err := d.ChangeUser(c, payload, &fakePackets{answer: func([]byte) []byte { return []byte("x") }}); err == nil && next.User.Password != "" {
			t.Fatalf("%q let %s in", payload, next.User.Name)
		}
	})
}
