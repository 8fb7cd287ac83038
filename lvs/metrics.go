package lvs

import (
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the reconciler counts itself; the kernel's numbers are read
// from the last pass.
type metrics struct {
	operations, drift, passes *prometheus.CounterVec
	duration                  prometheus.Histogram
}

var (
	serviceLabels = []string{"service", "virtual"}
	serverLabels  = []string{"service", "virtual", "server", "address"}

	descCompared  = prometheus.NewDesc("signalbox_lvs_compared_timestamp_seconds", "When the kernel's whole table was last compared.", nil, nil)
	descError     = prometheus.NewDesc("signalbox_lvs_error", "1 when the last pass left something undone.", nil, nil)
	descConflicts = prometheus.NewDesc("signalbox_lvs_conflicts", "Services whose address is taken by a service that another program made.", nil, nil)
	descQuorate   = prometheus.NewDesc("signalbox_lvs_quorate", "1 when enough servers serve.", []string{"service"}, nil)
	descPhase     = prometheus.NewDesc("signalbox_lvs_server_phase", "1 for the phase that a server is in.", []string{"service", "server", "phase"}, nil)
	descCalls     = prometheus.NewDesc("signalbox_lvs_kernel_requests_total", "Requests to the kernel.", nil, nil)
	descWeight    = prometheus.NewDesc("signalbox_lvs_server_weight", "Weight in the kernel's table.", serverLabels, nil)
	descActive    = prometheus.NewDesc("signalbox_lvs_server_active_connections", "Established connections.", serverLabels, nil)
	descInactive  = prometheus.NewDesc("signalbox_lvs_server_inactive_connections", "Connections in other states.", serverLabels, nil)
)

// counterDescs are the kernel's counters of a service or a server.
type counterDescs struct {
	totals, rates [5]*prometheus.Desc
}

var (
	serviceCounters = describeCounters("service", serviceLabels)
	serverCounters  = describeCounters("server", serverLabels)
)

func describeCounters(of string, labels []string) counterDescs {
	var d counterDescs
	for i, what := range []string{"connections", "in_packets", "out_packets", "in_bytes", "out_bytes"} {
		d.totals[i] = prometheus.NewDesc("signalbox_lvs_"+of+"_"+what+"_total", "Counted by the kernel, 64 bits.", labels, nil)
		d.rates[i] = prometheus.NewDesc("signalbox_lvs_"+of+"_"+what+"_per_second", "The kernel's estimate of the rate.", labels, nil)
	}
	return d
}

func (d *counterDescs) collect(ch chan<- prometheus.Metric, c *Counters, labels ...string) {
	for i, v := range [...]uint64{c.Connections, c.PacketsIn, c.PacketsOut, c.BytesIn, c.BytesOut} {
		ch <- prometheus.MustNewConstMetric(d.totals[i], prometheus.CounterValue, float64(v), labels...)
	}
	for i, v := range [...]uint64{c.ConnectionRate, c.PacketsInRate, c.PacketsOutRate, c.BytesInRate, c.BytesOutRate} {
		ch <- prometheus.MustNewConstMetric(d.rates[i], prometheus.GaugeValue, float64(v), labels...)
	}
}

func (r *Reconciler) register(reg prometheus.Registerer) {
	r.metrics = &metrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "signalbox_lvs_operations_total", Help: "Changes of the kernel's table that were planned."}, []string{"kind"}),
		drift:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "signalbox_lvs_drift_total", Help: "Those that correct what somebody else changed."}, []string{"kind"}),
		passes:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "signalbox_lvs_passes_total", Help: "Comparisons with the kernel, of everything or of what has changed."}, []string{"scope", "result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "signalbox_lvs_pass_seconds", Help: "Time that a comparison and its changes took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}),
	}
	reg.MustRegister(r, r.metrics.operations, r.metrics.drift, r.metrics.passes, r.metrics.duration)
}

func (m *metrics) passed(whole bool, err error, took time.Duration) {
	scope, result := "changed", "done"
	if whole {
		scope = "whole"
	}
	if err != nil {
		result = "failed"
	}
	m.passes.WithLabelValues(scope, result).Inc()
	m.duration.Observe(took.Seconds())
}

// Describe is prometheus.Collector's.
func (r *Reconciler) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descCompared, descError, descConflicts, descQuorate, descPhase, descCalls, descWeight, descActive, descInactive} {
		ch <- d
	}
	for _, c := range []*counterDescs{&serviceCounters, &serverCounters} {
		for i := range c.totals {
			ch <- c.totals[i]
			ch <- c.rates[i]
		}
	}
}

// Collect is prometheus.Collector's.
func (r *Reconciler) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	v := r.view.Load()
	if !v.read.IsZero() {
		gauge(descCompared, float64(v.read.UnixMilli())/1000)
	}
	gauge(descError, number(v.err != nil))
	gauge(descConflicts, float64(len(v.conflicts)))
	if k, ok := r.kernel.(interface{ Calls() uint64 }); ok {
		ch <- prometheus.MustNewConstMetric(descCalls, prometheus.CounterValue, float64(k.Calls()))
	}
	for i := range v.state.Services {
		s, c := &v.state.Services[i], &r.virtuals[i]
		gauge(descQuorate, number(s.Quorate), c.Name)
		for j, m := range s.Reals {
			gauge(descPhase, 1, c.Name, c.reals[j].name, m.Phase.String())
		}
		for _, k := range c.keys {
			r.collectService(ch, c, k, v.actual)
		}
	}
}

func (r *Reconciler) collectService(ch chan<- prometheus.Metric, c *Virtual, k Key, actual Table) {
	s, ok := actual[k]
	if !ok || !s.Owned {
		return
	}
	virtual, names := k.String(), c.names(k)
	serviceCounters.collect(ch, &s.Counters, c.Name, virtual)
	for a, d := range s.Destinations {
		load := s.Loads[a]
		labels := []string{c.Name, virtual, names[a], a.String()}
		serverCounters.collect(ch, &load.Counters, labels...)
		ch <- prometheus.MustNewConstMetric(descWeight, prometheus.GaugeValue, float64(d.Weight), labels...)
		ch <- prometheus.MustNewConstMetric(descActive, prometheus.GaugeValue, float64(load.Active), labels...)
		ch <- prometheus.MustNewConstMetric(descInactive, prometheus.GaugeValue, float64(load.Inactive), labels...)
	}
}

// names are the real servers' names by their addresses under a key.
func (v *Virtual) names(k Key) map[netip.AddrPort]string {
	names := make(map[netip.AddrPort]string, len(v.reals)+1)
	for j := range v.reals {
		names[v.reals[j].at(k).Address] = v.reals[j].name
	}
	if v.sorry != nil {
		names[v.sorry.at(k).Address] = v.sorry.name
	}
	return names
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
