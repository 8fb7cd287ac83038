package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"

	"signalbox/internal/wire"
)

// response is the client's half of the handshake
// (Protocol::HandshakeResponse41).
type response struct {
	capability uint32
	collation  uint8
	extended   uint32
	user       string
	proof      []byte
	schema     string
	plugin     string
	attributes string
}

var errShort = errors.New("handshake response is cut short")

// parseResponse reads a handshake response.
func parseResponse(p []byte) (*response, error) {
	if len(p) < 32 {
		return nil, errShort
	}
	r := &response{capability: binary.LittleEndian.Uint32(p), collation: p[8], extended: binary.LittleEndian.Uint32(p[28:])}
	const need = wire.ClientProtocol41 | wire.ClientSecureConnection
	if r.capability&need != need {
		return nil, errors.New("the client speaks a protocol older than 4.1")
	}
	f := fields{rest: p[32:]}
	r.user = f.terminated()
	if r.capability&clientPluginAuthLenenc != 0 {
		r.proof = f.counted()
	} else {
		r.proof = f.take(int(f.byte()))
	}
	if r.capability&wire.ClientConnectWithDB != 0 {
		r.schema = f.terminated()
	}
	r.plugin = pluginNative
	if r.capability&wire.ClientPluginAuth != 0 {
		r.plugin = f.terminated()
	}
	if r.capability&wire.ClientConnectAttrs != 0 && len(f.rest) > 0 {
		r.attributes = attributes(f.counted())
	}
	if f.short {
		return nil, errShort
	}
	return r, nil
}

// maxAttributes is how much is kept of a client's attributes, in bytes.
const maxAttributes = 256

// attributes reads connection attributes into one line; what is malformed or
// too long is left out.
func attributes(p []byte) string {
	var line []byte
	for f := (fields{rest: p}); len(f.rest) > 0; {
		name, value := f.counted(), f.counted()
		if f.short || len(line)+len(name)+len(value) > maxAttributes {
			break
		}
		if len(line) > 0 {
			line = append(line, ' ')
		}
		line = append(append(append(line, name...), '='), value...)
	}
	return string(line)
}

// fields takes a packet apart from its front. Once it was too short it stays so.
type fields struct {
	rest  []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if n < 0 || n > len(f.rest) {
		f.short, f.rest = true, nil
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) byte() byte {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

// terminated takes text up to a zero byte, or to the end where the last field
// has none.
func (f *fields) terminated() string {
	i := bytes.IndexByte(f.rest, 0)
	if i < 0 {
		return string(f.take(len(f.rest)))
	}
	text := string(f.rest[:i])
	f.take(i + 1)
	return text
}

// counted takes a length-encoded string.
func (f *fields) counted() []byte {
	v, n := wire.LenencInt(f.rest)
	if n == 0 || v > uint64(len(f.rest)) {
		return f.take(-1)
	}
	f.take(n)
	return f.take(int(v))
}
