package wire

// TrackKind is the kind of one entry of session tracking
// (enum_session_state_type in mysql_com.h, the same numbers in MariaDB).
type TrackKind byte

// The kinds of session tracking.
const (
	TrackVariable         TrackKind = 0 // a system variable: name and value
	TrackSchema           TrackKind = 1 // the default schema
	TrackStateChange      TrackKind = 2 // something changed: "1"
	TrackGTIDs            TrackKind = 3 // GTIDs of the statement (MySQL)
	TrackCharacteristics  TrackKind = 4 // statements that restart the transaction
	TrackTransactionState TrackKind = 5 // eight letters
)

// TrackedState walks session tracking data, the State of an OK packet.
//
//	t := TrackedState(r.State)
//	for t.Next(&entry) { … }
type TrackedState []byte

// Tracked is one entry; its fields point into the packet. Name is set for
// variables only.
type Tracked struct {
	Kind        TrackKind
	Name, Value []byte
	more        []byte // further name and value pairs of a variable entry
}

// Next fills e with the next entry. It returns false at the end, and at data
// that is cut short, which ends the walk.
func (t *TrackedState) Next(e *Tracked) bool {
	if len(e.more) > 0 {
		if e.pair(e.more) {
			return true
		}
		e.more = nil
	}
	for len(*t) > 0 {
		kind := TrackKind((*t)[0])
		data, rest, ok := lenencString((*t)[1:])
		if !ok {
			*t = nil
			return false
		}
		*t = rest
		*e = Tracked{Kind: kind}
		if e.fill(data) {
			return true
		}
	}
	return false
}

func (e *Tracked) fill(data []byte) bool {
	switch e.Kind {
	case TrackVariable:
		return e.pair(data)
	case TrackGTIDs:
		if len(data) == 0 {
			return false
		}
		data = data[1:] // the encoding specification, always 0
	}
	var ok bool
	e.Value, _, ok = lenencString(data)
	return ok
}

// pair reads one name and value; MariaDB puts several into one entry.
func (e *Tracked) pair(data []byte) bool {
	var ok bool
	if e.Name, data, ok = lenencString(data); !ok {
		return false
	}
	e.Value, e.more, ok = lenencString(data)
	return ok
}
