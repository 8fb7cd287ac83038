package wire

// Length-encoded integers and strings (Protocol::LengthEncodedInteger).

// LenencInt reads an integer; n is how many bytes it took, 0 when b is short
// or starts with a byte that is none (0xfb is NULL, 0xff is ERR).
func LenencInt(b []byte) (v uint64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	width := 0
	switch b[0] {
	case 0xfb, 0xff:
		return 0, 0
	case 0xfc:
		width = 2
	case 0xfd:
		width = 3
	case 0xfe:
		width = 8
	default:
		return uint64(b[0]), 1
	}
	if len(b) < 1+width {
		return 0, 0
	}
	for i := width; i > 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v, 1 + width
}

// lenencString reads a string and returns it with what follows; ok is false
// when b is short.
func lenencString(b []byte) (s, rest []byte, ok bool) {
	n, w := LenencInt(b)
	if w == 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	end := w + int(n)
	return b[w:end], b[end:], true
}

// AppendLenencInt appends v.
func AppendLenencInt(b []byte, v uint64) []byte {
	switch {
	case v < 0xfb:
		return append(b, byte(v))
	case v <= 0xffff:
		return append(b, 0xfc, byte(v), byte(v>>8))
	case v <= 0xffffff:
		return append(b, 0xfd, byte(v), byte(v>>8), byte(v>>16))
	}
	b = append(b, 0xfe)
	for i := 0; i < 64; i += 8 {
		b = append(b, byte(v>>i))
	}
	return b
}

// AppendLenencString appends s with its length.
func AppendLenencString(b []byte, s string) []byte {
	return append(AppendLenencInt(b, uint64(len(s))), s...)
}
