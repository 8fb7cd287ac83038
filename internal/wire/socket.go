package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// Socket moves bytes of one connection with as few system calls and wake-ups
// as the kernel allows. For a TCP or Unix connection it calls read(2) and
// write(2) on the non-blocking descriptor from within RawConn, so that a
// goroutine parks in the runtime's poller only when there is nothing to do;
// anything else, such as *tls.Conn, goes through net.Conn.
//
// One goroutine at a time uses a Socket; Close of the net.Conn, from anywhere,
// wakes it with net.ErrClosed.
type Socket struct {
	Conn net.Conn
	raw  syscall.RawConn // nil: go through Conn

	// The arguments and results of the call in progress, held here because a
	// closure for each call would be an allocation for each statement.
	request []byte
	into    []byte
	n       int
	err     error
	step    func(fd uintptr) bool

	onReady func() bool
	serving bool // inside Serve's callback, descriptor held
	fd      uintptr
	serve   func(fd uintptr) bool
}

// NewSocket wraps conn.
func NewSocket(conn net.Conn) *Socket {
	s := &Socket{Conn: conn}
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw = raw
			s.step, s.serve = s.exchangeStep, s.serveStep
		}
	}
	return s
}

// Raw reports whether system calls go straight to the descriptor.
func (s *Socket) Raw() bool { return s.raw != nil }

// Exchange writes request and then reads what comes first of the answer into
// buf, at least one byte. The connection must have nothing unread: the poller's
// edge for the answer can then not be missed, and the read that would fail
// because it comes too early is saved.
func (s *Socket) Exchange(request, buf []byte) (int, error) {
	if s.raw == nil {
		if _, err := s.Conn.Write(request); err != nil {
			return 0, err
		}
		return s.Conn.Read(buf)
	}
	s.request, s.into, s.n, s.err = request, buf, 0, nil
	err := s.raw.Read(s.step)
	rest := s.request
	s.request, s.into = nil, nil
	if err == nil {
		err = s.err
	}
	if errors.Is(err, syscall.EAGAIN) { // the send buffer is full: the slow way
		if _, err = s.Conn.Write(rest); err != nil {
			return 0, err
		}
		return s.Conn.Read(buf)
	}
	return s.n, err
}

func (s *Socket) exchangeStep(fd uintptr) bool {
	for len(s.request) > 0 {
		n, err := rawWrite(fd, s.request)
		if err != nil {
			s.err = err
			return true
		}
		s.request = s.request[n:]
		if len(s.request) == 0 {
			return false
		}
	}
	n, err := rawRead(fd, s.into)
	if err == syscall.EAGAIN {
		return false
	}
	s.n, s.err = n, err
	return true
}

// Read reads at least one byte, waiting for it.
func (s *Socket) Read(buf []byte) (int, error) { return s.Conn.Read(buf) }

// Write writes all of b.
func (s *Socket) Write(b []byte) error {
	if s.serving {
		for len(b) > 0 {
			n, err := rawWrite(s.fd, b)
			if err == syscall.EAGAIN {
				break
			}
			if err != nil {
				return os.NewSyscallError("write", err)
			}
			b = b[n:]
		}
		if len(b) == 0 {
			return nil
		}
	}
	_, err := s.Conn.Write(b)
	return err
}

// Serve waits for the connection to become readable and calls ready each time,
// on the goroutine and stack of the caller, until ready returns true or the
// connection fails. ready must have taken everything there is (TryRead returned
// fewer bytes than asked for, or ErrEmpty) before it returns false. In ready,
// Read must not be called: the descriptor's read side is held.
//
// While it waits the caller holds no buffer and needs only a shallow stack.
// Only for a Socket that is Raw.
func (s *Socket) Serve(ready func() bool) error {
	s.onReady = ready
	err := s.raw.Read(s.serve)
	s.onReady = nil
	return err
}

func (s *Socket) serveStep(fd uintptr) bool {
	s.fd, s.serving = fd, true
	done := s.onReady()
	s.serving = false
	return done
}

// ErrEmpty is TryRead's answer when there is nothing to read now.
var ErrEmpty = errors.New("nothing to read")

// TryRead reads what is there, inside Serve's callback. io.EOF means that the
// peer has closed its side.
func (s *Socket) TryRead(buf []byte) (int, error) {
	n, err := rawRead(s.fd, buf)
	if err == syscall.EAGAIN {
		return 0, ErrEmpty
	}
	return n, err
}

// ReadNow reads what is there, outside of Serve, or returns ErrEmpty. On a
// connection that is not Raw it always does.
func (s *Socket) ReadNow(buf []byte) (n int, err error) {
	if s.raw == nil {
		return 0, ErrEmpty
	}
	if cerr := s.raw.Control(func(fd uintptr) { n, err = rawRead(fd, buf) }); cerr != nil {
		return 0, cerr
	}
	if err == syscall.EAGAIN {
		return 0, ErrEmpty
	}
	return n, err
}

// Stale reports whether an idle server connection can no longer be used: the
// peer has closed it, or something lies there that no statement asked for, such
// as the error of a server that shuts down. One system call, no wait.
func (s *Socket) Stale() bool {
	n, err := s.peek()
	return n > 0 || err != ErrEmpty
}

// Hungup reports whether the peer has closed the connection; unread bytes do
// not matter. One system call, no wait.
func (s *Socket) Hungup() bool {
	_, err := s.peek()
	return err != nil && err != ErrEmpty
}

// peek looks whether there is something to read, without taking it.
func (s *Socket) peek() (n int, err error) {
	if s.serving {
		return rawPeek(s.fd)
	}
	if s.raw == nil {
		return 0, ErrEmpty
	}
	if cerr := s.raw.Control(func(fd uintptr) { n, err = rawPeek(fd) }); cerr != nil {
		return 0, cerr
	}
	return n, err
}

func rawPeek(fd uintptr) (int, error) {
	var b [1]byte
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), 1,
			syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		switch {
		case e == syscall.EINTR:
		case e == syscall.EAGAIN:
			return 0, ErrEmpty
		case e != 0:
			return 0, e
		case n == 0:
			return 0, io.EOF
		default:
			return int(n), nil
		}
	}
}

// rawRead and rawWrite use RawSyscall: on a non-blocking descriptor the call
// returns at once, and telling the scheduler about it costs more than it.

func rawRead(fd uintptr, b []byte) (int, error) {
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch {
		case e == syscall.EINTR:
		case e != 0:
			return 0, e
		case n == 0:
			return 0, io.EOF
		default:
			return int(n), nil
		}
	}
}

func rawWrite(fd uintptr, b []byte) (int, error) {
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch {
		case e == syscall.EINTR:
		case e != 0:
			return 0, e
		default:
			return int(n), nil
		}
	}
}
