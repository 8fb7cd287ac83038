package proxy

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox/router"
)

// metrics are the proxy's. Counters that every statement touches are plain
// atomics, exported by collect, so that no statement looks up a label.
type metrics struct {
	panics, declined, retried      prometheus.Counter
	held, holdRefused, holdExpired prometheus.Counter
	holdDry                        prometheus.Counter
	holdSeconds                    prometheus.Histogram
	accepted                       prometheus.Counter
	rejected                       *prometheus.CounterVec
	faults                         *prometheus.CounterVec
	latency                        [router.Targets]prometheus.Observer
	routes                         [router.Kinds][router.Targets][router.Reasons]atomic.Uint64
	answered                       [64]atomic.Uint64 // statements, by server index
	statements, clients, waiting   *prometheus.Desc
	byServer, reads, readsWaiting  *prometheus.Desc
	fresh, freshWaits              *prometheus.Desc
	p                              *Proxy
}

func newMetrics(p *Proxy, reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		p:           p,
		panics:      counter("signalbox_session_panics_total", "Sessions closed because of a fault in the proxy."),
		declined:    counter("signalbox_reads_declined_total", "Statements that a replica refused as writes and that then ran on the primary."),
		retried:     counter("signalbox_reads_retried_total", "Reads sent to another server because theirs was lost before it answered."),
		held:        counter("signalbox_held_total", "Waits of statements for a server that may take writes."),
		holdRefused: counter("signalbox_hold_refused_total", "Statements refused because hold.max_waiting or hold.max_bytes was reached."),
		holdExpired: counter("signalbox_hold_expired_total", "Statements refused because hold.timeout passed."),
		holdDry:     counter("signalbox_hold_dry_run_total", "Statements that would have waited with hold.mode hold."),
		holdSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "signalbox_hold_seconds",
			Help: "Time that statements waited for a server that may take writes.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 14)}),
		accepted: counter("signalbox_client_connections_total", "Client connections that authenticated."),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "signalbox_client_rejections_total",
			Help: "Client connections turned away, by reason."}, []string{"reason"}),
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "signalbox_client_errors_total",
			Help: "Errors that the proxy itself gave to clients, by MySQL error number."}, []string{"code"}),
		statements: prometheus.NewDesc("signalbox_statements_total", "Statements by kind, target and reason of the route.",
			[]string{"kind", "target", "reason"}, nil),
		byServer: prometheus.NewDesc("signalbox_server_statements_total", "Statements of clients that a server answered.", []string{"server"}, nil),
		reads:    prometheus.NewDesc("signalbox_reads_total", "Reads by server and what decided for it.", []string{"server", "why"}, nil),
		fresh: prometheus.NewDesc("signalbox_consistency_reads_total", "Reads by how it was made sure that their replica had what they must find.",
			[]string{"how"}, nil),
		freshWaits:   prometheus.NewDesc("signalbox_consistency_wait_seconds_total", "Time that reads waited for a replica, not in vain.", nil, nil),
		readsWaiting: prometheus.NewDesc("signalbox_reads_waiting", "Reads waiting for a replica or a place at the primary now.", nil, nil),
		clients:      prometheus.NewDesc("signalbox_clients", "Client connections now.", nil, nil),
		waiting:      prometheus.NewDesc("signalbox_hold_waiting", "Statements waiting for a primary now.", nil, nil),
	}
	latency := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "signalbox_statement_seconds",
		Help:    "Time from a statement's arrival to its answer's end, by target.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18)}, []string{"target"})
	for t := range m.latency {
		m.latency[t] = latency.WithLabelValues(router.Target(t).String())
	}
	reg.MustRegister(m.panics, m.declined, m.retried, m.held, m.holdRefused, m.holdExpired, m.holdDry, m.holdSeconds, m.accepted,
		m.rejected, m.faults, latency, p.reads.waited, p.reads.refused, m)
	return m
}

func (m *metrics) statement(w *work, took time.Duration) {
	m.routes[w.st.Kind][w.d.Target][w.d.Reason].Add(1)
	m.latency[w.d.Target].Observe(took.Seconds())
}

func (m *metrics) fault(code uint16) { m.faults.WithLabelValues(strconv.Itoa(int(code))).Inc() }

// Describe is prometheus.Collector's.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.statements
	ch <- m.byServer
	ch <- m.reads
	ch <- m.fresh
	ch <- m.freshWaits
	ch <- m.readsWaiting
	ch <- m.clients
	ch <- m.waiting
}

// Collect is prometheus.Collector's.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, r := range m.routed() {
		ch <- prometheus.MustNewConstMetric(m.statements, prometheus.CounterValue, float64(r.Count), r.Kind, r.Target, r.Reason)
	}
	for name, n := range m.p.Answered() {
		ch <- prometheus.MustNewConstMetric(m.byServer, prometheus.CounterValue, float64(n), name)
	}
	for how, n := range m.p.Freshness() {
		ch <- prometheus.MustNewConstMetric(m.fresh, prometheus.CounterValue, float64(n), how)
	}
	ch <- prometheus.MustNewConstMetric(m.freshWaits, prometheus.CounterValue, time.Duration(m.p.fresh.waits.Load()).Seconds())
	for _, r := range m.p.Reads() {
		ch <- prometheus.MustNewConstMetric(m.reads, prometheus.CounterValue, float64(r.Count), r.Server, r.Why)
	}
	ch <- prometheus.MustNewConstMetric(m.readsWaiting, prometheus.GaugeValue, float64(m.p.reads.waiting.Load()))
	ch <- prometheus.MustNewConstMetric(m.clients, prometheus.GaugeValue, float64(m.p.Clients()))
	ch <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(m.p.Waiting()))
}

// Routed is how many statements took one route.
type Routed struct {
	Kind, Target, Reason string
	Count                uint64
}

// routed lists the routes that any statement took.
func (m *metrics) routed() []Routed {
	var list []Routed
	for k := range m.routes {
		for t := range m.routes[k] {
			for r := range m.routes[k][t] {
				if n := m.routes[k][t][r].Load(); n > 0 {
					list = append(list, Routed{router.Kind(k).String(), router.Target(t).String(), router.Reason(r).String(), n})
				}
			}
		}
	}
	return list
}

// Read is how many reads ran on a server for one reason.
type Read struct {
	Server, Why string
	Count       uint64
}

// Reads lists where reads went and what decided.
func (p *Proxy) Reads() (list []Read) {
	for _, st := range p.cluster.Snapshot().Servers {
		for why := range router.Whys {
			if n := p.reads.counts[st.Server.Index&63][why].Load(); n > 0 {
				list = append(list, Read{st.Server.Name, router.Why(why).String(), n})
			}
		}
	}
	return list
}
