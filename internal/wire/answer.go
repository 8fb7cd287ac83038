package wire

import (
	"encoding/binary"
	"fmt"
)

// AnswerKind is the grammar of a command's answer.
type AnswerKind uint8

// The grammars.
const (
	// AnswerQuery is OK, ERR, LOCAL INFILE, or result sets: COM_QUERY,
	// COM_STMT_EXECUTE and every command that only gets OK, EOF or ERR.
	AnswerQuery AnswerKind = iota
	// AnswerPrepare is that of COM_STMT_PREPARE.
	AnswerPrepare
	// AnswerRows is rows up to their end: COM_STMT_FETCH.
	AnswerRows
	// AnswerFields is column definitions up to their end: COM_FIELD_LIST.
	AnswerFields
	// AnswerText is one packet of text: COM_STATISTICS.
	AnswerText
)

// PacketKind is what a packet that Answer stops at is.
type PacketKind uint8

// The packets that matter to a relay.
const (
	PacketOK       PacketKind = iota + 1 // Result is set
	PacketEOF                            // Result is set; ends rows, or columns without DEPRECATE_EOF
	PacketErr                            // Result is set
	PacketInfile                         // the server asks for a local file
	PacketColumns                        // the number of columns: a result set begins
	PacketPrepared                       // COM_STMT_PREPARE's OK; the statement id is at payload[1:5]
	PacketText                           // AnswerText's packet
	// PacketColumnsEnd is no packet: the column definitions are complete and
	// the server, having DEPRECATE_EOF, sent no EOF after them.
	PacketColumnsEnd
)

type answerPhase uint8

const (
	phaseFirst answerPhase = iota
	phaseColumns
	phaseColumnsEOF
	phaseRows
	phaseParams
	phaseParamsEOF
	phaseFields
	phaseDone
)

// Answer finds the packets of one command's answer in a stream of bytes. Rows
// and column definitions are passed by length alone; the few packets that carry
// meaning are handed out one by one. It keeps no reference to the bytes.
type Answer struct {
	Kind         AnswerKind
	DeprecateEOF bool // the server's side of the connection has DEPRECATE_EOF
	Tracking     bool // and SESSION_TRACK
	SeqDelta     byte // added to the sequence number of every packet passed

	// Set by Scan when it stops at a packet.
	Packet    PacketKind
	Result    Result
	Seq       byte   // sequence number of the packet, before SeqDelta
	Ends      bool   // the result set or the command ended with it
	Delivered uint64 // rows and column definitions passed so far, in frames

	phase   answerPhase
	left    int  // column definitions to come
	columns int  // of a prepared statement, after its parameters
	skip    int  // payload bytes of the current frame still to pass
	cont    bool // the current frame is continued by the next
}

// Reset prepares for another answer on the same connection.
func (a *Answer) Reset(kind AnswerKind) {
	*a = Answer{Kind: kind, DeprecateEOF: a.DeprecateEOF, Tracking: a.Tracking}
	switch kind {
	case AnswerRows:
		a.phase = phaseRows
	case AnswerFields:
		a.phase = phaseFields
	}
}

// Done reports whether the whole answer has been seen.
func (a *Answer) Done() bool { return a.phase == phaseDone && a.skip == 0 && !a.cont }

// Started reports whether any packet of the answer has been seen.
func (a *Answer) Started() bool { return a.Packet != 0 || a.Delivered > 0 || a.skip > 0 }

// Resume goes on after a LOCAL INFILE exchange: the server's verdict follows.
func (a *Answer) Resume() { a.phase = phaseFirst }

// Scan looks at b, the bytes that follow those of the call before. The first n
// bytes may be passed on as they are. With stop set, a packet that matters (see
// Packet) is complete at b[n:n+size], and the next call begins after it.
// Without, more bytes are needed: keep b[n:] and call again with more after it.
// An error means that the server broke the protocol; the connection is lost.
func (a *Answer) Scan(b []byte) (n, size int, stop bool, err error) {
	for {
		if a.skip > 0 {
			k := min(a.skip, len(b)-n)
			a.skip -= k
			n += k
			if a.skip > 0 {
				return n, 0, false, nil
			}
		}
		if a.phase == phaseDone || len(b)-n < HeaderLen {
			return n, 0, false, nil
		}
		length := PayloadLen(b[n:])
		if a.cont || a.passes(b[n+HeaderLen:min(len(b), n+HeaderLen+length)], length) {
			if !a.cont && length > 0 && len(b)-n < HeaderLen+1 {
				return n, 0, false, nil
			}
			a.pass(b[n:], length)
			n += HeaderLen
			continue
		}
		if len(b)-n < HeaderLen+length {
			return n, 0, false, nil
		}
		a.Seq = b[n+3]
		b[n+3] += a.SeqDelta
		if err := a.take(b[n+HeaderLen : n+HeaderLen+length]); err != nil {
			return n, 0, false, err
		}
		return n, HeaderLen + length, true, nil
	}
}

