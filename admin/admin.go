// Package admin is the operators' HTTP server: metrics, health, and the state
// of the cluster as JSON and as a page.
//
// It reads snapshots that others publish, and hands what an operator changes to
// the part concerned.
package admin

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"signalbox/drbdwatch"
)

// Status is what the page and /status show.
type Status struct {
	Version   string              `json:"version"`
	Started   time.Time           `json:"started"`
	Authority drbdwatch.Authority `json:"authority"`
	Servers   []Server            `json:"servers"`
	Routes    []Route             `json:"routes"`
	Clients   int                 `json:"clients"`
	Waiting   int                 `json:"waiting"` // statements held for a primary
	Reads     []Read              `json:"reads"`
	OwnFault  bool                `json:"own_network_fault"` // no server answers: this host's network is suspected
	Events    []Event             `json:"events"`            // the last ones
	LVS       any                 `json:"lvs,omitempty"`     // nil without the role
}

// Server is one database server.
type Server struct {
	Name       string   `json:"name"`
	Role       string   `json:"role"`
	Address    string   `json:"address"`
	Up         bool     `json:"up"`
	Writer     bool     `json:"writer"`
	ReadOnly   bool     `json:"read_only"`
	LagSeconds *float64 `json:"lag_seconds"` // nil where it is not known
	Position   string   `json:"position"`
	Version    string   `json:"version"`
	Reason     string   `json:"reason"`

	Mode        string   `json:"mode"`             // enabled, draining, disabled
	HeldSeconds *float64 `json:"lag_held_seconds"` // what is compared with max_lag
	Statements  uint64   `json:"statements"`       // answered for clients
	Running     int      `json:"running"`          // statements now
	Connections int      `json:"connections"`      // of sessions, for reads
	AnswerMS    float64  `json:"answer_ms"`        // decaying mean time to answer
	Free        *int     `json:"connections_free"` // it could still take; nil where it is not known
	Replicates  bool     `json:"replicates"`       // its replication threads run
	Share       float64  `json:"read_share"`       // of all reads, 0 to 1
}

// Read is how many reads a server got for one reason.
type Read struct {
	Server string `json:"server"`
	Why    string `json:"why"`
	Count  uint64 `json:"count"`
}

// Event is something that happened.
type Event struct {
	Seq    uint64    `json:"seq"` // from 1, without gaps
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"`
	Server string    `json:"server,omitempty"`
	Text   string    `json:"text"`
}

// Route is how many statements went one way.
type Route struct {
	Kind   string `json:"kind"`
	Target string `json:"target"`
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// Sources are where the server reads what it shows.
type Sources struct {
	Status func() Status
	Ready  func() (ready bool, why string)
	LVS    *LVS // nil without the role

	Events  func(since uint64) []Event      // after number since, oldest first
	SetMode func(server, mode string) error // an error that is not ErrUnknown is a warning
	Token   string                          // that changes need; empty: they must come from this host
}

//go:embed page.html
var page []byte

// New returns the HTTP server's handler.
func New(src Sources, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ready, why := src.Ready()
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, why)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, src.Status())
	})
	if src.LVS != nil {
		src.LVS.handle(mux, src.guard)
	}
	changes(mux, &src)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'")
		_, _ = w.Write(page)
	})
	return mux
}

// Run serves handler on ln until ctx ends and every request is answered.
func Run(ctx context.Context, ln net.Listener, handler http.Handler, log *slog.Logger) error {
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- srv.Shutdown(patience)
	})
	defer stop()
	err := srv.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) {
		return <-stopped
	}
	return fmt.Errorf("serve HTTP on %s: %w", ln.Addr(), err)
}
