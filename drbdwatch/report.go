package drbdwatch

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"
)

// Report is one line of an agent's stream: what a node says of itself. It
// carries no time of day, so that clocks may jump: Age and Echo tell how old it
// is.
type Report struct {
	Node    string        `json:"node"`              // as in the proxy's configuration
	Boot    string        `json:"boot"`              // the kernel's boot id
	Start   string        `json:"start"`             // differs with each start of the agent
	Seq     uint64        `json:"seq"`               // rises within a start
	Echo    uint64        `json:"echo"`              // number of the last Ping that was read before
	Age     time.Duration `json:"age_ns"`            // of the state, when this was written
	Samples uint64        `json:"samples,omitempty"` // of DRBD since the report before
	Source  string        `json:"source"`

	State    *State    `json:"state,omitempty"`
	Err      string    `json:"error,omitempty"` // why there is no state
	Mount    *Mount    `json:"mount,omitempty"`
	Database *Database `json:"database,omitempty"`
	Leaving  bool      `json:"leaving,omitempty"` // the cluster manager is about to demote this node
	Fences   []Fence   `json:"fences,omitempty"`
}

// Mount is where the data directory lies.
type Mount struct {
	DataDir string `json:"datadir"`
	Point   string `json:"point,omitempty"`
	Device  string `json:"device,omitempty"` // MAJOR:MINOR
	Minors  []int  `json:"minors,omitempty"` // of DRBD devices under it; none: it is not on DRBD
	Err     string `json:"error,omitempty"`
}

// Database is what the node's own mysqld says of itself.
type Database struct {
	Hostname string `json:"hostname"`
	ServerID uint64 `json:"server_id"`
	UUID     string `json:"uuid,omitempty"` // MySQL's server_uuid
	ReadOnly bool   `json:"read_only"`
	DataDir  string `json:"datadir"`
	OnDRBD   bool   `json:"on_drbd"` // the data directory lies on a DRBD device
	Err      string `json:"error,omitempty"`
}

// Fence is confirmed evidence that a node is off, from a fencing agent or an
// operator by signalbox notify.
type Fence struct {
	Node string `json:"node"`
	ID   string `json:"id"`             // differs with each notice
	Boot string `json:"boot,omitempty"` // the boot of the node that was ended, where it is known
}

// Ping is one line that a proxy sends to an agent.
type Ping struct {
	Number uint64 `json:"ping"`
	Using  bool   `json:"using"` // the proxy has connections that may write to the node
	// Void are fences whose nodes this proxy has seen alive since.
	Void []string `json:"void,omitempty"`
}

// Bounds of what is read from an agent.
const (
	MaxLine     = 256 << 10 // bytes
	maxDevices  = 1024
	maxFences   = 64
	maxNodeName = 256 // bytes
)

// ParseReport reads one line of an agent's stream. What it returns can be
// judged: its words are DRBD's.
func ParseReport(line []byte) (*Report, error) {
	if len(line) > MaxLine {
		return nil, fmt.Errorf("agent's report has %d bytes, %d are allowed", len(line), MaxLine)
	}
	r := new(Report)
	if err := json.Unmarshal(line, r); err != nil {
		return nil, fmt.Errorf("agent's report: %w", err)
	}
	switch {
	case r.Node == "" || len(r.Node) > maxNodeName || r.Boot == "" || r.Start == "" || r.Seq == 0:
		return nil, errors.New("agent's report lacks node, boot, start or seq")
	case r.Age < 0:
		return nil, errors.New("agent's report has a negative age")
	case (r.State == nil) == (r.Err == ""):
		return nil, errors.New("agent's report has neither a state nor an error, or both")
	case len(r.Fences) > maxFences:
		return nil, fmt.Errorf("agent's report fences %d nodes", len(r.Fences))
	case r.State != nil:
		if err := r.State.check(); err != nil {
			return nil, fmt.Errorf("agent's report: %w", err)
		}
	}
	return r, nil
}

// check tells whether every word of s is one of DRBD's.
func (s *State) check() error {
	if len(s.Devices) > maxDevices {
		return fmt.Errorf("%d devices", len(s.Devices))
	}
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.Minor < 0 {
			return fmt.Errorf("minor %d", d.Minor)
		}
		if d.Configured && (!connectionStates[d.CS] || !roles[d.Role] || !roles[d.PeerRole] || !diskStates[d.Disk] || !diskStates[d.PeerDisk] || d.Quorum > QuorumNo) {
			return fmt.Errorf("minor %d: %q, %q/%q, %q/%q is no state of DRBD", d.Minor, clip(d.CS), clip(d.Role), clip(d.PeerRole), clip(d.Disk), clip(d.PeerDisk))
		}
	}
	return nil
}

// sameReport tells whether r says what f knows already. The caller holds f.mu.
func sameReport(f *feed, r *Report) bool {
	return f.sample.Err == r.Err && f.leaving == r.Leaving && f.boot == r.Boot && sameButProgress(f.sample.State, r.State) &&
		reflect.DeepEqual(f.database, r.Database) && reflect.DeepEqual(f.fences, r.Fences)
}
