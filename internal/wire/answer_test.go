package wire

import (
	"bytes"
	"fmt"
	"testing"
)

// capture builds an answer packet by packet.
type capture struct {
	b   []byte
	seq byte
}

func (c *capture) packet(payload ...byte) *capture {
	if c.b == nil {
		c.seq = 1
	}
	c.b, c.seq = AppendPacket(c.b, c.seq, payload)
	return c
}

var (
	okPacket   = []byte{0, 1, 5, 2, 0, 0, 0}
	endPacket  = []byte{0xfe, 0, 0, 2, 0, 0, 0}
	eofPacket  = []byte{0xfe, 0, 0, 2, 0}
	errPacket  = append([]byte{0xff, 0x7a, 4, '#'}, "42S02no such table"...)
	definition = append([]byte{3}, "def rest"...)
	row        = append([]byte{2}, "ab"...)
)

func answers() []struct {
	name      string
	kind      AnswerKind
	deprecate bool
	b         []byte
	stops     []PacketKind
} {
	more := []byte{0, 0, 0, 0x0a, 0, 0, 0}
	moreEnd := []byte{0xfe, 0, 0, 0x0a, 0, 0, 0}
	big := make([]byte, MaxPayload+10)
	return []struct {
		name      string
		kind      AnswerKind
		deprecate bool
		b         []byte
		stops     []PacketKind
	}{
		{"ok", AnswerQuery, true, new(capture).packet(okPacket...).b, []PacketKind{PacketOK}},
		{"error", AnswerQuery, true, new(capture).packet(errPacket...).b, []PacketKind{PacketErr}},
		{"set option without deprecate", AnswerQuery, false, new(capture).packet(eofPacket...).b, []PacketKind{PacketEOF}},
		{"rows", AnswerQuery, true, new(capture).packet(1).packet(definition...).packet(row...).packet(row...).packet(endPacket...).b,
			[]PacketKind{PacketColumns, PacketOK}},
		{"rows with EOF", AnswerQuery, false, new(capture).packet(2).packet(definition...).packet(definition...).packet(eofPacket...).packet(row...).packet(eofPacket...).b,
			[]PacketKind{PacketColumns, PacketEOF, PacketEOF}},
		{"no rows", AnswerQuery, true, new(capture).packet(1).packet(definition...).packet(endPacket...).b, []PacketKind{PacketColumns, PacketOK}},
		{"error after rows", AnswerQuery, true, new(capture).packet(1).packet(definition...).packet(row...).packet(errPacket...).b, []PacketKind{PacketColumns, PacketErr}},
		{"several results", AnswerQuery, true, new(capture).packet(more...).packet(1).packet(definition...).packet(row...).packet(moreEnd...).packet(okPacket...).b,
			[]PacketKind{PacketOK, PacketColumns, PacketOK, PacketOK}},
		{"a row longer than a frame", AnswerQuery, true, new(capture).packet(1).packet(definition...).packet(big...).packet(endPacket...).b, []PacketKind{PacketColumns, PacketOK}},
		{"a row of exactly a frame", AnswerQuery, false, new(capture).packet(1).packet(definition...).packet(eofPacket...).packet(big[:MaxPayload]...).packet(eofPacket...).b, []PacketKind{PacketColumns, PacketEOF, PacketEOF}},
		{"a row that begins like an end", AnswerQuery, false, new(capture).packet(1).packet(definition...).packet(eofPacket...).packet(append([]byte{0xfe}, make([]byte, 20)...)...).packet(eofPacket...).b, []PacketKind{PacketColumns, PacketEOF, PacketEOF}},
		{"prepare", AnswerPrepare, true, new(capture).packet(0, 9, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0).packet(definition...).packet(definition...).packet(definition...).b, []PacketKind{PacketPrepared}},
		{"prepare with EOF", AnswerPrepare, false, new(capture).packet(0, 9, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0).packet(definition...).packet(eofPacket...).packet(definition...).packet(eofPacket...).b, []PacketKind{PacketPrepared, PacketEOF, PacketEOF}},
		{"prepare without parameters or columns", AnswerPrepare, true, new(capture).packet(0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0).b, []PacketKind{PacketPrepared}},
		{"cursor", AnswerQuery, false, new(capture).packet(1).packet(definition...).packet(0xfe, 0, 0, 0x42, 0).b, []PacketKind{PacketColumns, PacketEOF}},
		{"cursor with deprecate", AnswerQuery, true, new(capture).packet(1).packet(definition...).packet(0xfe, 0, 0, 0x42, 0, 0, 0).b, []PacketKind{PacketColumns, PacketOK}},
		{"fetch", AnswerRows, false, new(capture).packet(row...).packet(0xfe, 0, 0, 0x82, 0).b, []PacketKind{PacketEOF}},
		{"field list", AnswerFields, false, new(capture).packet(definition...).packet(eofPacket...).b, []PacketKind{PacketEOF}},
		{"statistics", AnswerText, false, new(capture).packet([]byte("Uptime: 1")...).b, []PacketKind{PacketText}},
		{"infile", AnswerQuery, true, new(capture).packet([]byte{0xfb, 'f'}...).b, []PacketKind{PacketInfile}},
	}
}

