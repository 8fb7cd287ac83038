package backend

import (
	"bytes"
	"encoding/binary"
	"net"
)

// extending adds MariaDB's extended capabilities to the library's handshake,
// which does not know them: they lie in the last four bytes of the greeting's
// and the response's filler, and count when the bit CLIENT_MYSQL is not set
// (MariaDB knowledge base, "Connecting").
type extending struct {
	net.Conn
	wanted   uint32
	agreed   uint32
	greeting []byte
	answered bool
}

// Read keeps the greeting, which is shorter than a kilobyte.
func (e *extending) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	if !e.answered && len(e.greeting) < 1024 {
		e.greeting = append(e.greeting, b[:n]...)
	}
	return n, err
}

// Write patches the first packet, the handshake response.
func (e *extending) Write(b []byte) (int, error) {
	if !e.answered {
		e.answered = true
		const filler = 4 + 28
		if e.agreed = e.wanted & extendedOf(e.greeting); e.agreed != 0 && len(b) > filler+4 {
			b[4] &^= 1
			binary.LittleEndian.PutUint32(b[filler:], e.agreed)
		} else {
			e.agreed = 0
		}
	}
	return e.Conn.Write(b)
}

// extendedOf reads the extended capabilities of a greeting, 0 for none.
func extendedOf(greeting []byte) uint32 {
	if len(greeting) < 6 {
		return 0
	}
	end := bytes.IndexByte(greeting[5:], 0)
	at := 5 + end + 1 + 4 + 8 + 1 // after the version, the connection id and the first half of the salt
	if end < 0 || len(greeting) < at+18 || greeting[at]&1 != 0 {
		return 0
	}
	return binary.LittleEndian.Uint32(greeting[at+14:])
}
