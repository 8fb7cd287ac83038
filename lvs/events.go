package lvs

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Event is one thing that happened to the table or to a server.
type Event struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"` // server, quorum, change, drift, conflict, error, drain
	Service string    `json:"service,omitempty"`
	Server  string    `json:"server,omitempty"`
	Text    string    `json:"text"`
}

// events keeps the latest.
type events struct {
	log *slog.Logger

	mu   sync.Mutex // guards what follows
	ring [256]Event
	next int
}

// add keeps and logs an event.
func (e *events) add(v Event) {
	level := slog.LevelInfo
	if v.Kind == "conflict" || v.Kind == "error" {
		level = slog.LevelWarn
	}
	attrs := []any{"kind", v.Kind}
	if v.Service != "" {
		attrs = append(attrs, "service", v.Service)
	}
	if v.Server != "" {
		attrs = append(attrs, "server", v.Server)
	}
	e.log.Log(context.Background(), level, "lvs", append(attrs, "what", v.Text)...)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ring[e.next%len(e.ring)] = v
	e.next++
}

// list is what is kept, oldest first.
func (e *events) list() []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []Event{}
	for i := max(0, e.next-len(e.ring)); i < e.next; i++ {
		list = append(list, e.ring[i%len(e.ring)])
	}
	return list
}
