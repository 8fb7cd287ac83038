package ask

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What a probe keeps must not lie in the library's buffer.
func TestCellIsACopy(t *testing.T) {
	r := &mysql.Resultset{Fields: []*mysql.Field{{Type: mysql.MYSQL_TYPE_VAR_STRING}}}
	values, err := mysql.RowData("\x03db2").ParseText(r.Fields, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Values = append(r.Values, values)
	got := Cell(r, 0)
	if _, err := mysql.RowData("\x03xyz").ParseText(r.Fields, values); err != nil {
		t.Fatal(err)
	}
	if got != "db2" {
		t.Fatalf("%q, want db2", got)
	}
}

// peer accepts connections until the test ends and gives each to serve.
func peer(t *testing.T, serve func(net.Conn)) *Asker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			serve(nc)
			_ = nc.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	a := &Asker{Network: "tcp", Address: ln.Addr().String(), User: "u", Password: "p", Program: "test"}
	t.Cleanup(a.Close)
	return a
}

func none(*client.Conn) error { return nil }

// Whatever is sent instead of a greeting is an error in time.
func TestGreetingThatIsNone(t *testing.T) {
	for name, bytes := range map[string]string{
		"nothing": "", "text": "HTTP/1.1 400 Bad Request\r\n\r\n", "cut": "\x4a\x00\x00\x00\x0a8.0",
		"short": "\x01\x00\x00\x00\x0a", "no end of the version": "\x05\x00\x00\x00\x0aaaaa", "error": "\x17\x00\x00\x00\xff\x10\x04Too many connections",
	} {
		t.Run(name, func(t *testing.T) {
			a := peer(t, func(nc net.Conn) {
				_, _ = nc.Write([]byte(bytes))
				_ = nc.(*net.TCPConn).CloseWrite()
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := a.Do(ctx, none); err == nil || a.Connected() {
				t.Errorf("%v, connected %v", err, a.Connected())
			}
		})
	}
}

// A server that says nothing is given up at the deadline, and when ctx is cancelled.
func TestSilentServer(t *testing.T) {
	quit := make(chan struct{})
	a := peer(t, func(net.Conn) { <-quit })
	defer close(quit)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := a.Do(ctx, none); err == nil || a.Connected() {
		t.Errorf("%v, connected %v", err, a.Connected())
	}
}

// ok is a server that greets and says OK to everything.
func ok(nc net.Conn) {
	// HandshakeV10 with mysql_native_password.
	greeting := "\x0a8.0.0\x00\x01\x00\x00\x0012345678\x00\xff\xf7\x21\x02\x00\xff\x81\x15" + strings.Repeat("\x00", 10) +
		"123456789012\x00mysql_native_password\x00"
	_, err := nc.Write(append([]byte{byte(len(greeting)), 0, 0, 0}, greeting...))
	packet := make([]byte, 1024)
	for err == nil {
		if _, err = io.ReadFull(nc, packet[:4]); err != nil {
			break
		}
		if _, err = io.ReadFull(nc, packet[4:4+int(packet[0])]); err == nil {
			_, err = nc.Write([]byte{7, 0, 0, packet[3] + 1, 0, 0, 0, 2, 0, 0, 0})
		}
	}
}

// Whenever the context ends, it does no harm, and none to the next Do.
func TestContextEndsAtAnyMoment(t *testing.T) {
	a := peer(t, ok)
	ended := 0
	for i := range 500 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%100)*5*time.Microsecond)
		if a.Do(ctx, func(c *client.Conn) error { return c.Ping() }) != nil {
			ended++
		}
		cancel()
		if i%10 == 9 {
			if err := a.Do(t.Context(), func(c *client.Conn) error { return c.Ping() }); err != nil {
				t.Fatalf("after %d: %v", i, err)
			}
		}
	}
	if ended == 0 {
		t.Error("no context ended in time: nothing is proven")
	}
}

// The connection is kept from one Do to the next, and closed after an error, a
// panic, and the end of the context.
func TestConnectionIsKept(t *testing.T) {
	connections := 0
	a := peer(t, func(nc net.Conn) {
		connections++
		ok(nc)
	})
	ping := func(c *client.Conn) error { return c.Ping() }
	for range 3 {
		if err := a.Do(t.Context(), ping); err != nil {
			t.Fatal(err)
		}
	}
	if connections != 1 {
		t.Fatalf("%d connections, want one", connections)
	}
	wrong := errors.New("wrong")
	if err := a.Do(t.Context(), func(*client.Conn) error { return wrong }); !errors.Is(err, wrong) || a.Connected() {
		t.Fatalf("%v, connected %v", err, a.Connected())
	}
	if err := a.Do(t.Context(), func(*client.Conn) error { panic("odd") }); err == nil || a.Connected() {
		t.Fatalf("%v, connected %v", err, a.Connected())
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := a.Do(ctx, func(c *client.Conn) error {
		cancel()
		<-ctx.Done()
		for c.Ping() == nil { // until the deadline that the end of ctx sets
		}
		return ctx.Err()
	})
	if err == nil || a.Connected() {
		t.Fatalf("%v, connected %v", err, a.Connected())
	}
	if err := a.Do(t.Context(), ping); err != nil {
		t.Fatalf("after all that: %v", err)
	}
}
