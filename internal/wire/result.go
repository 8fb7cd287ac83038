package wire

import (
	"encoding/binary"
	"fmt"
)

// Result is what an OK, EOF or ERR packet says about the statement that it
// ends. Info, State, Message and SQLState point into the packet.
type Result struct {
	Failed       bool   // it was an ERR packet
	Code         uint16 // of an ERR packet, as ER_… numbers
	SQLState     []byte // five bytes, nil when the server sent none
	Message      []byte
	AffectedRows uint64
	LastInsertID uint64
	Status       uint16 // Status… flags; of the last OK or EOF
	Warnings     uint16
	Info         []byte
	State        []byte // session tracking data, see TrackedState
}

// ParseOK reads the payload of an OK packet (first byte 0x00 or 0xfe) of a
// connection with PROTOCOL_41; tracking tells whether it has SESSION_TRACK.
func ParseOK(p []byte, tracking bool) (Result, error) {
	var r Result
	if len(p) == 0 {
		return r, fmt.Errorf("OK packet: empty")
	}
	b := p[1:]
	var n, m int
	r.AffectedRows, n = LenencInt(b)
	if n == 0 {
		return r, fmt.Errorf("OK packet: no affected rows in %d bytes", len(p))
	}
	r.LastInsertID, m = LenencInt(b[n:])
	b = b[n:]
	if m == 0 || len(b) < m+4 {
		return r, fmt.Errorf("OK packet: cut short at %d bytes", len(p))
	}
	r.Status = binary.LittleEndian.Uint16(b[m:])
	r.Warnings = binary.LittleEndian.Uint16(b[m+2:])
	b = b[m+4:]
	if !tracking || len(b) == 0 {
		r.Info = b
		return r, nil
	}
	var ok bool
	if r.Info, b, ok = lenencString(b); !ok {
		return r, fmt.Errorf("OK packet: info longer than the packet of %d bytes", len(p))
	}
	if r.Status&StatusStateChanged == 0 {
		return r, nil
	}
	if r.State, _, ok = lenencString(b); !ok {
		return r, fmt.Errorf("OK packet: session state longer than the packet of %d bytes", len(p))
	}
	return r, nil
}

// ParseEOF reads the payload of an EOF packet.
func ParseEOF(p []byte) (Result, error) {
	if len(p) < 5 {
		return Result{}, fmt.Errorf("EOF packet: %d bytes, want 5", len(p))
	}
	return Result{Warnings: binary.LittleEndian.Uint16(p[1:]), Status: binary.LittleEndian.Uint16(p[3:])}, nil
}

// ParseErr reads the payload of an ERR packet.
func ParseErr(p []byte) (Result, error) {
	r := Result{Failed: true}
	if len(p) < 3 {
		return r, fmt.Errorf("ERR packet: %d bytes, want at least 3", len(p))
	}
	r.Code = binary.LittleEndian.Uint16(p[1:])
	r.Message = p[3:]
	if len(p) >= 9 && p[3] == '#' {
		r.SQLState, r.Message = p[4:9], p[9:]
	}
	return r, nil
}

// AppendOK appends an OK packet. head is 0x00, or 0xfe
// where it ends the rows of a result set on a connection with DEPRECATE_EOF.
// tracking tells whether the reader has SESSION_TRACK: only then is r.State
// sent, and info has another form.
func AppendOK(b []byte, seq, head byte, r *Result, tracking bool) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, seq, head)
	b = AppendLenencInt(b, r.AffectedRows)
	b = AppendLenencInt(b, r.LastInsertID)
	status := r.Status &^ StatusStateChanged
	state := tracking && len(r.State) > 0
	if state {
		status |= StatusStateChanged
	}
	b = binary.LittleEndian.AppendUint16(b, status)
	b = binary.LittleEndian.AppendUint16(b, r.Warnings)
	if tracking && (len(r.Info) > 0 || state) {
		b = AppendLenencInt(b, uint64(len(r.Info)))
	}
	b = append(b, r.Info...)
	if state {
		b = append(AppendLenencInt(b, uint64(len(r.State))), r.State...)
	}
	PutHeader(b[start:], len(b)-start-HeaderLen, seq)
	return b
}

// AppendEOF appends an EOF packet.
func AppendEOF(b []byte, seq byte, warnings, status uint16) []byte {
	b = append(b, 5, 0, 0, seq, headEOF)
	b = binary.LittleEndian.AppendUint16(b, warnings)
	return binary.LittleEndian.AppendUint16(b, status&^StatusStateChanged)
}

// AppendErr appends an ERR packet; sqlState has five characters.
func AppendErr(b []byte, seq byte, code uint16, sqlState, message string) []byte {
	message = message[:min(len(message), 4096)]
	n := 9 + len(message)
	b = append(b, byte(n), byte(n>>8), byte(n>>16), seq, headErr, byte(code), byte(code>>8), '#')
	b = append(b, sqlState...)
	return append(b, message...)
}
