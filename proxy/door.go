package proxy

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"signalbox/config"
	"signalbox/internal/wire"
)

// Client is an authenticated client connection. No byte of it is lost: what the
// client sends next is the next to be read. It holds no buffer.
type Client struct {
	Conn       net.Conn // plain, or *tls.Conn
	ID         uint32   // the proxy's own connection id
	Capability uint32   // what both sides have
	User       *config.User
	Schema     string
	Collation  uint8
	Extended   uint32 // MariaDB's extended capabilities that both sides have
	Attributes string // the connection attributes, for logs
	Remote     string // HOST:PORT, or "localhost" for a socket
	TLS        bool

	limits *limits
}

// Close releases the client's place in the connection limits.
func (c *Client) Close() { c.limits.leave(c.User.Name) }

// Door authenticates clients. The handshake is the proxy's own on go-mysql's
// primitives: the library's server has no size limit before authentication,
// fixes the connection ids and names unknown users.
type Door struct {
	cfg    *config.Config
	log    *slog.Logger
	opts   DoorOptions
	users  map[string]*config.User
	tls    *tls.Config
	key    func() *keyPair
	limits *limits
	nextID atomic.Uint32
}

// DoorOptions are the hooks of a Door.
type DoorOptions struct {
	ServerVersion func() string // what clients are greeted with
	OnReject      func(reason string)
}

// offered are the capabilities that clients are offered. Compression and query
// attributes are not: they change the bytes of every packet.
const offered = wire.ClientLongPassword | wire.ClientFoundRows | wire.ClientLongFlag | wire.ClientConnectWithDB |
	wire.ClientLocalFiles | wire.ClientIgnoreSpace | wire.ClientProtocol41 | wire.ClientInteractive | wire.ClientTransactions |
	wire.ClientSecureConnection | wire.ClientMultiStatements | wire.ClientMultiResults | wire.ClientPSMultiResults |
	wire.ClientPluginAuth | wire.ClientConnectAttrs | clientPluginAuthLenenc | wire.ClientSessionTrack | wire.ClientDeprecateEOF

// offeredExtended are the extended capabilities offered when the servers are
// MariaDB: only the types in column definitions (MARIADB_CLIENT_EXTENDED_METADATA).
const offeredExtended = 1 << 3

const (
	clientSSL              uint32 = 1 << 11
	clientPluginAuthLenenc uint32 = 1 << 21
)

// NewDoor prepares a door for cfg's users.
func NewDoor(cfg *config.Config, opts DoorOptions, log *slog.Logger) (*Door, error) {
	d := &Door{cfg: cfg, log: log, opts: opts, users: make(map[string]*config.User), limits: newLimits(cfg.Limits.MaxConnections)}
	for i := range cfg.Users {
		d.users[cfg.Users[i].Name] = &cfg.Users[i]
	}
	var err error
	if d.tls, err = serverTLS(cfg.TLS); err != nil {
		return nil, err
	}
	d.key = newKey()
	return d, nil
}

// Admit runs the handshake on nc within the time and bytes that the limits
// allow. When it fails the client has been told and nc is closed.
func (d *Door) Admit(ctx context.Context, nc net.Conn) (c *Client, err error) {
	h := &handshake{door: d, nc: nc, id: d.nextID.Add(1), left: int64(d.cfg.Limits.HandshakeBytes)}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = nc.SetDeadline(time.Now().Add(d.cfg.Limits.HandshakeTimeout))
	c, err = h.run()
	if err == nil {
		err = nc.SetDeadline(time.Time{})
	}
	if err == nil {
		return c, nil
	}
	var f *Fault
	if errors.As(err, &f) {
		_ = h.write(wire.AppendErr(nil, h.seq, f.Code, f.SQLState, f.Message))
	}
	if d.opts.OnReject != nil {
		d.opts.OnReject(rejection(err))
	}
	if c != nil {
		c.Close()
	}
	_ = h.nc.Close()
	return nil, err
}

