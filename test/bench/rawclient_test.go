package bench

import (
	"bytes"
	"crypto/sha1"
	"crypto/subtle"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"signalbox/internal/wire"
)

// The account of all benchmarks.
const (
	benchUser     = "bench"
	benchPassword = "bench"
)

// rawClient sends one statement again and again and reads its answer, whose
// length it knows, without an allocation.
type rawClient struct {
	conn    net.Conn
	request []byte
	answer  []byte
	got     []byte
}

// dialRaw authenticates at addr by mysql_native_password. answer is what sql is
// known to bring.
func dialRaw(tb testing.TB, addr, sql string, answer cannedAnswer, deprecateEOF bool) *rawClient {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	if err := logIn(conn, deprecateEOF); err != nil {
		tb.Fatalf("log in at %s: %v", addr, err)
	}
	r := &rawClient{conn: conn, answer: answer.eof}
	if deprecateEOF {
		r.answer = answer.ok
	}
	r.request, _ = wire.AppendPacket(nil, 0, append([]byte{wire.ComQuery}, sql...))
	r.got = make([]byte, len(r.answer))
	for range 100 { // connections, caches and buffers are there after this
		r.ask(tb)
		if !bytes.Equal(r.got, r.answer) {
			tb.Fatalf("answer of %d bytes is not the server's:\n%q\n%q", len(r.got), r.got, r.answer)
		}
	}
	if err := conn.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		tb.Fatal(err)
	}
	return r
}

func (r *rawClient) ask(tb testing.TB) {
	if _, err := r.conn.Write(r.request); err != nil {
		tb.Fatal(err)
	}
	if n, err := io.ReadFull(r.conn, r.got); err != nil {
		tb.Fatalf("%v after %d of %d bytes: %q", err, n, len(r.got), r.got[:n])
	}
}

// logIn answers the server's greeting, and its wish for another salt.
func logIn(conn net.Conn, deprecateEOF bool) error {
	buf := make([]byte, 4096)
	greeting, err := readPacket(conn, buf)
	if err != nil {
		return fmt.Errorf("read the greeting: %w", err)
	}
	rest := greeting[1+bytes.IndexByte(greeting, 0)+4:] // after version and thread id
	salt := append(append([]byte(nil), rest[:8]...), rest[27:39]...)
	capability := fakeCapabilities &^ (wire.ClientFoundRows | wire.ClientSessionTrack | wire.ClientConnectAttrs | wire.ClientDeprecateEOF)
	if deprecateEOF {
		capability |= wire.ClientDeprecateEOF
	}
	p := []byte{byte(capability), byte(capability >> 8), byte(capability >> 16), byte(capability >> 24), 0, 0, 0, 1, 45}
	p = append(append(append(p, make([]byte, 23)...), benchUser...), 0)
	p = wire.AppendLenencString(p, string(scramble(salt)))
	p = append(append(append(p, "bench"...), 0), "mysql_native_password\x00"...)
	for seq := byte(1); ; seq += 2 {
		packet, _ := wire.AppendPacket(nil, seq, p)
		if _, err := conn.Write(packet); err != nil {
			return err
		}
		reply, err := readPacket(conn, buf)
		if err != nil {
			return err
		}
		switch reply[0] {
		case 0:
			return nil
		case 0xfe: // AuthSwitchRequest: plugin, salt
			salt := reply[1+bytes.IndexByte(reply[1:], 0)+1:]
			p = scramble(salt[:20])
		default:
			return fmt.Errorf("refused: %q", reply)
		}
	}
}

// scramble is mysql_native_password's proof of the password.
func scramble(salt []byte) []byte {
	once := sha1.Sum([]byte(benchPassword))
	twice := sha1.Sum(once[:])
	mixed := sha1.Sum(append(append([]byte(nil), salt...), twice[:]...))
	subtle.XORBytes(mixed[:], mixed[:], once[:])
	return mixed[:]
}
