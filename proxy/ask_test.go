package proxy

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"signalbox/backend"
)

// One question serves all who came before it was put, and nobody who came after.
func TestAskIsSharedAndNeverOlderThanTheWish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		put, answered := 0, 0
		answer := make(chan struct{})
		a := asker{question: func(context.Context) (backend.Position, error) {
			put++
			<-answer
			return backend.Position{}, nil
		}}
		var group sync.WaitGroup
		var mu sync.Mutex
		ask := func(n int) {
			for range n {
				group.Go(func() {
					_, _ = a.ask(t.Context())
					mu.Lock()
					defer mu.Unlock()
					answered++
				})
			}
			synctest.Wait()
		}
		ask(1)
		ask(50) // all of them come while the first question is under way
		if put != 1 || answered != 0 {
			t.Fatalf("%d questions, %d answered", put, answered)
		}
		answer <- struct{}{}
		synctest.Wait()
		if put != 2 || answered != 1 {
			t.Fatalf("after the first answer: %d questions, %d answered", put, answered)
		}
		ask(3)
		answer <- struct{}{}
		synctest.Wait()
		if put != 3 || answered != 51 {
			t.Fatalf("after the second answer: %d questions, %d answered", put, answered)
		}
		answer <- struct{}{}
		group.Wait()
		if put != 3 || answered != 54 || a.busy {
			t.Fatalf("at the end: %d questions, %d answered, busy %v", put, answered, a.busy)
		}
	})
}

// A leader that gives up hands the question to nobody: the next one finds it.
func TestAskAfterALeaderHasGone(t *testing.T) {
	a := asker{question: func(context.Context) (backend.Position, error) { return backend.Position{}, errNoWriter }}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		_, _ = a.ask(gone)
	}
	if _, err := a.ask(t.Context()); !errors.Is(err, errNoWriter) {
		t.Error(err)
	}
}
