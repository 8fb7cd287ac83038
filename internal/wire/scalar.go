package wire

import "fmt"

// Scalar reads the answer to a query for one value: a result set of one row
// with one column, or an error. It is for questions of the proxy's own; what
// clients ask is never read.
//
//	a.Reset()
//	for !done { used, done, err = a.Scan(b) … }
type Scalar struct {
	DeprecateEOF bool // the server's side of the connection has DEPRECATE_EOF

	Value []byte // of the row, a copy; valid until the next Reset
	Null  bool   // it is NULL
	Rows  int    // how many rows there were; without one there is no value
	Code  uint16 // error number, 0 for none

	phase answerPhase
}

// Reset prepares for another answer.
func (a *Scalar) Reset() {
	*a = Scalar{DeprecateEOF: a.DeprecateEOF, Value: a.Value[:0]}
}

// Scan reads what b holds of the answer. used bytes of it have been taken; with
// done the answer is complete and what follows belongs to another. Otherwise
// keep b[used:] and call again with more after it. An error means that the
// server broke the protocol, or answered with what is no single value.
func (a *Scalar) Scan(b []byte) (used int, done bool, err error) {
	for a.phase != phaseDone {
		if len(b)-used < HeaderLen {
			return used, false, nil
		}
		n := PayloadLen(b[used:])
		if n == 0 || n == MaxPayload {
			return used, false, fmt.Errorf("answer to a question of the proxy: packet of %d bytes", n)
		}
		if len(b)-used < HeaderLen+n {
			return used, false, nil
		}
		if err := a.take(b[used+HeaderLen : used+HeaderLen+n]); err != nil {
			return used, false, err
		}
		used += HeaderLen + n
	}
	return used, true, nil
}

// take reads one packet.
func (a *Scalar) take(p []byte) error {
	if p[0] == headErr {
		r, err := ParseErr(p)
		a.Code, a.phase = r.Code, phaseDone
		return err
	}
	switch a.phase {
	case phaseFirst:
		columns, n := LenencInt(p)
		if columns != 1 || n != len(p) {
			return fmt.Errorf("answer to a question of the proxy: not one column but %q", p[:min(len(p), 9)])
		}
		a.phase = phaseColumns
	case phaseColumns:
		a.phase = phaseColumnsEOF
		if a.DeprecateEOF {
			a.phase = phaseRows
		}
	case phaseColumnsEOF:
		a.phase = phaseRows
	default:
		if a.endsRows(p) {
			a.phase = phaseDone
			return nil
		}
		return a.row(p)
	}
	return nil
}

// endsRows tells the packet after the last row from a row, see Answer.
func (a *Scalar) endsRows(p []byte) bool {
	return p[0] == headEOF && (a.DeprecateEOF || len(p) < 9)
}

func (a *Scalar) row(p []byte) error {
	a.Rows++
	a.Null = p[0] == headInfile // also the mark of NULL
	if a.Null {
		return nil
	}
	v, rest, ok := lenencString(p)
	if !ok || len(rest) > 0 {
		return fmt.Errorf("answer to a question of the proxy: row of %d bytes is no single value", len(p))
	}
	a.Value = append(a.Value[:0], v...)
	return nil
}
