package backend

import "github.com/prometheus/client_golang/prometheus"

var (
	descUp       = prometheus.NewDesc("signalbox_server_up", "1 when the server answers its probes.", []string{"server", "role"}, nil)
	descLag      = prometheus.NewDesc("signalbox_server_lag_seconds", "How far a replica is behind, where it is known.", []string{"server"}, nil)
	descReadOnly = prometheus.NewDesc("signalbox_server_read_only", "1 when the server has read_only set.", []string{"server"}, nil)
	descLatency  = prometheus.NewDesc("signalbox_server_probe_seconds", "Time that the last probe took.", []string{"server"}, nil)
	descWriter   = prometheus.NewDesc("signalbox_writer", "1 for the server that may take writes.", []string{"server"}, nil)
	descPaused   = prometheus.NewDesc("signalbox_writer_paused", "1 for the writer whose I/O is frozen: it keeps its connections, and statements wait.", []string{"server"}, nil)
	descEpoch    = prometheus.NewDesc("signalbox_writer_epoch", "Epoch of the last writer.", nil, nil)
	descVerdict  = prometheus.NewDesc("signalbox_authority", "1 for the decision and reason in force.", []string{"decision", "reason"}, nil)
	descSource   = prometheus.NewDesc("signalbox_drbd_source", "1 for the source in use of each node's DRBD state.", []string{"server", "source"}, nil)
	descAgent    = prometheus.NewDesc("signalbox_agent_connected", "1 while the node's agent is heard.", []string{"server"}, nil)
	descAgentOff = prometheus.NewDesc("signalbox_agent_failures_total", "Streams from the node's agent that ended or did not begin.", []string{"server", "reason"}, nil)
	descCut      = prometheus.NewDesc("signalbox_write_connections_cut_total", "Write connections closed because their server lost authority.", nil, nil)
	descHeld     = prometheus.NewDesc("signalbox_server_lag_held_seconds", "The lag that is compared with max_lag: it falls only when the lag has settled.", []string{"server"}, nil)
	descRunning  = prometheus.NewDesc("signalbox_server_statements_running", "Statements that run on the server now.", []string{"server"}, nil)
	descAnswer   = prometheus.NewDesc("signalbox_server_answer_seconds", "Decaying mean of the time to an answer's first byte.", []string{"server"}, nil)
	descConns    = prometheus.NewDesc("signalbox_server_connections", "Connections of sessions to the server, for reads.", []string{"server"}, nil)
	descFree     = prometheus.NewDesc("signalbox_server_connections_free", "Connections that the server could still take, where it is known.", []string{"server"}, nil)
	descMode     = prometheus.NewDesc("signalbox_server_mode", "1 for what an operator has set the server to.", []string{"server", "mode"}, nil)
	descTraffic  = prometheus.NewDesc("signalbox_server_traffic_failures_total", "Connections of clients that failed on the server.", []string{"server"}, nil)
	descOwnFault = prometheus.NewDesc("signalbox_own_network_fault", "1 while no server answers and this host's own network is suspected.", nil, nil)
	descSwitches = prometheus.NewDesc("signalbox_writer_switches_total", "How often a writer was opened.", nil, nil)
)

func (c *Cluster) register(reg prometheus.Registerer) {
	c.failures = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "signalbox_server_probe_failures_total",
		Help: "Probes that failed."}, []string{"server"})
	c.changes = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "signalbox_server_events_total",
		Help: "Changes of a server's state, by kind of event."}, []string{"server", "kind"})
	reg.MustRegister(c, c.failures, c.changes)
}

// Describe is prometheus.Collector's.
func (c *Cluster) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descUp, descLag, descReadOnly, descLatency, descWriter, descPaused, descEpoch, descVerdict, descSource, descAgent, descAgentOff, descCut, descSwitches,
		descHeld, descRunning, descAnswer, descConns, descFree, descMode, descTraffic, descOwnFault} {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (c *Cluster) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	snapshot, w, a := c.Snapshot(), c.gate.Current(), c.watch.Current()
	for i := range snapshot.Servers {
		st := &snapshot.Servers[i]
		gauge(descUp, number(st.Up), st.Server.Name, st.Server.Role)
		gauge(descReadOnly, number(st.ReadOnly), st.Server.Name)
		gauge(descLatency, st.Latency.Seconds(), st.Server.Name)
		gauge(descWriter, number(w.Server == st.Server), st.Server.Name)
		gauge(descPaused, number(w.Paused == st.Server), st.Server.Name)
		if st.LagKnown {
			gauge(descLag, st.Lag.Seconds(), st.Server.Name)
			gauge(descHeld, st.LagHeld.Seconds(), st.Server.Name)
		}
		running, latency, _ := st.Server.Load.Load(Now())
		gauge(descRunning, float64(running), st.Server.Name)
		gauge(descAnswer, latency.Seconds(), st.Server.Name)
		gauge(descConns, float64(st.Server.Connections()), st.Server.Name)
		if st.Free >= 0 {
			gauge(descFree, float64(st.Free), st.Server.Name)
		}
		gauge(descMode, 1, st.Server.Name, st.Mode.String())
		ch <- prometheus.MustNewConstMetric(descTraffic, prometheus.CounterValue, float64(st.Server.Load.failed.Load()), st.Server.Name)
	}
	gauge(descOwnFault, number(snapshot.OwnFault))
	gauge(descEpoch, float64(w.Epoch))
	gauge(descVerdict, 1, a.Verdict.String(), a.Reason)
	for _, n := range a.Nodes {
		gauge(descSource, 1, n.Node, n.Source)
	}
	for _, g := range c.watch.Agents() {
		gauge(descAgent, number(g.Connected), g.Node)
		for reason, n := range g.Failures {
			ch <- prometheus.MustNewConstMetric(descAgentOff, prometheus.CounterValue, float64(n), g.Node, reason)
		}
	}
	ch <- prometheus.MustNewConstMetric(descCut, prometheus.CounterValue, float64(c.gate.Cut()))
	ch <- prometheus.MustNewConstMetric(descSwitches, prometheus.CounterValue, float64(c.gate.Switches()))
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
