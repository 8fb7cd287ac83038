package drbdwatch

import (
	"bufio"
	"bytes"
	"context"
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
	"sync/atomic"
	"time"

	"signalbox/config"
)

// StreamPath is where an agent serves its stream: a POST whose body carries
// Pings, a line each, and whose answer carries Reports.
const StreamPath = "/v1/stream"

// stream hears one agent. It pings all the time and takes what the agent says
// to be as old as the last ping that the agent had read, so that reports that
// were stuck on their way cannot pass for new ones.
type stream struct {
	url       string
	client    *http.Client
	token     string
	heartbeat time.Duration
	fresh     time.Duration
	feed      *feed
	log       *slog.Logger

	connected atomic.Bool
	failures  [len(failureWords)]atomic.Uint64
}

// failure is why a stream ended or did not begin.
type failure uint8

const (
	failedUnreachable failure = iota // no connection, or it was lost
	failedRefused                    // by the agent, which does not trust this proxy
	failedUntrusted                  // the agent's certificate is not trusted
	failedMalformed                  // it said something that cannot be right
	failedFlood                      // it said too much
	failedSilent                     // it said nothing
)

var failureWords = [...]string{"unreachable", "refused", "untrusted", "malformed", "flood", "silent"}

type streamError struct {
	kind failure
	err  error
}

func (e *streamError) Error() string { return e.err.Error() }
func (e *streamError) Unwrap() error { return e.err }

func newStream(url string, cfg *config.Agents, f *feed, log *slog.Logger) (*stream, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("agents.ca_file: %w", err)
		}
		if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("agents.ca_file: %s holds no PEM certificate", cfg.CAFile)
		}
	}
	if cfg.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile); err != nil {
			return nil, fmt.Errorf("agents.cert_file: %w", err)
		}
		// Read anew for each connection, so that a certificate can be renewed.
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
			return &pair, err
		}
	}
	transport := &http.Transport{TLSClientConfig: t, DialContext: (&net.Dialer{Timeout: f.fresh}).DialContext,
		TLSHandshakeTimeout: f.fresh, ResponseHeaderTimeout: f.fresh, DisableKeepAlives: true, DisableCompression: true}
	return &stream{url: url + StreamPath, client: &http.Client{Transport: transport}, token: cfg.Token.Reveal(),
		heartbeat: cfg.Heartbeat, fresh: f.fresh, feed: f, log: log.With("node", f.node, "agent", url)}, nil
}

// Pauses between attempts to reach an agent.
const (
	firstPause = 50 * time.Millisecond
	mostPause  = time.Second
)