// scan feeds b in pieces of at most step bytes and returns where it stopped.
func scan(t testing.TB, a *Answer, b []byte, step int) (stops []PacketKind, used int) {
	held := []byte{}
	for at := 0; at < len(b) || len(held) > 0; {
		take := min(step, len(b)-at)
		held = append(held, b[at:at+take]...)
		at += take
		for {
			n, size, stop, err := a.Scan(held)
			if err != nil {
				t.Fatalf("after %d bytes: %v", at, err)
			}
			used += n
			held = held[n:]
			if !stop {
				break
			}
			stops = append(stops, a.Packet)
			used += size
			held = held[size:]
		}
		if take == 0 && at == len(b) {
			break
		}
	}
	return stops, used
}

func TestAnswerFindsItsEnd(t *testing.T) {
	for _, tt := range answers() {
		for _, step := range []int{1, 3, 7, 4096, len(tt.b)} {
			if step < 4096 && len(tt.b) > 1<<20 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", tt.name, step), func(t *testing.T) {
				var a Answer
				a.DeprecateEOF = tt.deprecate
				a.Reset(tt.kind)
				stops, used := scan(t, &a, bytes.Clone(tt.b), step)
				if used != len(tt.b) || (!a.Done() && tt.name != "infile") {
					t.Fatalf("used %d of %d bytes, done %v", used, len(tt.b), a.Done())
				}
				if fmt.Sprint(stops) != fmt.Sprint(tt.stops) {
					t.Fatalf("stopped at %v, want %v", stops, tt.stops)
				}
			})
		}
	}
}

func TestAnswerLeavesWhatFollows(t *testing.T) {
	b := new(capture).packet(okPacket...).b
	b = append(b, 1, 0, 0, 1)
	var a Answer
	a.Reset(AnswerQuery)
	n, size, stop, err := a.Scan(b)
	if err != nil || !stop || n != 0 || size != len(b)-4 || !a.Done() {
		t.Fatalf("n %d size %d stop %v done %v err %v", n, size, stop, a.Done(), err)
	}
	if n, _, stop, _ := a.Scan(b[size:]); n != 0 || stop {
		t.Fatal("bytes after the answer were taken")
	}
}

func TestAnswerMovesSequenceNumbers(t *testing.T) {
	b := new(capture).packet(1).packet(definition...).packet(row...).packet(endPacket...).b
	var a Answer
	a.DeprecateEOF = true
	a.Reset(AnswerQuery)
	n, size, _, _ := a.Scan(b)
	a.SeqDelta--
	rest := b[n+size:]
	m, _, _, _ := a.Scan(rest)
	if rest[3] != 1 || rest[m+3] != 3 {
		t.Fatalf("sequence numbers %d and %d, want 1 and 3", rest[3], rest[m+3])
	}
}

func TestAnswerAllocatesNothing(t *testing.T) {
	b := new(capture).packet(1).packet(definition...).packet(row...).packet(endPacket...).b
	var a Answer
	a.DeprecateEOF = true
	if n := testing.AllocsPerRun(100, func() {
		a.Reset(AnswerQuery)
		for off := 0; !a.Done(); {
			n, size, _, err := a.Scan(b[off:])
			if err != nil {
				t.Fatal(err)
			}
			off += n + size
		}
	}); n != 0 {
		t.Fatalf("%v allocations, want 0", n)
	}
}

// FuzzAnswer checks that an answer is read alike in one piece and in small
// ones, whatever the bytes.
func FuzzAnswer(f *testing.F) {
	for _, tt := range answers() {
		if len(tt.b) < 4096 {
			f.Add(tt.b, byte(tt.kind), tt.deprecate, true)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, kind byte, deprecate, tracking bool) {
		read := func(step int) (log string) {
			a := Answer{DeprecateEOF: deprecate, Tracking: tracking}
			a.Reset(AnswerKind(kind % 5))
			held, used := []byte{}, 0
			for at := 0; at < len(b); {
				take := min(step, len(b)-at)
				held = append(held, b[at:at+take]...)
				at += take
				for {
					n, size, stop, err := a.Scan(held)
					if n+size > len(held) || n < 0 {
						t.Fatalf("took %d+%d of %d bytes", n, size, len(held))
					}
					if err != nil {
						return log + "error"
					}
					used += n + size
					held = held[n+size:]
					if !stop {
						break
					}
					log += fmt.Sprint(a.Packet, a.Result.Status, a.Result.Code, a.Ends, ";")
				}
			}
			return log + fmt.Sprint(used, a.Done())
		}
		if whole, pieces := read(len(b)+1), read(3); whole != pieces {
			t.Fatalf("in one piece %q, in pieces %q", whole, pieces)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	p := new(capture).packet(1).packet(definition...).packet(row...).packet(endPacket...).b
	var a Answer
	a.DeprecateEOF = true
	b.ReportAllocs()
	for b.Loop() {
		a.Reset(AnswerQuery)
		for off := 0; !a.Done(); {
			n, size, _, _ := a.Scan(p[off:])
			off += n + size
		}
	}
}
