package agent

import (
	"bufio"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"signalbox/drbdwatch"
)

// NoticePath is where signalbox notify posts a Notice.
const NoticePath = "/v1/notify"

// Notice is what a cluster manager or fencing agent tells an agent.
type Notice struct {
	Action string        `json:"action"` // promote, demote, fenced or unfenced
	Node   string        `json:"node"`
	Wait   time.Duration `json:"wait_ns"` // demote: how long to wait for the proxies
}

// Noticed is the answer to a Notice.
type Noticed struct {
	Proxies int    `json:"proxies"`           // that hear this agent
	Writing int    `json:"writing"`           // of them, that may still write to the node
	Message string `json:"message,omitempty"` // for people
}

// Bounds of what the agent serves.
const (
	mostStreams  = 128
	mostNotice   = 4 << 10 // bytes
	mostWait     = 5 * time.Minute
	writeTimeout = 5 * time.Second  // a proxy that does not read is dropped
	silence      = 30 * time.Second // and one that does not ping
)

// Handler serves streams and notices to whoever has the right credentials.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+drbdwatch.StreamPath, a.serveStream)
	mux.HandleFunc("POST "+NoticePath, a.serveNotice)
	mux.HandleFunc("GET /metrics", a.serveMetrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	token := []byte("Bearer " + a.cfg.Token.Reveal())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.cfg.Token != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), token) != 1 {
			a.refuse(r.RemoteAddr, "wrong token")
			http.Error(w, "the token is wrong or missing: set agents.token to the agent's token", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (a *Agent) refuse(who, why string) {
	a.mu.Lock()
	a.refused++
	a.mu.Unlock()
	a.log.Warn("refused", "client", who, "why", why)
}

// Serve serves Handler on ln until ctx ends.
func (a *Agent) Serve(ctx context.Context, ln net.Listener) error {
	if a.cfg.CertFile != "" {
		t, err := a.tls()
		if err != nil {
			return err
		}
		ln = tls.NewListener(ln, t)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{Handler: a.Handler(), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(a.log.Handler(), slog.LevelDebug)}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := srv.Shutdown(patience); err != nil {
			_ = srv.Close()
		}
		stopped <- nil
	})
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	}
	return <-stopped
}

func (a *Agent) tls() (*tls.Config, error) {
	if _, err := tls.LoadX509KeyPair(a.cfg.CertFile, a.cfg.KeyFile); err != nil {
		return nil, fmt.Errorf("cert_file: %w", err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		// Read anew for each connection, so that a certificate can be renewed.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(a.cfg.CertFile, a.cfg.KeyFile)
			return &pair, err
		}}
	if a.cfg.ClientCA == "" {
		return t, nil
	}
	pem, err := os.ReadFile(a.cfg.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("client_ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("client_ca_file: %s holds no PEM certificate", a.cfg.ClientCA)
	}
	// Verified here rather than by crypto/tls, so that a refusal is counted.
	t.ClientAuth = tls.RequireAnyClientCert
	t.VerifyConnection = func(s tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: pool, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		for _, c := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(c)
		}
		if _, err := s.PeerCertificates[0].Verify(o); err != nil {
			a.refuse(s.PeerCertificates[0].Subject.String(), err.Error())
			return fmt.Errorf("client certificate: %w", err)
		}
		return nil
	}
	return t, nil
}

// stream is one proxy that listens.
type stream struct {
	mu    sync.Mutex // guards what follows
	ping  uint64     // number of the last ping read
	using bool       // the proxy may write to this node
	asked uint64     // the ping after which using answers the demotion
}

func (s *stream) heard() (ping uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ping
}

func (a *Agent) serveStream(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	if err := control.EnableFullDuplex(); err != nil {
		http.Error(w, "this connection cannot carry a stream", http.StatusHTTPVersionNotSupported)
		return
	}
	s := new(stream)
	if !a.enter(s) {
		http.Error(w, "too many proxies listen already", http.StatusServiceUnavailable)
		return
	}
	defer a.leave(s)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	defer func() { _ = control.SetReadDeadline(time.Unix(1, 0)) }() // ends the reading below
	group.Go(func() {
		defer cancel()
		a.hear(s, r.Body, control)
	})
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	if err := a.tell(ctx, s, w, control); err != nil {
		a.log.Info("stream ended", "proxy", r.RemoteAddr, "reason", err)
	}
}

func (a *Agent) enter(s *stream) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.streams) >= mostStreams {
		return false
	}
	a.streams[s] = struct{}{}
	return true
}

func (a *Agent) leave(s *stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.streams, s)
	a.wake() // a demotion may wait for it
}

// hear reads pings until the proxy is gone.
func (a *Agent) hear(s *stream, body io.Reader, control *http.ResponseController) {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 512), mostNotice)
	for lines.Scan() {
		_ = control.SetReadDeadline(time.Now().Add(silence))
		var p drbdwatch.Ping
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			a.log.Warn("a proxy sent no ping", "error", err)
			return
		}
		s.mu.Lock()
		changed := p.Using != s.using
		s.ping, s.using = p.Number, p.Using
		waited := s.asked != 0 && p.Number >= s.asked
		s.mu.Unlock()
		if len(p.Void) > 0 {
			if any, err := a.notices.void(p.Void); any || err != nil {
				a.log.Info("confirmed fencing is void: a proxy has seen the node since", "ids", p.Void, "error", err)
				a.tellAll()
			}
		}
		if changed || waited {
			a.mu.Lock()
			a.wake()
			a.mu.Unlock()
		}
	}
}

