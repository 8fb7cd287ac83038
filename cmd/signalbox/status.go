package main

import (
	"errors"
	"fmt"
	"time"

	"signalbox/admin"
	"signalbox/backend"
)

// shownEvents is how many events the page shows; /events has more.
const shownEvents = 50

func (a *assembly) status() admin.Status {
	snapshot := a.cluster.Snapshot()
	s := admin.Status{Version: version(), Started: a.started, Authority: *a.watch.Current(), Clients: a.proxy.Clients(),
		Waiting: a.proxy.Waiting(), OwnFault: snapshot.OwnFault}
	reads, total := make(map[string]uint64), uint64(0)
	for _, r := range a.proxy.Reads() {
		s.Reads = append(s.Reads, admin.Read(r))
		reads[r.Server] += r.Count
		total += r.Count
	}
	answered := a.proxy.Answered()
	for i := range snapshot.Servers {
		v := a.server(&snapshot.Servers[i])
		v.Statements = answered[v.Name]
		if total > 0 {
			v.Share = float64(reads[v.Name]) / float64(total)
		}
		s.Servers = append(s.Servers, v)
	}
	for _, r := range a.proxy.Routes() {
		s.Routes = append(s.Routes, admin.Route(r))
	}
	if a.lvs != nil {
		s.LVS = a.lvs.Status()
	}
	s.Events = a.events(0)
	s.Events = s.Events[max(0, len(s.Events)-shownEvents):]
	return s
}

func (a *assembly) server(st *backend.Status) admin.Server {
	running, latency, _ := st.Server.Load.Load(backend.Now())
	v := admin.Server{Name: st.Server.Name, Role: st.Server.Role, Address: st.Server.Address, Up: st.Up,
		Writer: st.Server == a.cluster.Gate().Current().Server, ReadOnly: st.ReadOnly, Position: st.Position.String(),
		Version: st.Version, Reason: st.Reason, Mode: st.Mode.String(), Running: running, Connections: st.Server.Connections(),
		Replicates: st.Replicates, AnswerMS: float64(latency) / float64(time.Millisecond)}
	if st.Free >= 0 {
		v.Free = &st.Free
	}
	if st.LagKnown {
		lag, held := st.Lag.Seconds(), st.LagHeld.Seconds()
		v.LagSeconds, v.HeldSeconds = &lag, &held
	}
	return v
}

func (a *assembly) events(since uint64) []admin.Event {
	list := []admin.Event{}
	for _, e := range a.cluster.Events().Since(since) {
		list = append(list, admin.Event(e))
	}
	return list
}

func (a *assembly) setMode(server, mode string) error {
	var m backend.Mode
	if err := m.UnmarshalText([]byte(mode)); err != nil {
		return err
	}
	err := a.cluster.SetMode(server, m)
	if errors.Is(err, backend.ErrNoServer) {
		return fmt.Errorf("%w: %w", admin.ErrUnknown, err)
	}
	return err
}
