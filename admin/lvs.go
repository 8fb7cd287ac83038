package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// LVS is the API of the LVS role.
type LVS struct {
	Status  func() any
	Events  func() any
	Plan    func(context.Context) (any, error) // what the next pass would do
	Apply   func()                             // compare everything now
	Drain   func(server, service string, patience time.Duration) error
	Undrain func(server, service string) error
}

// LVSDrain is the body of /lvs/drain and /lvs/undrain.
type LVSDrain struct {
	Server   string `json:"server"`
	Service  string `json:"service,omitempty"`  // empty for all
	Patience string `json:"patience,omitempty"` // such as 30s; empty: as configured
}

func (l *LVS) handle(mux *http.ServeMux, guarded func(http.HandlerFunc) http.HandlerFunc) {
	mux.HandleFunc("GET /lvs", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, l.Status()) })
	mux.HandleFunc("GET /lvs/events", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, l.Events()) })
	mux.HandleFunc("GET /lvs/plan", func(w http.ResponseWriter, r *http.Request) {
		plan, err := l.Plan(r.Context())
		result(w, plan, err, http.StatusServiceUnavailable)
	})
	mux.HandleFunc("POST /lvs/apply", guarded(func(w http.ResponseWriter, _ *http.Request) {
		l.Apply()
		reply(w, http.StatusAccepted, map[string]string{"done": "the whole table is being compared"})
	}))
	mux.HandleFunc("POST /lvs/drain", guarded(func(w http.ResponseWriter, r *http.Request) {
		d, patience, err := drainOf(r.Body)
		if err == nil {
			err = l.Drain(d.Server, d.Service, patience)
		}
		result(w, map[string]string{"done": "drained"}, err, http.StatusBadRequest)
	}))
	mux.HandleFunc("POST /lvs/undrain", guarded(func(w http.ResponseWriter, r *http.Request) {
		d, _, err := drainOf(r.Body)
		if err == nil {
			err = l.Undrain(d.Server, d.Service)
		}
		result(w, map[string]string{"done": "back"}, err, http.StatusBadRequest)
	}))
}

// result answers with v, or with err and its status.
func result(w http.ResponseWriter, v any, err error, status int) {
	if err != nil {
		fail(w, status, err.Error())
		return
	}
	reply(w, http.StatusOK, v)
}

func drainOf(body io.Reader) (d LVSDrain, patience time.Duration, err error) {
	if err := json.NewDecoder(io.LimitReader(body, 4<<10)).Decode(&d); err != nil {
		return d, 0, fmt.Errorf("the body is no JSON: %w", err)
	}
	if d.Patience != "" {
		if patience, err = time.ParseDuration(d.Patience); err != nil || patience < 0 {
			return d, 0, errors.New("patience is not a duration such as 30s")
		}
	}
	return d, patience, nil
}