// passes tells whether a frame is a row or a definition. p is what is there of
// its payload; with nothing there the answer may change, and Scan waits.
func (a *Answer) passes(p []byte, length int) bool {
	switch a.phase {
	case phaseColumns, phaseParams:
		return !(len(p) > 0 && p[0] == headErr)
	case phaseRows, phaseFields:
		return len(p) == 0 || !a.endsRows(p[0], length)
	}
	return false
}

// endsRows tells an EOF, OK or ERR from a row: a row that begins with 0xfe is
// longer than a frame, because 0xfe announces a value of 16 MiB or more.
func (a *Answer) endsRows(first byte, length int) bool {
	if first == headErr {
		return true
	}
	if first != headEOF {
		return false
	}
	if a.DeprecateEOF {
		return length < MaxPayload
	}
	return length < 9
}

func (a *Answer) pass(header []byte, length int) {
	header[3] += a.SeqDelta
	starts := !a.cont
	a.skip = length
	a.cont = length == MaxPayload
	a.Delivered++
	if starts && (a.phase == phaseColumns || a.phase == phaseParams) {
		a.left--
	}
	if a.left == 0 && !a.cont {
		a.definitionsEnd()
	}
}

// definitionsEnd moves on after the last definition of a group.
func (a *Answer) definitionsEnd() {
	switch a.phase {
	case phaseColumns:
		if !a.DeprecateEOF {
			a.phase = phaseColumnsEOF
			return
		}
		a.phase = phaseRows
		if a.Kind == AnswerPrepare {
			a.phase = phaseDone
		}
	case phaseParams:
		if !a.DeprecateEOF {
			a.phase = phaseParamsEOF
			return
		}
		a.columnsOfPrepared()
	}
}

func (a *Answer) columnsOfPrepared() {
	a.left, a.phase = a.columns, phaseColumns
	if a.columns == 0 {
		a.phase = phaseDone
	}
}

// take reads a packet that matters and moves on.
func (a *Answer) take(p []byte) error {
	a.Ends = false
	a.Result = Result{}
	if a.Kind == AnswerText {
		a.Packet, a.phase, a.Ends = PacketText, phaseDone, true
		return nil
	}
	if len(p) == 0 {
		return fmt.Errorf("answer: empty packet %d", a.Seq)
	}
	if p[0] == headErr {
		return a.takeErr(p)
	}
	switch a.phase {
	case phaseFirst:
		return a.takeFirst(p)
	case phaseColumnsEOF, phaseParamsEOF:
		return a.takeDefinitionsEOF(p)
	}
	return a.takeEnd(p)
}

func (a *Answer) takeErr(p []byte) (err error) {
	a.Packet, a.phase, a.Ends = PacketErr, phaseDone, true
	a.Result, err = ParseErr(p)
	return err
}

func (a *Answer) takeFirst(p []byte) error {
	switch {
	case p[0] == headOK && a.Kind == AnswerPrepare:
		return a.takePrepared(p)
	case p[0] == headOK, p[0] == headEOF:
		return a.takeEnd(p)
	case p[0] == headInfile:
		a.Packet, a.phase = PacketInfile, phaseDone
		return nil
	}
	columns, n := LenencInt(p)
	if n == 0 || columns == 0 || columns > 65535 {
		return fmt.Errorf("answer: first byte %#x is neither OK, ERR nor a number of columns", p[0])
	}
	a.Packet, a.left, a.phase = PacketColumns, int(columns), phaseColumns
	return nil
}

func (a *Answer) takePrepared(p []byte) error {
	if len(p) < 12 {
		return fmt.Errorf("answer: prepared statement's OK has %d bytes, want 12", len(p))
	}
	a.Packet = PacketPrepared
	a.Result.Warnings = binary.LittleEndian.Uint16(p[10:])
	a.columns = int(binary.LittleEndian.Uint16(p[5:]))
	a.left = int(binary.LittleEndian.Uint16(p[7:]))
	a.phase = phaseParams
	if a.left == 0 {
		a.columnsOfPrepared()
	}
	return nil
}

// takeDefinitionsEOF ends the definitions of a server without DEPRECATE_EOF.
// With a cursor open no rows follow: COM_STMT_FETCH gets them.
func (a *Answer) takeDefinitionsEOF(p []byte) (err error) {
	a.Packet = PacketEOF
	if a.Result, err = ParseEOF(p); err != nil {
		return err
	}
	switch {
	case a.phase == phaseParamsEOF:
		a.columnsOfPrepared()
	case a.Kind == AnswerPrepare:
		a.phase = phaseDone
	case a.Result.Status&StatusCursorExists != 0:
		a.end()
	default:
		a.phase = phaseRows
	}
	return nil
}

// takeEnd reads the OK or EOF that ends a result set or a command.
func (a *Answer) takeEnd(p []byte) (err error) {
	if p[0] == headEOF && len(p) < 6 {
		a.Packet = PacketEOF
		a.Result, err = ParseEOF(p)
	} else {
		a.Packet = PacketOK
		a.Result, err = ParseOK(p, a.Tracking)
	}
	a.end()
	return err
}

func (a *Answer) end() {
	a.Ends = true
	a.phase = phaseDone
	if a.Result.Status&StatusMoreResults != 0 {
		a.phase = phaseFirst
	}
}
