package lab

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"signalbox/internal/child"
	"signalbox/internal/sandbox"
)

const (
	endpoint = "127.0.0.1:3306"
	admin    = "127.0.0.1:9127"
	// replicaID is the replica's server_id, see sandbox.StartReplica.
	replicaID = 11
)

// front is the proxy before the lab, with agents in the guests and a replica.
type front struct {
	*Lab
	db      *sql.DB
	log     string // the proxy's, JSON
	proxy   *child.Process
	replica *sandbox.Replica
	begun   time.Time // the test that runs
	broken  string    // the test after which nothing is as it should be
}

var theFront struct {
	once sync.Once
	*front
	err error
}

// before returns the lab with the proxy before it, all healthy.
func before(t *testing.T) *front {
	t.Helper()
	l := theLab(t)
	theFront.once.Do(func() {
		theFront.front, theFront.err = startFront(l, shared.dir, shared.program)
	})
	if theFront.err != nil {
		t.Fatalf("the proxy did not start: %v", theFront.err)
	}
	f := theFront.front
	if f.broken != "" {
		t.Fatalf("%s left the lab broken", f.broken)
	}
	f.begun = time.Now()
	t.Cleanup(func() { f.explain(t) })
	must(t, f.awaitReason(t.Context(), "healthy"))
	must(t, f.replicaServes(t.Context()))
	return f
}

// explain prints, briefly and once for a test, what there is to know of a
// failure.
func (f *front) explain(t *testing.T) {
	if !t.Failed() || f.begun.IsZero() {
		return
	}
	begin := f.begun
	f.begun = time.Time{}
	for _, n := range f.Nodes {
		proc, _ := n.Proc(context.Background())
		log, _ := n.Run(context.Background(), "sed -n 's/.*T\\([0-9:.]*\\).*\\(state\\|action\\)=/\\1 /p' /run/agent.log | tail -n 15; dmesg | tail -n 12; tail -n 4 /run/mariadbd.log")
		t.Logf("%s:\n%s\n%s", n.Name, proc, log)
	}
	text, _ := os.ReadFile(f.log)
	var list []string
	for _, line := range strings.Split(string(text), "\n") {
		var e struct {
			Time                                     time.Time
			Msg, Writer, Reason, Event, Server, What string
		}
		if json.Unmarshal([]byte(line), &e) != nil || e.Time.Before(begin) {
			continue
		}
		switch e.Msg {
		case "authority":
			list = append(list, fmt.Sprintf("%s writer %q: %s", e.Time.Format("05.000"), e.Writer, e.Reason))
		case "server":
			list = append(list, fmt.Sprintf("%s %s %s: %s", e.Time.Format("05.000"), e.Server, e.Event, e.What))
		}
	}
	t.Logf("proxy since %s:\n%s", begin.Format("15:04:05"), strings.Join(list[max(0, len(list)-40):], "\n"))
	status, err := f.status(context.Background())
	t.Logf("status: %+v %v", status, err)
	var position string
	err = f.replica.Query(context.Background(), "SELECT CONCAT(@@gtid_slave_pos, ' ', (SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'SLAVE_RUNNING'))", &position)
	t.Logf("replica: %s %v", position, err)
}

// replicaServes waits until the replica has all that the writer has, and serves
// reads.
func (f *front) replicaServes(ctx context.Context) error {
	s, err := f.status(ctx)
	if err != nil {
		return err
	}
	var position string
	for _, n := range f.Nodes {
		if n.Name != s.Authority.Writer {
			continue
		}
		db, err := n.Open()
		if err != nil {
			return err
		}
		err = db.QueryRowContext(ctx, "SELECT @@gtid_binlog_pos").Scan(&position)
		_ = db.Close()
		if err != nil {
			return err
		}
	}
	var late int
	if err := f.replica.Query(ctx, fmt.Sprintf("SELECT MASTER_GTID_WAIT('%s', 60)", position), &late); err != nil {
		return err
	}
	if late != 0 {
		return fmt.Errorf("the replica has not come to %s in 60 s", position)
	}
	return condition(ctx, "the replica to serve", func() error { return f.read(ctx) })
}

