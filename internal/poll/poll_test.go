package poll

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		no := errors.New("no")
		began := time.Now()
		after := func(d time.Duration) func(context.Context) error {
			return func(context.Context) error {
				if time.Since(began) < d {
					return no
				}
				return nil
			}
		}
		if err := Until(t.Context(), time.Minute, after(10*time.Second)); err != nil || time.Since(began) > 11*time.Second {
			t.Errorf("ready after 10 s: %v after %s", err, time.Since(began))
		}
		began = time.Now()
		if err := Until(t.Context(), time.Second, after(time.Hour)); !errors.Is(err, no) || !strings.Contains(err.Error(), "not in 1s") ||
			time.Since(began) > 2*time.Second {
			t.Errorf("never ready: %v after %s", err, time.Since(began))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errors.New("given up")) })
		if err := Until(ctx, time.Hour, after(2*time.Hour)); !errors.Is(err, no) || !strings.Contains(err.Error(), "given up") {
			t.Errorf("given up: %v", err)
		}
	})
}
