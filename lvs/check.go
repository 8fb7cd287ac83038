package lvs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"signalbox/config"
	"signalbox/internal/ask"
)

// check is how a listed server's health is found out. Servers of several
// services with equal checks share one.
type check struct {
	id     string
	server string
	to     netip.AddrPort
	cfg    config.LVSCheck
}

func newCheck(t *config.LVSTarget, s *config.LVSService) check {
	c := check{server: t.Name, cfg: t.Check}
	port := uint16(t.Check.Port)
	if port == 0 {
		port = t.Port
	}
	if port == 0 && s.Mark == 0 {
		port, _, _ = s.PortRange()
	}
	c.to = netip.AddrPortFrom(t.Address, port)
	k := t.Check
	c.id = fmt.Sprintf("%s %s %q", k.Type, c.to, []string{k.User, k.Password.Reveal(), k.Query, k.Path, k.Host, strconv.Itoa(k.Status),
		strings.Join(k.Command, "\x00"), k.Interval.String(), k.Timeout.String(), strconv.Itoa(k.Rise), strconv.Itoa(k.Fall)})
	return c
}

// checks are the distinct checks of the configuration.
func checks(cfg *config.Config) []check {
	var list []check
	seen := make(map[string]bool)
	for i := range cfg.LVS.Services {
		for _, t := range cfg.LVSTargets(i) {
			if t.Cluster {
				continue
			}
			if c := newCheck(&t, &cfg.LVS.Services[i]); !seen[c.id] {
				seen[c.id] = true
				list = append(list, c)
			}
		}
	}
	return list
}

// tally turns results into verdicts by rise and fall counts.
type tally struct {
	seen, up bool
	run      int // results in a row that speak against up
}

// take counts a result. The first settles it, and a refused connection means
// down at once.
func (t tally) take(err error, rise, fall int) tally {
	first := !t.seen
	t.seen = true
	need := rise
	if t.up {
		need = fall
	}
	if t.run++; (err == nil) == t.up {
		t.run = 0
	}
	refused := errors.Is(err, syscall.ECONNREFUSED)
	if first || t.run > 0 && (t.run >= need || refused) {
		t.up, t.run = err == nil, 0
	}
	return t
}

// verdict puts the tally in words.
func (t tally) verdict(err error) Verdict {
	switch {
	case err != nil && t.up:
		return Verdict{Healthy: true, Why: "answers, though not the last time: " + err.Error()}
	case err != nil:
		return Verdict{Why: err.Error()}
	case !t.up:
		return Verdict{Why: "answers again"}
	}
	return Verdict{Healthy: true, Why: "answers"}
}

// prober carries one check out, again and again, over what it keeps open.
type prober struct {
	check check
	asker ask.Asker // of type mysql
}

func newProber(c check) *prober {
	return &prober{check: c, asker: ask.Asker{Network: "tcp", Address: c.to.String(), User: c.cfg.User, Password: c.cfg.Password.Reveal(),
		Program: "signalbox check"}}
}

// run is one result within the check's timeout.
func (p *prober) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, p.check.cfg.Timeout)
	defer cancel()
	switch p.check.cfg.Type {
	case "none":
		return nil
	case "mysql":
		err = p.mysql(ctx)
	case "http":
		err = p.http(ctx)
	case "command":
		err = p.command(ctx)
	default:
		err = p.tcp(ctx)
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no answer within %s", p.check.cfg.Timeout)
	}
	return err
}

// tcp says goodbye first and waits for the other side's, so that the server sees
// an ordinary end and no reset.
func (p *prober) tcp(ctx context.Context) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", p.check.to.String())
	if err != nil {
		return err
	}
	defer nc.Close()
	if c, ok := nc.(*net.TCPConn); ok {
		_ = c.CloseWrite()
	}
	_ = nc.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = io.Copy(io.Discard, io.LimitReader(nc, 64<<10))
	return nil
}

func (p *prober) http(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.check.to.String()+p.check.cfg.Path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", "signalbox check")
	r.Close = true
	if p.check.cfg.Host != "" {
		r.Host = p.check.cfg.Host
	}
	t := &http.Transport{DisableKeepAlives: true}
	resp, err := t.RoundTrip(r) // one request, no redirects
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode != p.check.cfg.Status {
		return fmt.Errorf("GET %s gives %d, not %d", p.check.cfg.Path, resp.StatusCode, p.check.cfg.Status)
	}
	return nil
}

func (p *prober) command(ctx context.Context) error {
	c := exec.CommandContext(ctx, p.check.cfg.Command[0], p.check.cfg.Command[1:]...)
	c.Env = append(c.Environ(), "SIGNALBOX_ADDRESS="+p.check.to.Addr().String(), "SIGNALBOX_PORT="+strconv.Itoa(int(p.check.to.Port())),
		"SIGNALBOX_SERVER="+p.check.server)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) } // with its children
	c.WaitDelay = time.Second
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w", p.check.cfg.Command[0], err)
	}
	return nil
}

// mysql logs in, or uses the connection it has, and asks.
func (p *prober) mysql(ctx context.Context) error {
	return plain(p.asker.Do(ctx, func(c *client.Conn) error {
		r, err := c.Execute(p.check.cfg.Query)
		if err != nil {
			return err
		}
		defer r.Close()
		if !r.HasResultset() || r.RowNumber() == 0 {
			return errors.New("the check's query gives no row")
		}
		if v := ask.Cell(r.Resultset, 0); v == "" || v == "0" {
			return fmt.Errorf("the check's query gives %q", v)
		}
		return nil
	}))
}

// plain shortens the library's errors, which carry a stack.
func plain(err error) error {
	var my *mysql.MyError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &my) && my.Code == 1045:
		return errors.New("the check's account is refused: create it on the server, or set check.user")
	case errors.As(err, &my):
		return errors.New(my.Message)
	case errors.Is(err, syscall.ECONNREFUSED):
		return syscall.ECONNREFUSED
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(text)
}
