package lvs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"signalbox/config"
)

// The protocol of the socket: one JSON object a line, a request and its answer.

const (
	maxMessage   = 64 << 20 // bytes; 20,000 destinations are about 8 MB
	maxClients   = 8
	answerWithin = 30 * time.Second
)

type request struct {
	Do         string      `json:"do"` // dump or apply
	Only       []Key       `json:"only,omitempty"`
	All        bool        `json:"all,omitempty"`
	Operations []Operation `json:"operations,omitempty"`
}

type answer struct {
	Table  Table    `json:"table,omitempty"`
	Errors []string `json:"errors,omitempty"` // of operations, empty for done
	Error  string   `json:"error,omitempty"`
	Calls  uint64   `json:"calls"` // to the kernel, since the start
}

// Server is the small process that holds CAP_NET_ADMIN: it carries out for an
// unprivileged proxy what the configuration allows, and nothing else.
type Server struct {
	owner *Owner
	allow *allowed
	users map[uint32]bool
	log   *slog.Logger
	slots chan struct{}
}

// NewServer prepares the privileged process of cfg.
func NewServer(cfg *config.Config, log *slog.Logger) (*Server, error) {
	virtuals := Virtuals(cfg)
	owner, err := NewOwner(cfg.LVS.StateDir, Exclusive(virtuals))
	if err != nil {
		return nil, err
	}
	users := map[uint32]bool{0: true, uint32(os.Geteuid()): true}
	if name := cfg.LVS.SocketUser; name != "" {
		id, err := userID(name)
		if err != nil {
			return nil, fmt.Errorf("lvs.socket_user: %w", err)
		}
		users[id] = true
	}
	return &Server{owner: owner, allow: newAllowed(virtuals, cfg.LVS.Adopt), users: users, log: log, slots: make(chan struct{}, maxClients)}, nil
}

func userID(name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(n), err
}

// ListenSocket opens the socket at path. Who may use it is checked by the
// kernel's word on who connects, not by the file's mode.
func ListenSocket(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("lvs.socket: another signalbox lvs serve answers at %s", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		_ = os.Remove(path)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("lvs.socket: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("lvs.socket: %w", err)
	}
	return ln, nil
}

// Run serves ln until ctx ends. The kernel's table stays as it is.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	var group sync.WaitGroup
	defer func() {
		group.Wait()
		_ = s.owner.Close()
	}()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		c, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		select {
		case s.slots <- struct{}{}:
			group.Go(func() {
				defer func() { <-s.slots }()
				s.client(ctx, c)
			})
		default:
			s.log.Warn("lvs socket", "refused", "too many clients")
			_ = c.Close()
		}
	}
}

// client serves one connection.
func (s *Server) client(ctx context.Context, c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	uid, err := peer(c)
	if err != nil || !s.users[uid] {
		s.log.Warn("lvs socket", "refused", "this user may not use it; see lvs.socket_user", "uid", uid)
		return
	}
	in := bufio.NewReader(c)
	for {
		line, err := readLine(in, maxMessage)
		if err != nil {
			return
		}
		_ = c.SetWriteDeadline(time.Now().Add(answerWithin))
		if err := json.NewEncoder(c).Encode(s.answer(ctx, line)); err != nil {
			return
		}
	}
}

// peer is the user at the other end, from the kernel.
func peer(c net.Conn) (uint32, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("no unix socket")
	}
	sc, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var inner error
	err = sc.Control(func(fd uintptr) { cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, inner); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// readLine reads up to a newline, at most n bytes.
func readLine(in *bufio.Reader, n int) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > n {
			return nil, errors.New("message is too long")
		}
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) && len(line) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// parseRequest reads a request and refuses what no proxy sends.
func parseRequest(line []byte) (request, error) {
	var q request
	if err := json.Unmarshal(line, &q); err != nil {
		return q, fmt.Errorf("not a request: %w", err)
	}
	if q.Do != "dump" && q.Do != "apply" {
		return q, fmt.Errorf("unknown request %q", q.Do)
	}
	return q, nil
}

func (s *Server) answer(ctx context.Context, line []byte) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	q, err := parseRequest(line)
	switch {
	case err != nil:
	case q.Do == "dump":
		if q.Only == nil && !q.All {
			q.Only = []Key{}
		}
		a.Table, err = s.owner.Dump(ctx, q.Only)
	default:
		a.Errors, err = s.apply(ctx, q.Operations)
	}
	if err != nil {
		a.Error = err.Error()
	}
	a.Calls = s.owner.Calls()
	return a
}

func (s *Server) apply(ctx context.Context, list []Operation) ([]string, error) {
	for _, o := range list {
		if err := s.allow.check(o); err != nil {
			s.log.Warn("lvs socket", "refused", err.Error())
			return nil, err
		}
	}
	errs, err := s.owner.Apply(ctx, list)
	texts := make([]string, len(errs))
	for i, e := range errs {
		if e != nil {
			texts[i] = e.Error()
		}
		s.log.Info("lvs", "operation", list[i].String(), "error", texts[i])
	}
	return texts, err
}

// allowed is what the configuration lets the proxy ask for: its services as they
// are configured, and their servers with up to their weight.
type allowed struct {
	services map[Key]*Virtual
	adopt    bool
}

func newAllowed(list []Virtual, adopt bool) *allowed {
	a := &allowed{services: make(map[Key]*Virtual), adopt: adopt}
	for i := range list {
		for _, k := range list[i].keys {
			a.services[k] = &list[i]
		}
	}
	return a
}

// check refuses an operation that the configuration does not call for. Whether a
// service is ours the Owner checks.
func (a *allowed) check(o Operation) error {
	v := a.services[o.Service]
	refused := func(why string) error {
		return fmt.Errorf("refused: %s: %s; do both processes run with the same configuration?", o, why)
	}
	switch o.Kind {
	case RemoveService: // one of an older configuration, or all at the end
	case Adopt:
		if v == nil || !a.adopt {
			return refused("lvs.adopt is not set")
		}
	case AddService, SetService:
		if v == nil || o.Settings != v.settings {
			return refused("no service is configured so")
		}
	case AddDestination, SetDestination:
		if v == nil || !v.has(o.Service, o.Destination) {
			return refused("no real server is configured so")
		}
	case RemoveDestination, Expire:
		if v == nil {
			return refused("no such service is configured")
		}
	default:
		return refused("unknown operation")
	}
	return nil
}

// has says whether a destination is one of the configuration's, with at most its
// weight.
func (v *Virtual) has(k Key, d Destination) bool {
	matches := func(r *real) bool {
		w := r.at(k)
		if d.Weight > w.Weight {
			return false
		}
		w.Weight = d.Weight
		return w == d
	}
	for j := range v.reals {
		if matches(&v.reals[j]) {
			return true
		}
	}
	return v.sorry != nil && matches(v.sorry)
}