// read reads as a client that has written nothing. It is an error when not the
// replica answers.
func (f *front) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	db, err := Open(endpoint)
	if err != nil {
		return err
	}
	defer db.Close()
	var id int
	if err := db.QueryRowContext(ctx, "SELECT @@server_id").Scan(&id); err != nil {
		return fmt.Errorf("a read: %w", err)
	}
	if id != replicaID {
		return fmt.Errorf("a read ran on server %d, not on the replica", id)
	}
	return nil
}

// agentConfig is the agent's file of a node. A named source that pushes polls
// so seldom that what is decided soon was pushed.
func agentConfig(dir string, n *Node, source string) string {
	poll := "100ms"
	if source == "netlink" || source == "events2" {
		poll = "2s"
	}
	return fmt.Sprintf(`node: %s
address: %s:7790
cert_file: %s/%s.pem
key_file: %s/%s.key
client_ca_file: %s/ca.pem
state_dir: /run/signalbox
drbd: {source: %s}
poll: %s
mysql: {address: "unix:/run/mysqld/s", user: signalbox, password: probe-secret, datadir: /mnt/data}
`, n.Name, n.Address, dir, n.Name, dir, n.Name, dir, source, poll)
}

func startFront(l *Lab, dir, program string) (*front, error) {
	ctx := context.Background()
	f := &front{Lab: l, log: filepath.Join(dir, "proxy.log")}
	if err := WriteCertificates(dir, map[string]string{"db1": l.Nodes[0].Address, "db2": l.Nodes[1].Address, "proxy": Host}); err != nil {
		return nil, err
	}
	for _, n := range l.Nodes {
		if err := f.startAgent(ctx, n, "auto"); err != nil {
			return nil, err
		}
	}
	var err error
	if f.replica, err = sandbox.StartReplica(ctx, 1, Floating, 3306); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "signalbox.yaml")
	if err := os.WriteFile(file, []byte(f.config(dir)), 0o600); err != nil {
		return nil, err
	}
	if f.proxy, err = child.Start("the proxy", f.log, exec.Command(program, "run", "-c", file)); err != nil {
		return nil, err
	}
	if f.db, err = Open(endpoint); err != nil {
		return nil, err
	}
	f.db.SetMaxIdleConns(16)
	return f, nil
}

func (f *front) config(dir string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `listeners: [{address: %q}]
admin: {address: %q}
users: [{name: %s, password: %s}]
health: {user: signalbox, password: probe-secret, interval: 200ms}
hold: {timeout: 60s}
agents: {ca_file: %s/ca.pem, cert_file: %s/proxy.pem, key_file: %s/proxy.key}
log: {format: json}
servers:
  - {name: r1, role: replica, address: %q}
`, endpoint, admin, User, Password, dir, dir, dir, f.replica.Address())
	for _, n := range f.Nodes {
		fmt.Fprintf(&b, "  - {name: %s, role: drbd, address: \"%s:3306\", drbd: {agent: \"https://%s:7790\"}}\n", n.Name, n.Address, n.Address)
	}
	return b.String()
}

