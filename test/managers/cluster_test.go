package managers

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signalbox/internal/child"
	"signalbox/internal/poll"
	"signalbox/internal/sandbox"
)

const patience = time.Minute

// cluster is a sandbox, an agent beside each node, a proxy that hears them, and
// the steps that cluster managers take.
type cluster struct {
	*sandbox.Cluster
	t                         *testing.T // of the whole test, not a part of it
	dir, self, binary, socket string
	files                     map[string]string // an agent's configuration
	addresses                 map[string]string
	agents                    map[string]*child.Process
	db                        *sql.DB // through the proxy
	steps                     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	journal []string
	on      map[string]bool // what is started
}

func start(t *testing.T) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers")
	}
	box, err := sandbox.Start(t.Context(), sandbox.Options{Replicas: 1})
	if err != nil {
		if os.Getenv("SIGNALBOX_E2E") == "required" {
			t.Fatal(err)
		}
		skipped(t, "cluster managers", err)
	}
	t.Cleanup(box.Stop)
	c := &cluster{Cluster: box, t: t, files: make(map[string]string), addresses: make(map[string]string), agents: make(map[string]*child.Process), on: make(map[string]bool)}
	if c.dir, err = os.MkdirTemp("", "sbm"); err != nil { // short: it has sockets
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(c.dir) })
	if c.self, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	if c.binary, err = program(); err != nil {
		t.Fatal(err)
	}
	c.serveSteps(t)
	for _, node := range []string{"db1", "db2"} {
		c.addresses[node] = freeAddress(t)
		c.files[node] = write(t, filepath.Join(c.dir, node+".yaml"), box.AgentConfig(node, c.addresses[node]), 0o600)
		c.startAgent(t, node)
	}
	proxy := write(t, filepath.Join(c.dir, "signalbox.yaml"), box.ConfigAgents(c.addresses), 0o600)
	c.spawn(t, "proxy", "run", "-c", proxy)
	if c.db, err = sql.Open("mysql", sandbox.DSN(box.Endpoint())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.db.Close() })
	c.awaitReason(t, "healthy")
	if _, err := c.db.ExecContext(t.Context(), "CREATE TABLE load_test (run INT, client INT, id BIGINT, PRIMARY KEY (run, client, id))"); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"fs", "ip", "signalbox"} {
		c.on["db1 "+what] = true
	}
	return c
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// spawn runs the program under test until the whole test ends.
func (c *cluster) spawn(t *testing.T, name string, args ...string) *child.Process {
	t.Helper()
	log, err := os.CreateTemp(c.dir, name)
	if err != nil {
		t.Fatal(err)
	}
	_ = log.Close()
	p, err := child.Start(name, log.Name(), exec.Command(c.binary, args...))
	if err != nil {
		t.Fatal(err)
	}
	c.t.Cleanup(func() {
		p.Kill()
		if c.t.Failed() {
			text, _ := os.ReadFile(p.Log)
			c.t.Logf("%s:\n%s", name, text)
		}
	})
	return p
}

func (c *cluster) startAgent(t *testing.T, node string) {
	t.Helper()
	c.agents[node] = c.spawn(t, "agent-"+node, "agent", "-c", c.files[node])
	await(t, func(ctx context.Context) error {
		_, err := get(ctx, "http://"+c.addresses[node]+"/healthz")
		return err
	})
}

func (c *cluster) killAgent(node string) { c.agents[node].Kill() }

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

func await(t *testing.T, ready func(context.Context) error) {
	t.Helper()
	if err := poll.Until(t.Context(), patience, ready); err != nil {
		t.Fatal(err)
	}
}

// authority is who may take writes, and why, as the proxy's status page has it.
func (c *cluster) authority(ctx context.Context) (writer, reason string, err error) {
	text, err := get(ctx, "http://"+c.Admin()+"/status")
	var s struct {
		Authority struct{ Writer, Reason string }
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &s)
	}
	return s.Authority.Writer, s.Authority.Reason, err
}

func (c *cluster) awaitReason(t *testing.T, want string) {
	t.Helper()
	await(t, func(ctx context.Context) error {
		_, reason, err := c.authority(ctx)
		if err == nil && reason != want {
			err = fmt.Errorf("the authority's reason is %s, want %s", reason, want)
		}
		return err
	})
}

// load is clients that write one statement at a time and read it back.
type load struct {
	acknowledged [8]atomic.Int64
	mu           sync.Mutex
	errs         []error
}

var runs atomic.Int64

