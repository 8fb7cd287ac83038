package proxy

import (
	"net"
	"sync"
)

// limits counts client connections, in all and by user.
type limits struct {
	mu     sync.Mutex
	most   int
	total  int
	byUser map[string]int
}

func newLimits(most int) *limits { return &limits{most: most, byUser: make(map[string]int)} }

// enter takes a place for a connection that is not authenticated yet.
func (l *limits) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.most {
		return false
	}
	l.total++
	return true
}

// exit gives back a place that enter took.
func (l *limits) exit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
}

// take counts the connection for its user, of which there may be most; 0 for
// any number.
func (l *limits) take(user string, most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if most > 0 && l.byUser[user] >= most {
		return false
	}
	l.byUser[user]++
	return true
}

// leave gives back what enter and take took.
func (l *limits) leave(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	l.drop(user)
}

func (l *limits) drop(user string) {
	if l.byUser[user]--; l.byUser[user] <= 0 {
		delete(l.byUser, user)
	}
}

// swap counts a connection for another user.
func (l *limits) swap(from, to string, most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if most > 0 && l.byUser[to] >= most {
		return false
	}
	l.drop(from)
	l.byUser[to]++
	return true
}

func cutHost(remote string) (host, port string, err error) {
	if host, port, err = net.SplitHostPort(remote); err != nil {
		return remote, "", nil
	}
	return host, port, nil
}
