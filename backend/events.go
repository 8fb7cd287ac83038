package backend

import (
	"sync"
	"time"
)

// Event is one thing that happened to a server.
type Event struct {
	Seq    uint64    `json:"seq"` // from 1, without gaps
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"` // stable word: up, down, lag, mode, stall, network, writer
	Server string    `json:"server,omitempty"`
	Text   string    `json:"text"`
}

// maxEvents is how many events are kept.
const maxEvents = 1024

// Events are the last maxEvents. The zero value is empty and ready.
type Events struct {
	mu   sync.Mutex // guards what follows
	last uint64
	ring [maxEvents]Event // event n is at n % maxEvents
}

// Add keeps an event.
func (e *Events) Add(kind, server, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	e.ring[e.last%maxEvents] = Event{Seq: e.last, Time: time.Now(), Kind: kind, Server: server, Text: text}
}

// Since returns the events after number seq that are still kept, oldest first.
func (e *Events) Since(seq uint64) []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last > maxEvents {
		seq = max(seq, e.last-maxEvents)
	}
	list := make([]Event, 0, e.last-min(seq, e.last))
	for n := seq + 1; n <= e.last; n++ {
		list = append(list, e.ring[n%maxEvents])
	}
	return list
}
