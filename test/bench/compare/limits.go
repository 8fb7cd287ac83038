package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// freeAddr finds a loopback address that nothing listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// raiseFiles makes room for n open files, here and in the processes started
// from now on.
func raiseFiles(n uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	want := syscall.Rlimit{Cur: max(n, limit.Cur), Max: max(n, limit.Max)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want); err != nil {
		return errors.Join(fmt.Errorf("raise the limit of open files to %d: %w", n, err),
			errors.New("run `ulimit -Hn` as root first, or use a smaller -idle"))
	}
	return nil
}