// rejection is the metric's label for why a client was turned away.
func rejection(err error) string {
	var f *Fault
	var ne net.Error
	switch {
	case errors.As(err, &f) && f.Code == 1045:
		return "access-denied"
	case errors.As(err, &f) && (f.Code == 1040 || f.Code == 1226):
		return "limit"
	case errors.As(err, &f):
		return "refused"
	case errors.As(err, &ne) && ne.Timeout():
		return "timeout"
	case errors.Is(err, errBudget):
		return "too-much"
	}
	return "broken"
}

// handshake is one client's way in.
type handshake struct {
	door     *Door
	nc       net.Conn
	id       uint32
	seq      byte
	left     int64 // bytes that the client may still send
	salt     [20]byte
	extended uint32 // offered
}

var errBudget = errors.New("client sent more than limits.handshake_bytes before it authenticated")

func (h *handshake) run() (*Client, error) {
	if !h.door.limits.enter() {
		return nil, &Fault{1040, "08004", "Too many connections"}
	}
	admitted := false
	defer func() {
		if !admitted {
			h.door.limits.exit()
		}
	}()
	newSalt(&h.salt)
	if err := h.write(h.greeting()); err != nil {
		return nil, fmt.Errorf("greet: %w", err)
	}
	r, err := h.response()
	if err != nil {
		return nil, err
	}
	user, err := h.authenticate(r)
	if err != nil {
		return nil, err
	}
	if !h.door.limits.take(user.Name, user.MaxConnections) {
		return nil, &Fault{1226, "42000", fmt.Sprintf("User '%s' has exceeded the 'max_user_connections' resource (current value: %d)", user.Name, user.MaxConnections)}
	}
	admitted = true
	c := &Client{Conn: h.nc, ID: h.id, Capability: r.capability, User: user, Schema: r.schema, Collation: r.collation, Extended: r.extended,
		Attributes: r.attributes, Remote: remote(h.nc), limits: h.door.limits}
	_, c.TLS = h.nc.(*tls.Conn)
	ok := wire.Result{Status: wire.StatusAutocommit}
	if err := h.write(wire.AppendOK(nil, h.seq, 0, &ok, false)); err != nil {
		return c, fmt.Errorf("welcome: %w", err)
	}
	return c, nil
}

func remote(nc net.Conn) string {
	if a := nc.RemoteAddr(); a != nil && a.Network() != "unix" {
		return a.String()
	}
	return "localhost"
}

// host is the client's address without its port, as errors name it.
func (h *handshake) host() string {
	host, _, err := net.SplitHostPort(remote(h.nc))
	if err != nil {
		return remote(h.nc)
	}
	return host
}

// greeting is Protocol::HandshakeV10.
func (h *handshake) greeting() []byte {
	capability := offered
	if h.door.tls != nil {
		capability |= clientSSL
	}
	version := h.version()
	mariaDB := strings.Contains(version, "MariaDB")
	if mariaDB {
		capability &^= wire.ClientLongPassword // says that extended capabilities follow
	}
	p := append([]byte{10}, version...)
	p = append(p, 0, byte(h.id), byte(h.id>>8), byte(h.id>>16), byte(h.id>>24))
	p = append(p, h.salt[:8]...)
	p = append(p, 0, byte(capability), byte(capability>>8), defaultCollation, byte(wire.StatusAutocommit), 0)
	p = append(p, byte(capability>>16), byte(capability>>24), byte(len(h.salt)+1))
	p = append(p, make([]byte, 6)...)
	if mariaDB {
		h.extended = offeredExtended
	}
	p = binary.LittleEndian.AppendUint32(p, h.extended)
	p = append(p, h.salt[8:]...)
	p = append(p, 0)
	p = append(p, h.door.cfg.Auth.Plugin...)
	b, seq := wire.AppendPacket(nil, 0, append(p, 0))
	h.seq = seq
	return b
}

// defaultCollation is utf8mb4_general_ci, which every server knows.
const defaultCollation = 45

