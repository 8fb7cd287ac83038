package backend

import (
	"bytes"
	"encoding/binary"
	"net"
)

// extending reads off the handshake which capabilities both sides have, which
// the library does not tell, and adds MariaDB's extended ones to it. They lie in the last four bytes of the greeting's
// and the response's filler, and count when the bit CLIENT_MYSQL is not set
// (MariaDB knowledge base, "Connecting").
type extending struct {
	net.Conn
	wanted     uint32
	agreed     uint32 // of the extended ones
	capability uint32 // what both sides have
	greeting   []byte
	answered   bool
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
		if len(b) >= 8 {
			e.capability = capabilityOf(e.greeting) & binary.LittleEndian.Uint32(b[4:])
		}
		const filler = 4 + 28
		if e.agreed = e.wanted & extendedOf(e.greeting); e.agreed != 0 && len(b) > filler+4 {
			b = bytes.Clone(b)
			b[4] &^= 1
			binary.LittleEndian.PutUint32(b[filler:], e.agreed)
		} else {
			e.agreed = 0
		}
	}
	return e.Conn.Write(b)
}

// afterSalt is where a greeting's capabilities begin: after the version, the
// connection id and the first half of the salt. 0 when it is too short.
func afterSalt(greeting []byte) int {
	if len(greeting) < 6 {
		return 0
	}
	end := bytes.IndexByte(greeting[5:], 0)
	at := 5 + end + 1 + 4 + 8 + 1
	if end < 0 || len(greeting) < at+18 {
		return 0
	}
	return at
}

func capabilityOf(greeting []byte) uint32 {
	at := afterSalt(greeting)
	if at == 0 {
		return 0
	}
	return uint32(binary.LittleEndian.Uint16(greeting[at:])) | uint32(binary.LittleEndian.Uint16(greeting[at+5:]))<<16
}

// extendedOf reads the extended capabilities of a greeting, 0 for none.
func extendedOf(greeting []byte) uint32 {
	at := afterSalt(greeting)
	if at == 0 || greeting[at]&1 != 0 {
		return 0
	}
	return binary.LittleEndian.Uint32(greeting[at+14:])
}
