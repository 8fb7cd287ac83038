package proxy

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"signalbox/backend"
	"signalbox/config"
	"signalbox/router"
)

// reads chooses where reads run, and counts what decided.
type reads struct {
	cfg     config.Reads
	how     router.Balancing
	cluster *backend.Cluster
	counts  [64][router.Whys]atomic.Uint64 // by server index

	places  chan struct{} // has an entry for each read on the primary for want of a replica
	waiting atomic.Int64
	waited  prometheus.Counter
	refused prometheus.Counter
}

func newReads(cfg config.Reads, cluster *backend.Cluster) *reads {
	return &reads{cfg: cfg, cluster: cluster, places: make(chan struct{}, cfg.PrimaryCap),
		waited: prometheus.NewCounter(prometheus.CounterOpts{Name: "signalbox_reads_waited_total",
			Help: "Reads that waited for a replica or a place at the primary."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "signalbox_reads_refused_total",
			Help: "Reads refused because no replica could serve and none came within reads.primary_wait."}),
		how: router.Balancing{Policy: router.PolicyOf(cfg.Balance), ZoneCapacity: cfg.ZoneCapacity}}
}

// fewCandidates is how many candidates lie on the stack; more are allocated.
const fewCandidates = 12

// choose returns the server for a read with need at the time now, by
// backend.Now: a replica, or the primary where it has a share. With nil, why is
// why it goes to the primary.
func (r *reads) choose(need *backend.Need, now time.Duration) (srv *backend.Server, why router.Why) {
	snapshot := r.cluster.Snapshot()
	var room [fewCandidates]router.Candidate
	list := room[:0]
	why = router.WhyNoReplica
	for i := range snapshot.Servers {
		st := &snapshot.Servers[i]
		switch st.Offer(need) {
		case backend.Serves:
			if need.Server != "" && st.Server.Name == need.Server {
				return st.Server, router.WhyHint
			}
			list = append(list, r.candidate(st, need, now))
		case backend.Behind:
			why = router.WhyBehind
		}
	}
	if r.cfg.Primary == "always" {
		if w := r.cluster.Gate().Current().Server; w != nil && snapshot.Servers[w.Index].Mode == backend.Enabled && need.Exclude>>uint(w.Index)&1 == 0 {
			list = append(list, r.candidate(&snapshot.Servers[w.Index], need, now))
		}
	}
	at, decided := router.Balance(list, r.how, rand.Uint64())
	if at < 0 {
		return nil, why
	}
	if srv = snapshot.Servers[list[at].Index].Server; srv.Role != config.RoleReplica {
		decided = router.WhyPrimary
	}
	return srv, decided
}

func (r *reads) candidate(st *backend.Status, need *backend.Need, now time.Duration) router.Candidate {
	srv := st.Server
	c := router.Candidate{Index: srv.Index, Weight: srv.Weight, Warmth: st.Warmth(now, r.cfg.SlowStart), Remote: srv.Remote,
		Full: st.Free == 0, Open: need.Open>>uint(srv.Index)&1 != 0}
	c.Outstanding, c.Latency, c.Silence = srv.Load.Load(now)
	return c
}

func (r *reads) count(srv *backend.Server, why router.Why) { r.counts[srv.Index&63][why].Add(1) }

// replicaPoll is how often a read that waits for a place at the primary looks
// whether a replica can serve it.
const replicaPoll = 50 * time.Millisecond

// readPrimary lets a read that no replica can serve go to the primary, of which
// reads.primary_cap do at once; further ones wait for a place, or for a replica.
// It returns a connection when a replica has come, and otherwise why the read
// goes to the primary.
func (s *session) readPrimary(w *work, why router.Why) (*serverConn, router.Why, error) {
	r := s.p.reads
	primary := s.p.cluster.Gate().Current().Server
	never := r.cfg.Primary == "never" || primary != nil && s.p.cluster.Snapshot().Servers[primary.Index].Mode != backend.Enabled
	if why != router.WhyNoReplica || w.placed || !never && primary == nil {
		return nil, why, nil
	}
	places := r.places
	if never {
		places = nil
	}
	select {
	case places <- struct{}{}:
		w.placed = true
		return nil, why, nil
	default:
	}
	r.waited.Inc()
	r.waiting.Add(1)
	defer r.waiting.Add(-1)
	return s.awaitPlace(w, places)
}

func (s *session) awaitPlace(w *work, places chan<- struct{}) (*serverConn, router.Why, error) {
	r := s.p.reads
	over := time.NewTimer(r.cfg.PrimaryWait)
	defer over.Stop()
	look := time.NewTicker(replicaPoll)
	defer look.Stop()
	w.failed, w.waited = 0, true
	for {
		select {
		case places <- struct{}{}:
			w.placed = true
			return nil, router.WhyNoReplica, nil
		case <-look.C:
			if c, why := s.replica(w); c != nil || why != router.WhyNoReplica {
				return c, why, nil
			}
			if s.sock.Hungup() {
				return nil, 0, &Fault{1317, "70100", "signalbox: the client left while its read waited for a server"}
			}
		case <-over.C:
			r.refused.Inc()
			return nil, 0, faultNoReplica(&r.cfg, places == nil)
		case <-s.ctx.Done():
			return nil, 0, &Fault{1053, "08S01", "Server shutdown in progress"}
		}
	}
}

// leave gives up the place of w at the primary, if it has one.
func (r *reads) leave(w *work) {
	if w.placed {
		w.placed = false
		<-r.places
	}
}