// tell writes reports until the proxy is gone.
func (a *Agent) tell(ctx context.Context, s *stream, w io.Writer, control *http.ResponseController) error {
	seq, samples := uint64(0), uint64(0)
	beat := time.NewTicker(a.cfg.Interval)
	defer beat.Stop()
	for {
		report, counted, next := a.report(samples)
		seq++
		samples = counted
		report.Seq, report.Echo = seq, s.heard()
		line, err := json.Marshal(report)
		if err != nil {
			return fmt.Errorf("encode a report: %w", err)
		}
		if report.Leaving {
			s.mu.Lock()
			if s.asked == 0 {
				s.asked = report.Echo + 2 // the next ping may have been written before this is read
			}
			s.mu.Unlock()
		}
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		if err := control.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		case <-beat.C:
		}
	}
}

// tellAll makes every stream report a change that notices brought.
func (a *Agent) tellAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.news()
}

func (a *Agent) serveNotice(w http.ResponseWriter, r *http.Request) {
	var n Notice
	d := json.NewDecoder(io.LimitReader(r.Body, mostNotice))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		http.Error(w, "not a notice: "+err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := a.notice(r.Context(), &n)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	a.log.Info("notice", "action", n.Action, "node", n.Node, "proxies", answer.Proxies, "writing", answer.Writing)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// notice takes what a cluster manager says. A demotion returns when every proxy
// that listens has stopped writing here, or the wait is over.
func (a *Agent) notice(ctx context.Context, n *Notice) (*Noticed, error) {
	own := n.Node == a.cfg.Node
	switch {
	case n.Action == "fenced" && own:
		return nil, fmt.Errorf("this agent speaks for %s, which is evidently not off; tell the agent of another node", n.Node)
	case n.Action == "fenced" && n.Node != "":
		if err := a.notices.fence(n.Node); err != nil {
			return nil, err
		}
	case n.Action == "unfenced" && n.Node != "":
		any, err := a.notices.unfence(n.Node)
		if err == nil && !any {
			err = fmt.Errorf("%s was not confirmed to be off", n.Node)
		}
		if err != nil {
			return nil, err
		}
	case (n.Action == "promote" || n.Action == "demote") && !own:
		return nil, fmt.Errorf("this agent speaks for %s, not for %s; tell the agent of that node", a.cfg.Node, n.Node)
	case n.Action == "promote":
		a.notices.left()
	case n.Action == "demote":
		a.forgetAsked()
		a.notices.demote()
	default:
		return nil, fmt.Errorf("%q is none of promote, demote, fenced and unfenced, or the node is missing", n.Action)
	}
	a.tellAll()
	if n.Action == "demote" {
		ctx, cancel := context.WithTimeout(ctx, min(n.Wait, mostWait))
		defer cancel()
		return a.drained(ctx), nil
	}
	listening, _ := a.writers()
	return &Noticed{Proxies: listening}, nil
}

// drained waits until no proxy writes here.
func (a *Agent) drained(ctx context.Context) *Noticed {
	for {
		a.mu.Lock()
		next := a.changed
		a.mu.Unlock()
		listening, writing := a.writers()
		if writing == 0 {
			return &Noticed{Proxies: listening, Message: "no proxy writes here any more"}
		}
		select {
		case <-next:
		case <-ctx.Done():
			return &Noticed{Proxies: listening, Writing: writing, Message: "the wait is over"}
		}
	}
}

func (a *Agent) forgetAsked() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s := range a.streams {
		s.mu.Lock()
		s.asked = 0
		s.mu.Unlock()
	}
}

// writers counts the proxies that listen, and those of them that have not said
// since the demotion that they stopped writing.
func (a *Agent) writers() (listening, writing int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s := range a.streams {
		s.mu.Lock()
		if s.using || s.asked == 0 || s.ping < s.asked {
			writing++
		}
		s.mu.Unlock()
	}
	return len(a.streams), writing
}

// serveMetrics is in Prometheus's text format.
func (a *Agent) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	leaving, fences := a.notices.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	flag := map[bool]int{true: 1}
	fmt.Fprintf(w, "signalbox_agent_info{node=%q,source=%q} 1\n", a.cfg.Node, a.sample.Source)
	fmt.Fprintf(w, "signalbox_agent_sample_age_seconds %g\n", time.Since(a.sample.At).Seconds())
	fmt.Fprintf(w, "signalbox_agent_state_known %d\n", flag[a.sample.State != nil])
	fmt.Fprintf(w, "signalbox_agent_samples_total %d\n", a.samples)
	fmt.Fprintf(w, "signalbox_agent_proxies %d\n", len(a.streams))
	fmt.Fprintf(w, "signalbox_agent_refused_total %d\n", a.refused)
	fmt.Fprintf(w, "signalbox_agent_leaving %d\n", flag[leaving])
	fmt.Fprintf(w, "signalbox_agent_fenced_nodes %d\n", len(fences))
}
