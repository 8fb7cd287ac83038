package proxy

import (
	"bytes"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"strings"

	"signalbox/backend"
)

// A token is a session's position as SHOW SIGNALBOX POSITION gives it and the
// hint after= takes it: the position as the servers write it, a tilde, and a
// checksum of eight hexadecimal digits, because a position that was cut short is
// one that asks for less.
//
//	0-1-1234~5d2c4f10
//	3e11fa47-71ca-11e1-9e33-c80aa9429562:1-17~0ab1c2d3
//	none~…     nothing was written
//	primary~…  no replica can ever be known to have it

// The positions that are words.
const (
	tokenNone    = "none"
	tokenPrimary = "primary"
)

// maxToken bounds, in bytes, a token that is read; maxParts of how many
// replication domains or servers it may speak.
const (
	maxToken = 4096
	maxParts = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendToken appends the token of a position; onPrimary is for what no replica
// will ever have.
func appendToken(b []byte, p *backend.Position, onPrimary bool) []byte {
	begin := len(b)
	switch {
	case onPrimary:
		b = append(b, tokenPrimary...)
	case p.Empty():
		b = append(b, tokenNone...)
	default:
		b = p.Append(b)
	}
	sum := crc32.Checksum(b[begin:], castagnoli)
	return hex.AppendEncode(append(b, '~'), []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

var errToken = errors.New("it is no token of SHOW SIGNALBOX POSITION, or not the whole of it")

// parseToken reads a token. It takes exactly what appendToken writes.
func parseToken(text []byte) (p backend.Position, onPrimary bool, err error) {
	at := bytes.LastIndexByte(text, '~')
	if at < 1 || len(text) > maxToken {
		return p, false, errToken
	}
	switch body := string(text[:at]); body {
	case tokenPrimary:
		onPrimary = true
	case tokenNone:
	default:
		if strings.ContainsAny(body, "~*/ ") {
			return p, false, errToken
		}
		if p, err = backend.ParsePosition(body); err != nil {
			return backend.Position{}, false, errToken
		}
	}
	if p.Parts() > maxParts || !bytes.Equal(appendToken(nil, &p, onPrimary), text) {
		return backend.Position{}, false, errToken
	}
	return p, onPrimary, nil
}
