package bench

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"signalbox/internal/wire"
)

// fakeServer speaks just enough of the protocol to stand behind the proxy: it
// lets everybody in and answers statements with canned bytes, without an
// allocation a statement, so that a benchmark's allocations are the proxy's.
type fakeServer struct {
	listener net.Listener
	answers  []cannedAnswer
	wait     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

// cannedAnswer is what the server says to a COM_QUERY whose text begins so. The
// first that fits counts.
type cannedAnswer struct {
	begins string
	eof    []byte // for clients that want EOF packets
	ok     []byte // for clients of CLIENT_DEPRECATE_EOF
}

const fakeCapabilities = wire.ClientLongPassword | wire.ClientFoundRows | wire.ClientLongFlag | wire.ClientConnectWithDB |
	wire.ClientLocalFiles | wire.ClientIgnoreSpace | wire.ClientProtocol41 | wire.ClientInteractive | wire.ClientTransactions |
	wire.ClientSecureConnection | wire.ClientMultiStatements | wire.ClientMultiResults | wire.ClientPSMultiResults |
	wire.ClientPluginAuth | wire.ClientConnectAttrs | wire.ClientSessionTrack | wire.ClientDeprecateEOF

// startFake serves on a loopback port until the test ends.
func startFake(tb testing.TB, answers ...cannedAnswer) *fakeServer {
	tb.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &fakeServer{listener: l, answers: answers}
	s.wait.Go(s.accept)
	tb.Cleanup(s.close)
	return s
}

func (s *fakeServer) addr() string { return s.listener.Addr().String() }

func (s *fakeServer) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		s.wait.Go(func() {
			_ = s.serve(c)
			_ = c.Close()
		})
	}
}

func (s *fakeServer) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wait.Wait()
}

var okPacket = []byte{7, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0}

func (s *fakeServer) serve(c net.Conn) error {
	greeting, _ := wire.AppendPacket(nil, 0, fakeGreeting())
	if _, err := c.Write(greeting); err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	reply, err := readPacket(c, buf)
	if err != nil {
		return err
	}
	deprecateEOF := uint32(reply[3])<<24&wire.ClientDeprecateEOF != 0
	if _, err := c.Write([]byte{7, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0}); err != nil {
		return err
	}
	for {
		command, err := readPacket(c, buf)
		if err != nil {
			return err
		}
		if command[0] == wire.ComQuit {
			return nil
		}
		if _, err := c.Write(s.answer(command, deprecateEOF)); err != nil {
			return err
		}
	}
}

func (s *fakeServer) answer(command []byte, deprecateEOF bool) []byte {
	if command[0] != wire.ComQuery {
		return okPacket
	}
	text := command[1:]
	for i := range s.answers {
		a := &s.answers[i]
		if len(text) >= len(a.begins) && string(text[:len(a.begins)]) == a.begins {
			if deprecateEOF {
				return a.ok
			}
			return a.eof
		}
	}
	return okPacket
}

// readPacket reads one packet, at most as long as buf, and returns its payload.
func readPacket(c net.Conn, buf []byte) ([]byte, error) {
	n := 0
	for {
		m, err := c.Read(buf[n:])
		if err != nil {
			return nil, err
		}
		n += m
		if n < wire.HeaderLen {
			continue
		}
		if size := wire.HeaderLen + wire.PayloadLen(buf); n >= size {
			if n > size || size == wire.HeaderLen {
				return nil, errors.New("the fake server takes one non-empty packet at a time")
			}
			return buf[wire.HeaderLen:size], nil
		}
		if n == len(buf) {
			return nil, io.ErrShortBuffer
		}
	}
}

// fakeGreeting is a HandshakeV10 of a MariaDB with mysql_native_password.
func fakeGreeting() []byte {
	var b bytes.Buffer
	b.WriteByte(10)
	b.WriteString("5.5.5-10.11.0-MariaDB-fake\x00")
	b.Write([]byte{1, 0, 0, 0}) // thread id
	b.WriteString("saltsalt\x00")
	b.Write([]byte{byte(fakeCapabilities & 0xff), byte(fakeCapabilities >> 8 & 0xff), 45, 2, 0})
	b.Write([]byte{byte(fakeCapabilities >> 16 & 0xff), byte(fakeCapabilities >> 24 & 0xff), 21})
	b.Write(make([]byte, 10))
	b.WriteString("saltsaltsalt\x00mysql_native_password\x00")
	return b.Bytes()
}

// table makes the answer of a SELECT: text columns, rows of text.
func table(begins string, columns []string, rows ...[]string) cannedAnswer {
	return cannedAnswer{begins: begins, eof: resultSet(columns, rows, false), ok: resultSet(columns, rows, true)}
}

func resultSet(columns []string, rows [][]string, deprecateEOF bool) []byte {
	out, seq := wire.AppendPacket(nil, 1, []byte{byte(len(columns))})
	add := func(payload []byte) { out, seq = wire.AppendPacket(out, seq, payload) }
	for _, name := range columns {
		p := wire.AppendLenencString(nil, "def")
		for _, part := range []string{"bench", "t", "t", name, name} {
			p = wire.AppendLenencString(p, part)
		}
		add(append(p, 12, 45, 0, 0, 1, 0, 0, 0xfd, 0, 0, 0, 0, 0))
	}
	end := []byte{0xfe, 0, 0, 2, 0}
	if !deprecateEOF {
		add(end)
	}
	for _, row := range rows {
		var p []byte
		for _, v := range row {
			p = wire.AppendLenencString(p, v)
		}
		add(p)
	}
	if deprecateEOF {
		end = []byte{0xfe, 0, 0, 2, 0, 0, 0}
	}
	add(end)
	return out
}
