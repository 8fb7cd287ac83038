package drbdwatch

import (
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/genetlink"
)

// mirror is DRBD's state as the last dump and the pushes since tell it. It does
// no I/O. One goroutine may push, one dump, and one look, at the same time.
type mirror struct {
	disks []string

	mu     sync.Mutex // guards what follows; models are only changed by model
	queue  []genetlink.Message
	lost   bool   // pushes that are not in queue
	count  uint64 // of pushes
	base   model  // the last dump during which nothing was pushed, and the pushes since
	dumped time.Time
}

const (
	// believe is how long after a dump pushes are believed without another.
	believe    = 5 * time.Second
	mostQueued = 256 // messages
)

// push takes what the kernel has pushed; lost tells that there was more. It
// returns whether the state may have changed.
func (m *mirror) push(messages []genetlink.Message, lost bool) bool {
	messages = slices.DeleteFunc(messages, func(m genetlink.Message) bool { return !aboutState(m.Header.Command) })
	if len(messages) == 0 && !lost {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	if m.lost = m.lost || lost || len(m.queue)+len(messages) > mostQueued; m.lost {
		m.queue = nil
	} else {
		m.queue = append(m.queue, messages...)
	}
	return true
}

// begin comes before a dump; end takes what it returns.
func (m *mirror) begin() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// end takes a dump. It returns false when something was pushed meanwhile, which
// may be in the dump or not: then another dump is needed.
func (m *mirror) end(dump model, begun uint64, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.count != begun {
		return false
	}
	m.base, m.dumped, m.queue, m.lost = dump, now, nil, false
	return true
}

// model is the state, nil when only a dump can tell it.
func (m *mirror) model(now time.Time) model {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.base == nil || m.lost || now.Sub(m.dumped) > believe {
		m.base = nil
		return nil
	}
	for i := range m.queue {
		if m.base.message(m.queue[i].Header.Command, m.queue[i].Data, m.disks) != nil {
			m.base = nil
			return nil
		}
	}
	m.queue = nil
	return m.base
}
