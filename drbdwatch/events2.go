package drbdwatch

import (
	"fmt"
	"strconv"
	"strings"
)

// event is one line of drbdsetup events2 (drbd-utils, drbdsetup(8)).
type event struct {
	verb, object string // exists, create, change, destroy, …; resource, device, …
	name         string // of the resource
	values       map[string]string
}

// parseEvent reads a line, with or without a time stamp before it. ok is false
// for a line that says nothing about the state, such as a call of a helper.
func parseEvent(line string) (e event, ok bool, err error) {
	fields := strings.Fields(line)
	if len(fields) > 0 && strings.Contains(fields[0], "T") && strings.Contains(fields[0], ":") {
		fields = fields[1:]
	}
	if len(fields) < 2 {
		return e, false, fmt.Errorf("events2: %q is not an event", clip(line))
	}
	e.verb, e.object = fields[0], fields[1]
	switch e.verb {
	case "exists", "create", "change", "destroy", "rename":
	case "call", "response":
		return e, false, nil
	default:
		return e, false, fmt.Errorf("events2: unknown event %q", clip(line))
	}
	e.values = make(map[string]string, len(fields))
	for _, f := range fields[2:] {
		key, value, found := strings.Cut(f, ":")
		if !found {
			return e, false, fmt.Errorf("events2: %q in %q is not key:value", clip(f), clip(line))
		}
		e.values[key] = value
	}
	e.name = e.values["name"]
	switch e.object {
	case "-":
		return e, true, nil
	case "resource", "device", "connection", "peer-device":
		if e.name == "" {
			return e, false, fmt.Errorf("events2: %q names no resource", clip(line))
		}
		return e, true, nil
	}
	return e, false, nil // path, helper, and what versions to come add
}

// apply brings an event into the model.
func (m model) apply(e *event) error {
	if e.object == "-" {
		return nil
	}
	if e.verb == "rename" {
		if r, to := m[e.name], e.values["new_name"]; r != nil && to != "" {
			delete(m, e.name)
			m[to] = r
		}
		return nil
	}
	if e.verb == "destroy" && e.object == "resource" {
		delete(m, e.name)
		return nil
	}
	r := m.resource(e.name)
	switch e.object {
	case "resource":
		e.word("role", &r.role)
		if s, ok := e.values["suspended"]; ok {
			if r.suspended = s; s == "no" {
				r.suspended = ""
			}
		}
		if s, ok := e.values["force-io-failures"]; ok {
			r.forced = s == "yes"
		}
	case "device":
		return e.device(r)
	case "connection":
		if e.verb == "destroy" {
			delete(r.peers, e.peer())
			return nil
		}
		p := r.peer(e.peer())
		e.word("connection", &p.connection)
		e.word("role", &p.role)
	case "peer-device":
		n, err := e.number("volume")
		if err != nil {
			return err
		}
		if e.verb == "destroy" {
			if p := r.peers[e.peer()]; p != nil {
				delete(p.volumes, n)
			}
			return nil
		}
		v := r.peer(e.peer()).volume(n)
		e.word("replication", &v.replication)
		e.word("peer-disk", &v.disk)
	}
	return nil
}

func (e *event) device(r *resource) error {
	n, err := e.number("volume")
	if err != nil {
		return err
	}
	if e.verb == "destroy" {
		delete(r.volumes, n)
		return nil
	}
	v := r.volume(n)
	if _, ok := e.values["minor"]; ok {
		if v.minor, err = e.number("minor"); err != nil {
			return err
		}
	}
	e.word("disk", &v.disk)
	switch e.values["quorum"] {
	case "yes":
		v.quorum = QuorumYes
	case "no":
		v.quorum = QuorumNo
	}
	return nil
}

// peer is the key of a connection: DRBD 9 names it, and its node id may be all
// that some lines carry.
func (e *event) peer() string {
	if name := e.values["conn-name"]; name != "" {
		return name
	}
	return e.values["peer-node-id"]
}

func (e *event) word(key string, to *string) {
	if v, ok := e.values[key]; ok {
		*to = v
	}
}

func (e *event) number(key string) (int, error) {
	n, err := strconv.Atoi(e.values[key])
	if err != nil || n < 0 || n > 1<<20 {
		return 0, fmt.Errorf("events2: %s:%s of %s %s is not a number", key, clip(e.values[key]), e.object, clip(e.name))
	}
	return n, nil
}
