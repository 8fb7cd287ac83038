package proxy

import (
	"bytes"
	"testing"

	"signalbox/internal/wire"
)

// execution is COM_STMT_EXECUTE of one parameter.
func execution(types []byte, value ...byte) []byte {
	p := []byte{wire.ComStmtExecute, 9, 0, 0, 0, 0, 1, 0, 0, 0, 0}
	if types != nil {
		p = append(append(p, 1), types...)
	} else {
		p = append(p, 0)
	}
	b, _ := wire.AppendPacket(nil, 0, append(p, value...))
	return b
}

// Drivers send parameter types with the first execution only. A server that has
// not seen them gets them put in.
func TestTypesFollowTheStatement(t *testing.T) {
	s, st := new(session), &statement{params: 1}
	first, second := new(preparedHere), new(preparedHere)
	typed := execution([]byte{8, 0}, 1, 2, 3, 4, 5, 6, 7, 8)
	if got := s.withTypes(first, st, typed); !bytes.Equal(got, typed) || !first.typesSent {
		t.Fatalf("typed execution changed: %x", got)
	}
	bare := execution(nil, 8, 7, 6, 5, 4, 3, 2, 1)
	if got := s.withTypes(first, st, bare); !bytes.Equal(got, bare) {
		t.Fatalf("a server that has the types got %x", got)
	}
	want := execution([]byte{8, 0}, 8, 7, 6, 5, 4, 3, 2, 1)
	if got := s.withTypes(second, st, bare); !bytes.Equal(got, want) {
		t.Fatalf("a new server got %x, want %x", got, want)
	}
	if got := s.withTypes(second, st, bare); !bytes.Equal(got, bare) {
		t.Fatalf("types were sent twice: %x", got)
	}
}
