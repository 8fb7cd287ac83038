package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

// pair returns the two ends of a TCP connection on loopback.
func pair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestExchange(t *testing.T) {
	for _, size := range []int{10, 8 << 20} {
		a, b := pair(t)
		go func() {
			if _, err := io.ReadFull(b, make([]byte, size)); err == nil {
				_, _ = b.Write([]byte("answer"))
			}
		}()
		var buf [64]byte
		n, err := NewSocket(a).Exchange(bytes.Repeat([]byte{'x'}, size), buf[:])
		if err != nil || string(buf[:n]) != "answer" {
			t.Fatalf("request of %d bytes: %q, %v", size, buf[:n], err)
		}
	}
}

func TestExchangeEndsWhenClosed(t *testing.T) {
	a, _ := pair(t)
	s := NewSocket(a)
	ended := make(chan error, 1)
	go func() {
		var buf [64]byte
		_, err := s.Exchange([]byte("x"), buf[:])
		ended <- err
	}()
	a.Close()
	if err := <-ended; err == nil {
		t.Fatal("no error")
	}
}

// TestServeMissesNothing sends commands that overlap the answers: no edge of
// the poller may be lost.
func TestServeMissesNothing(t *testing.T) {
	a, b := pair(t)
	const commands = 20000
	go func() {
		for range commands {
			if _, err := b.Write([]byte{1}); err != nil {
				return
			}
		}
	}()
	answered := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(b, make([]byte, commands))
		answered <- err
		b.Close()
	}()
	s := NewSocket(a)
	var buf [8]byte
	var end error
	err := s.Serve(func() bool {
		for {
			n, err := s.TryRead(buf[:])
			if err == ErrEmpty {
				return false
			}
			if err == nil {
				err = s.Write(buf[:n])
			}
			if err != nil {
				end = err
				return true
			}
			if n < len(buf) {
				return false
			}
		}
	})
	if err != nil || !errors.Is(end, io.EOF) {
		t.Fatalf("serve: %v, ended with %v", err, end)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
}

func TestStaleAndHungup(t *testing.T) {
	a, b := pair(t)
	s := NewSocket(a)
	if s.Stale() || s.Hungup() {
		t.Fatal("a fresh connection is stale")
	}
	_, _ = b.Write([]byte("unasked"))
	for !s.Stale() {
	}
	if s.Hungup() {
		t.Fatal("unread bytes count as hung up")
	}
	c, d := pair(t)
	d.Close()
	for !NewSocket(c).Hungup() {
	}
}