// version is the writer's own. MariaDB 10 puts 5.5.5- before it on the wire, and
// its clients tell it from MySQL by that.
func (h *handshake) version() string {
	v := h.door.cfg.Auth.ServerVersion
	if v == "" && h.door.opts.ServerVersion != nil {
		v = h.door.opts.ServerVersion()
	}
	switch {
	case v == "":
		return "8.0.40-signalbox"
	case strings.HasPrefix(v, "10.") && strings.Contains(v, "MariaDB"):
		return "5.5.5-" + v
	}
	return v
}

// response reads the client's answer to the greeting, through TLS if it asks.
func (h *handshake) response() (*response, error) {
	p, err := h.read()
	if err != nil {
		return nil, err
	}
	if len(p) == 32 && h.door.tls != nil && p[1]&byte(clientSSL>>8) != 0 {
		t := tls.Server(h.nc, h.door.tls)
		if err := t.Handshake(); err != nil {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		h.nc = t
		if p, err = h.read(); err != nil {
			return nil, err
		}
	}
	r, err := parseResponse(p)
	if err != nil {
		return nil, errors.Join(err, &Fault{1043, "08S01", "Bad handshake"})
	}
	if r.extended &= h.extended; r.capability&wire.ClientLongPassword != 0 {
		r.extended = 0
	}
	r.capability &= offered
	_, secure := h.nc.(*tls.Conn)
	if h.door.cfg.TLS.Mode == "required" && !secure && h.nc.RemoteAddr().Network() != "unix" {
		return nil, &Fault{3159, "HY000", "Connections using insecure transport are prohibited while --require_secure_transport=ON."}
	}
	return r, nil
}

// read reads a packet within the budget.
func (h *handshake) read() ([]byte, error) {
	var b [wire.HeaderLen]byte
	if _, err := io.ReadFull(h.nc, b[:]); err != nil {
		return nil, fmt.Errorf("read from client: %w", err)
	}
	n := wire.PayloadLen(b[:])
	if h.left -= int64(n + wire.HeaderLen); h.left < 0 {
		return nil, errBudget
	}
	h.seq = b[3] + 1
	p := make([]byte, n)
	if _, err := io.ReadFull(h.nc, p); err != nil {
		return nil, fmt.Errorf("read from client: %w", err)
	}
	return p, nil
}

func (h *handshake) write(b []byte) error {
	_, err := h.nc.Write(b)
	return err
}

// ReadPacket and WritePacket make a handshake a packets for auth.
func (h *handshake) ReadPacket() ([]byte, error) { return h.read() }

// WritePacket writes one packet with the next sequence number.
func (h *handshake) WritePacket(p []byte) error {
	var b []byte
	b, h.seq = wire.AppendPacket(nil, h.seq, p)
	return h.write(b)
}

// authenticate proves who the client is. An account that does not exist is
// taken through the same steps as one with another password.
func (h *handshake) authenticate(r *response) (*config.User, error) {
	user := h.door.users[r.user]
	a := auth{door: h.door, packets: h, salt: h.salt[:], known: user != nil}
	_, a.secure = h.nc.(*tls.Conn)
	a.secure = a.secure || h.nc.RemoteAddr().Network() == "unix"
	if user != nil {
		a.password = user.Password.Reveal()
	}
	if err := a.run(h.door.plugin(user, r.plugin), r.plugin, r.proof); err != nil {
		return nil, h.denied(r, err)
	}
	return user, nil
}

func (h *handshake) denied(r *response, err error) error {
	if !errors.Is(err, errWrongPassword) {
		return err
	}
	return accessDenied(r.user, h.host(), len(r.proof) > 0)
}

func accessDenied(user, host string, password bool) *Fault {
	using := "NO"
	if password {
		using = "YES"
	}
	return &Fault{1045, "28000", fmt.Sprintf("Access denied for user '%s'@'%s' (using password: %s)", clip(user, 80), host, using)}
}

func clip(s string, n int) string { return s[:min(len(s), n)] }

// plugin is how the user authenticates: as configured, else as the client
// proposes where the proxy can do that, else by the default.
func (d *Door) plugin(user *config.User, proposed string) string {
	if user != nil && user.Plugin != "" {
		return user.Plugin
	}
	if proposed == pluginNative || proposed == pluginSHA2 {
		return proposed
	}
	return d.cfg.Auth.Plugin
}
