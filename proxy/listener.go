package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"signalbox/config"
)

// Group runs goroutines and waits for them.
type Group struct{ wait sync.WaitGroup }

// Go runs f.
func (g *Group) Go(f func()) { g.wait.Go(f) }

// Wait waits for all of them.
func (g *Group) Wait() { g.wait.Wait() }

// Listen opens the configured addresses, all or none.
func Listen(cfg []config.Listener) (all []net.Listener, err error) {
	for _, l := range cfg {
		ln, err := listen(l.Address)
		if err != nil {
			for _, open := range all {
				_ = open.Close()
			}
			return nil, fmt.Errorf("listen on %s: %w", l.Address, err)
		}
		all = append(all, ln)
	}
	return all, nil
}

func listen(address string) (net.Listener, error) {
	network, target := config.Network(address)
	if network != "unix" {
		return net.Listen(network, target)
	}
	if err := removeStale(target); err != nil {
		return nil, err
	}
	ln, err := net.Listen(network, target)
	if err != nil {
		return nil, err
	}
	return ln, os.Chmod(target, 0o777) // whoever reaches it still has to authenticate, as with mysqld
}

// removeStale removes the socket of a process that is gone.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return errors.New("a file that is no socket is in the way; remove it or choose another path")
	}
	if nc, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = nc.Close()
		return errors.New("another process listens there; stop it or choose another path")
	}
	return os.Remove(path)
}

// Serve accepts on all listeners until ctx ends, each connection on a goroutine
// of its own, and returns when no handler runs any more. It closes the
// listeners.
func Serve(ctx context.Context, listeners []net.Listener, handle func(context.Context, net.Conn)) error {
	var accepting, handling Group
	errs := make(chan error, len(listeners))
	stop := context.AfterFunc(ctx, func() {
		for _, ln := range listeners {
			_ = ln.Close()
		}
	})
	defer stop()
	for _, ln := range listeners {
		accepting.Go(func() { errs <- accept(ctx, ln, &handling, handle) })
	}
	accepting.Wait()
	handling.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// acceptRetry is the pause after a failure to accept, such as too many open
// files.
const acceptRetry = 50 * time.Millisecond

func accept(ctx context.Context, ln net.Listener, handling *Group, handle func(context.Context, net.Conn)) error {
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			handling.Go(func() { handle(ctx, nc) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		default:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(acceptRetry):
			}
		}
	}
}