// startAgent starts the agent in a guest, as a user without any privilege.
func (f *front) startAgent(ctx context.Context, n *Node, source string) error {
	dir := shared.dir
	if err := os.WriteFile(filepath.Join(dir, n.Name+".yaml"), []byte(agentConfig(dir, n, source)), 0o600); err != nil {
		return err
	}
	script := fmt.Sprintf("mkdir -p /run/signalbox && cp %s/%s.yaml %s/%s.pem %s/%s.key %s/ca.pem /run/signalbox/ && sed -i 's|%s/|/run/signalbox/|' /run/signalbox/*.yaml && chown -R 65534 /run/signalbox && chmod 755 /run/mysqld",
		dir, n.Name, dir, n.Name, dir, n.Name, dir, dir)
	if err := n.run(ctx, script); err != nil {
		return err
	}
	// Scheduled as in examples/systemd.
	command := fmt.Sprintf("chrt --rr 1 setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all %s agent -c /run/signalbox/%s.yaml",
		filepath.Join(dir, "signalbox"), n.Name)
	if err := n.Spawn(ctx, "agent", command); err != nil {
		return err
	}
	return condition(ctx, "the agent of "+n.Name, func() error {
		c, err := net.DialTimeout("tcp", n.Address+":7790", time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

// restartAgent starts a node's agent anew, with another source.
func (f *front) restartAgent(ctx context.Context, n *Node, source string) error {
	if err := n.run(ctx, `p=$(cat /run/agent.pid); kill "$p"; while kill -0 "$p" 2>/dev/null; do sleep 0.05; done; true`); err != nil {
		return err
	}
	return f.startAgent(ctx, n, source)
}

// notify tells a node's agent, on the node.
func (f *front) notify(ctx context.Context, at *Node, args string) error {
	return at.run(ctx, fmt.Sprintf("%s notify -c /run/signalbox/%s.yaml %s", filepath.Join(shared.dir, "signalbox"), at.Name, args))
}

// status is what the tests need of /status.
type status struct {
	Authority struct {
		Writer, Reason, Sentence string
		Nodes                    []struct{ Node, Source, Summary, Reason string }
	}
	Waiting int
	Servers []struct {
		Name string
		Up   bool
		Lag  *float64 `json:"lag_seconds"`
	}
}

func (f *front) status(ctx context.Context) (s status, err error) {
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+admin+"/status", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// awaitReason waits until the status page gives one of the reasons.
func (f *front) awaitReason(ctx context.Context, reasons ...string) error {
	return condition(ctx, strings.Join(reasons, " or "), func() error {
		s, err := f.status(ctx)
		if err != nil {
			return err
		}
		for _, r := range reasons {
			if s.Authority.Reason == r {
				return nil
			}
		}
		return fmt.Errorf("the authority is %q, %s: %s", s.Authority.Writer, s.Authority.Reason, s.Authority.Sentence)
	})
}

// restore makes everything as it was, with survivor's data.
func (f *front) restore(t *testing.T, survivor *Node) {
	t.Helper()
	f.explain(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	err := f.Restore(ctx, survivor)
	for _, n := range f.Nodes {
		if err == nil && n.run(ctx, "kill -0 $(cat /run/agent.pid)") != nil {
			err = f.startAgent(ctx, n, "auto")
		}
		if err == nil {
			err = f.notify(ctx, n, "promote "+n.Name) // forget an announced demotion
		}
	}
	if err == nil {
		err = f.awaitReason(ctx, "healthy")
	}
	if err != nil {
		f.broken = t.Name()
		t.Fatalf("the lab could not be restored: %v", err)
	}
}

// interval is a time in which the proxy had one writer, from the proxy's log.
type interval struct {
	writer   string
	epoch    uint64
	from, to time.Time
}

// epochs reads the writers from the proxy's log.
func (f *front) epochs() ([]interval, error) {
	text, err := os.ReadFile(f.log)
	if err != nil {
		return nil, err
	}
	var list []interval
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			Time   time.Time `json:"time"`
			Msg    string    `json:"msg"`
			Writer string    `json:"writer"`
			Epoch  uint64    `json:"epoch"`
			Reason string    `json:"reason"`
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Msg != "authority" {
			continue
		}
		if n := len(list); n > 0 && list[n-1].to.IsZero() {
			if list[n-1].epoch == e.Epoch && (e.Writer != "" || e.Reason == "demoting") {
				continue
			}
			list[n-1].to = e.Time
		}
		if e.Writer != "" {
			list = append(list, interval{writer: e.Writer, epoch: e.Epoch, from: e.Time})
		}
	}
	return list, nil
}

// recorder is clients that write through the proxy and remember what was
// acknowledged.
type recorder struct {
	f     *front
	table string
	stop  context.CancelFunc
	group sync.WaitGroup

	mu   sync.Mutex // guards what follows
	acks []ack
	errs []error
}

// ack is one acknowledged write.
type ack struct {
	client, id int
	from, to   time.Time
}

const recorders = 8

// record starts the clients.
func (f *front) record(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{f: f, table: fmt.Sprintf("w%d", time.Now().UnixNano())}
	create := "CREATE TABLE " + r.table + " (client INT, id INT, host VARCHAR(20), PRIMARY KEY (client, id))"
	if _, err := f.db.ExecContext(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	for c := range recorders {
		r.group.Go(func() { r.client(ctx, c) })
	}
	t.Cleanup(func() { cancel(); r.group.Wait() })
	r.more(t)
	return r
}

func (r *recorder) client(ctx context.Context, c int) {
	for id := 1; ctx.Err() == nil; id++ {
		a := ack{client: c, id: id, from: time.Now()}
		_, err := r.f.db.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s VALUES (%d, %d, @@hostname)", r.table, c, id))
		a.to = time.Now()
		r.mu.Lock()
		if err == nil {
			r.acks = append(r.acks, a)
		} else if ctx.Err() == nil {
			r.errs = append(r.errs, err)
		}
		r.mu.Unlock()
		pause := time.NewTimer(20 * time.Millisecond) // a guest is slow; the load is not the point
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.acks)
}

// more waits until writes are acknowledged again.
func (r *recorder) more(t *testing.T) {
	t.Helper()
	mark := r.count()
	err := condition(t.Context(), "writes to be acknowledged", func() error {
		if r.count() < mark+2*recorders {
			return fmt.Errorf("%d are, from %d; errors: %v", r.count(), mark, errors.Join(r.errs...))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// check stops the clients and compares what was acknowledged with the node:
// every row must be there, and be from a node in its epoch.
func (r *recorder) check(t *testing.T, survivor *Node) {
	t.Helper()
	r.stop()
	r.group.Wait()
	db, err := survivor.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT client, id, host FROM "+r.table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	hosts := make(map[[2]int]string)
	for rows.Next() {
		var c, id int
		var host string
		if err := rows.Scan(&c, &id, &host); err != nil {
			t.Fatal(err)
		}
		hosts[[2]int{c, id}] = host
	}
	epochs, err := r.f.epochs()
	if err != nil {
		t.Fatal(err)
	}
	lost, outside := 0, 0
	for _, a := range r.acks {
		host, ok := hosts[[2]int{a.client, a.id}]
		if !ok {
			lost++
			continue
		}
		within := false
		for _, e := range epochs {
			within = within || e.writer == host && !e.from.After(a.to) && (e.to.IsZero() || !e.to.Before(a.from))
		}
		if !within {
			outside++
			t.Logf("row %d/%d on %s, %s to %s", a.client, a.id, host, a.from, a.to)
		}
	}
	t.Logf("%d writes acknowledged, %d rows on %s, %d errors, %d epochs", len(r.acks), len(hosts), survivor.Name, len(r.errs), len(epochs))
	if len(r.errs) > 0 {
		t.Logf("the first error: %v", r.errs[0])
	}
	if lost > 0 || outside > 0 {
		t.Errorf("%d acknowledged writes are lost, %d were made outside their node's epoch", lost, outside)
	}
}

func (f *front) close() {
	if f == nil {
		return
	}
	if f.db != nil {
		_ = f.db.Close()
	}
	if f.proxy != nil {
		f.proxy.Stop(runPatience)
	}
	if f.replica != nil {
		f.replica.Stop()
	}
}