// run hears the agent until ctx ends, and connects again whenever that fails.
func (s *stream) run(ctx context.Context) {
	pause, told := firstPause, ""
	for ctx.Err() == nil {
		began := time.Now()
		err := s.hear(ctx)
		s.connected.Store(false)
		if ctx.Err() != nil {
			return
		}
		kind := failedUnreachable
		if e := (*streamError)(nil); errors.As(err, &e) {
			kind = e.kind
		}
		s.failures[kind].Add(1)
		s.feed.fail(err.Error())
		if failureWords[kind] != told {
			told = failureWords[kind]
			s.log.Warn("agent is not heard", "why", told, "error", err)
		}
		if pause *= 2; time.Since(began) > s.fresh {
			pause, told = firstPause, ""
		}
		wait := time.NewTimer(min(pause, mostPause))
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// hear connects once and takes reports until something is wrong.
func (s *stream) hear(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body, pings := io.Pipe()
	p := &pinger{heartbeat: s.heartbeat, feed: s.feed}
	p.sent[0].Store(new(time.Now()))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, body)
	if err != nil {
		return err
	}
	if s.token != "" {
		request.Header.Set("Authorization", "Bearer "+s.token)
	}
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel(nil) // before the wait
	defer pings.Close()
	group.Go(func() { p.run(ctx, pings) })
	response, err := s.client.Do(request)
	if err != nil {
		if untrusted(err) {
			return &streamError{failedUntrusted, err}
		}
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		return &streamError{failedRefused, fmt.Errorf("%s answers %s: %s", s.url, response.Status, bytes.TrimSpace(text))}
	}
	silent := time.AfterFunc(s.fresh, func() {
		cancel(&streamError{failedSilent, fmt.Errorf("%s has said nothing for %s", s.url, s.fresh)})
	})
	defer silent.Stop()
	err = s.take(response.Body, p, silent)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// untrusted tells whether TLS failed over who the agent is, or who this proxy
// is to it.
func untrusted(err error) bool {
	var c *tls.CertificateVerificationError
	var a tls.AlertError
	return errors.As(err, &c) || errors.As(err, &a)
}

// mostReports is how many reports an agent may send in a second.
const mostReports = 500

// take reads reports.
func (s *stream) take(body io.Reader, p *pinger, silent *time.Timer) error {
	lines := bufio.NewReaderSize(body, 4096)
	var last Report
	second, count := time.Now(), 0
	for {
		line, err := readLine(lines)
		if err != nil {
			return err
		}
		r, err := ParseReport(line)
		if err == nil {
			err = s.plausible(r, &last)
		}
		at, ok := p.sentAt(r)
		if err == nil && !ok {
			err = fmt.Errorf("it echoes ping %d, which was not sent lately", r.Echo)
		}
		if err != nil {
			return &streamError{failedMalformed, fmt.Errorf("%s: %w", s.url, err)}
		}
		if now := time.Now(); now.Sub(second) > time.Second {
			second, count = now, 0
		}
		if count++; count > mostReports {
			return &streamError{failedFlood, fmt.Errorf("%s sent more than %d reports in a second", s.url, mostReports)}
		}
		silent.Reset(s.fresh)
		s.connected.Store(true)
		s.feed.report(r, at.Add(-r.Age))
		last = *r
	}
}

// plausible compares a report with the one before and the configuration.
func (s *stream) plausible(r, last *Report) error {
	if r.Node != s.feed.node {
		return fmt.Errorf("it speaks for node %q, this proxy has %q there", clip(r.Node), s.feed.node)
	}
	if last.Start != "" && (r.Start != last.Start || r.Boot != last.Boot || r.Seq <= last.Seq || r.Echo < last.Echo) {
		return fmt.Errorf("report %d of start %s follows %d of %s in one stream", r.Seq, clip(r.Start), last.Seq, clip(last.Start))
	}
	return nil
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var long []byte
	for {
		part, err := r.ReadSlice('\n')
		if err == nil && long == nil {
			return part, nil
		}
		long = append(long, part...)
		if len(long) > MaxLine {
			return nil, &streamError{failedFlood, fmt.Errorf("a line of more than %d bytes", MaxLine)}
		}
		if err != bufio.ErrBufferFull {
			return long, err
		}
	}
}

// pinger sends numbered pings and remembers when.
type pinger struct {
	heartbeat time.Duration
	feed      *feed
	number    atomic.Uint64
	sent      [256]atomic.Pointer[time.Time] // by number
}

// run writes pings until ctx ends or the agent is gone.
func (p *pinger) run(ctx context.Context, to io.WriteCloser) {
	defer to.Close()
	tick := time.NewTicker(p.heartbeat)
	defer tick.Stop()
	for {
		using, void, changed := p.feed.used()
		n := p.number.Load() + 1
		p.sent[n%uint64(len(p.sent))].Store(new(time.Now()))
		p.number.Store(n)
		line, _ := json.Marshal(Ping{Number: n, Using: using, Void: void}) // of two plain fields
		if _, err := to.Write(append(line, '\n')); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-changed:
		}
	}
}

// sentAt is when the ping that r echoes was sent; false when it was not, or too
// long ago to know.
func (p *pinger) sentAt(r *Report) (time.Time, bool) {
	if r == nil {
		return time.Time{}, false
	}
	n := p.number.Load()
	if r.Echo > n || n-r.Echo >= uint64(len(p.sent))-1 {
		return time.Time{}, false
	}
	return *p.sent[r.Echo%uint64(len(p.sent))].Load(), true
}

// use records whether this proxy may write to the node, and tells the agent.
func (f *feed) use(using bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.using != using {
		f.using = using
		f.answer()
	}
}

// answer has the agent pinged at once; the caller holds f.mu.
func (f *feed) answer() {
	if f.answerNow != nil {
		close(f.answerNow)
	}
	f.answerNow = make(chan struct{})
}

func (f *feed) used() (using bool, void []string, now <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.answerNow == nil {
		f.answerNow = make(chan struct{})
	}
	for _, e := range f.fences {
		if f.void[e.ID] {
			void = append(void, e.ID)
		}
	}
	return f.using, void, f.answerNow
}

// refute has the agent told that a fence is void.
func (f *feed) refute(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.void == nil {
		f.void = make(map[string]bool)
	}
	f.void[id] = true
}

// AgentStatus is what is known of the connection to one agent.
type AgentStatus struct {
	Node      string
	Connected bool
	Failures  map[string]uint64 // by reason
}

// Agents is the connections to all agents.
func (w *Watch) Agents() []AgentStatus {
	list := make([]AgentStatus, 0, len(w.streams))
	for _, s := range w.streams {
		a := AgentStatus{Node: s.feed.node, Connected: s.connected.Load(), Failures: make(map[string]uint64)}
		for i, word := range failureWords {
			a.Failures[word] = s.failures[i].Load()
		}
		list = append(list, a)
	}
	return list
}
