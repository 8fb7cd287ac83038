// Package poll waits for what announces itself to nobody, such as a server that
// has been started. What can be waited for otherwise is not for it.
package poll

import (
	"context"
	"fmt"
	"time"
)

// every is how often is looked.
const every = 20 * time.Millisecond

// Until calls ready until it succeeds, limit is over or ctx ends; the error is
// then why it is not ready, and why nobody waits any longer. ready gets the
// context that ends with the wait.
func Until(ctx context.Context, limit time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not in %s", limit))
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