// underLoad has the clients at work before, while and after move runs, and
// demands that no statement fails and that no acknowledged write is lost.
func (c *cluster) underLoad(t *testing.T, move func()) {
	t.Helper()
	var l load
	var group sync.WaitGroup
	run := runs.Add(1)
	ctx, stop := context.WithCancel(t.Context())
	defer group.Wait()
	defer stop()
	for client := range l.acknowledged {
		group.Go(func() { l.client(ctx, t, c.db, run, client) })
	}
	l.progress(t)
	move()
	l.progress(t)
	stop()
	group.Wait()
	var want, rows int64
	for client := range l.acknowledged {
		want += l.acknowledged[client].Load()
	}
	if err := c.Query(t.Context(), c.Active(), fmt.Sprintf("SELECT COUNT(*) FROM shop.load_test WHERE run=%d", run), &rows); err != nil || rows != want {
		t.Errorf("%d rows, %d were acknowledged (%v)", rows, want, err)
	}
	t.Logf("%d writes, %d errors", want, len(l.errs))
	for i, err := range l.errs[:min(3, len(l.errs))] {
		t.Errorf("error %d of %d: %v", i+1, len(l.errs), err)
	}
}

func (l *load) client(ctx context.Context, t *testing.T, db *sql.DB, run int64, client int) {
	for id := int64(1); ctx.Err() == nil; id++ {
		_, err := db.ExecContext(t.Context(), "INSERT INTO load_test VALUES (?,?,?)", run, client, id)
		if err == nil {
			l.acknowledged[client].Store(id)
			continue
		}
		l.mu.Lock()
		l.errs = append(l.errs, err)
		l.mu.Unlock()
	}
}

// progress waits until every client has written twice more.
func (l *load) progress(t *testing.T) {
	t.Helper()
	var mark [len(l.acknowledged)]int64
	for i := range mark {
		mark[i] = l.acknowledged[i].Load()
	}
	await(t, func(context.Context) error {
		for i := range mark {
			if l.acknowledged[i].Load() < mark[i]+2 {
				return errors.New("a client makes no progress")
			}
		}
		return nil
	})
}

// run runs a program of a manager with more environment, and returns what it
// printed and its exit status.
func (c *cluster) run(t *testing.T, env []string, name string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// isolated is a survivor: db1 has lost its power, and nobody hears its agent;
// promote has db2 promoted by its manager. db2 is not permitted to write.
func (c *cluster) isolated(t *testing.T, promote func()) {
	t.Helper()
	if c.Active() != "db1" {
		t.Fatalf("%s is active, want db1", c.Active())
	}
	lost := c.PowerCut()
	c.killAgent(lost)
	for _, what := range []string{"fs", "ip"} {
		c.mu.Lock()
		c.on["db1 "+what] = false
		c.mu.Unlock()
	}
	c.awaitReason(t, "no-fresh-view") // no manager promotes at once
	promote()
	c.awaitReason(t, "peer-unreachable")
}

// stillHeld checks that the survivor has no evidence, and no permission.
func (c *cluster) stillHeld(t *testing.T, after string) {
	t.Helper()
	text, err := get(t.Context(), "http://"+c.addresses["db2"]+"/metrics")
	if err != nil || !strings.Contains(text, "signalbox_agent_fenced_nodes 0\n") {
		t.Errorf("%s was taken for evidence (%v)", after, err)
	}
	if writer, reason, err := c.authority(t.Context()); err != nil || writer != "" {
		t.Errorf("after %s the writer is %q (%s, %v), want none", after, writer, reason, err)
	}
}

// permitted waits until the survivor takes a write through the proxy, and then
// brings db1 back as Secondary, which ends the evidence.
func (c *cluster) permitted(t *testing.T) {
	t.Helper()
	if _, err := c.db.ExecContext(t.Context(), "INSERT INTO load_test VALUES (0,?,0)", runs.Add(1)); err != nil {
		t.Errorf("a write on the survivor: %v", err)
	}
	if writer, reason, err := c.authority(t.Context()); err != nil || writer != "db2" {
		t.Errorf("the writer is %q (%s, %v), want db2", writer, reason, err)
	}
	c.startAgent(t, "db1")
	c.Return("db1")
	c.awaitReason(t, "healthy")
	await(t, func(ctx context.Context) error {
		text, err := get(ctx, "http://"+c.addresses["db2"]+"/metrics")
		if err == nil && !strings.Contains(text, "signalbox_agent_fenced_nodes 0\n") {
			err = errors.New("db1 is back, and the evidence that it is off was not dropped")
		}
		return err
	})
}
