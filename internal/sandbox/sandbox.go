// Package sandbox is a real cluster on loopback: mariadbd or mysqld on one data
// directory that belongs to a stand-in DRBD pair, and real replicas. The demo,
// the tests and the benchmarks run on it.
//
// Only DRBD is a stand-in: two files in the format of /proc/drbd that change as
// real DRBD's would. Everything it starts ends with the process, and lives in
// one directory that Stop removes.
package sandbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	my "github.com/go-sql-driver/mysql"
)

// Options size a cluster.
type Options struct {
	Replicas   int  // 0 for two
	GeneralLog bool // log every statement of every server, see GeneralLog
	Distant    bool // replicas are reached over a way that Delay makes long
	Heartbeat  bool // the proxy writes a heartbeat, to tell lag in milliseconds
}

// Cluster is a running cluster: nodes db1 and db2, replicas r1, r2, ….
type Cluster struct {
	dir      string
	prog     *program
	options  Options
	nodes    [2]*instance
	replicas []*instance
	floating *forwarder   // the address that replicas follow
	ways     []*forwarder // to the replicas, with Options.Distant

	mu     sync.Mutex
	active int // the node whose mysqld runs; -1 for none
	front  int // port set aside for a proxy in front
	admin  int
}

// Start starts a cluster with db1 as Primary, and waits until the replicas
// follow. On failure nothing is left behind.
func Start(ctx context.Context, o Options) (c *Cluster, err error) {
	prog, err := findProgram()
	if err != nil {
		return nil, err
	}
	template, err := prog.template(ctx)
	if err != nil {
		return nil, err
	}
	if o.Replicas == 0 {
		o.Replicas = 2
	}
	dir, err := os.MkdirTemp("", "sbx")
	if err != nil {
		return nil, err
	}
	c = &Cluster{dir: dir, prog: prog, options: o, active: -1}
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	if err := c.layOut(ctx, template); err != nil {
		return nil, err
	}
	c.demoteBoth()
	if err := c.promote(ctx, 0); err != nil {
		return nil, err
	}
	if o.Heartbeat {
		grant := fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, CREATE ON %s.* TO '%s'@'%%'", Schema, probeUser)
		if err := c.nodes[0].do(ctx, grant); err != nil {
			return nil, err
		}
	}
	return c, c.startReplicas(ctx)
}

// layOut sets ports, directories and instances.
func (c *Cluster) layOut(ctx context.Context, template string) error {
	ports, err := freePorts(4 + c.options.Replicas)
	if err != nil {
		return err
	}
	c.front, c.admin = ports[0], ports[1]
	shared := filepath.Join(c.dir, "drbd0")
	if err := copyData(ctx, template, shared); err != nil {
		return err
	}
	for n := range c.nodes {
		c.nodes[n] = c.instance(fmt.Sprintf("db%d", n+1), shared, ports[2+n], "--server-id=1")
	}
	for r := range c.options.Replicas {
		name := fmt.Sprintf("r%d", r+1)
		data := filepath.Join(c.dir, name)
		if err := copyData(ctx, template, data); err != nil {
			return err
		}
		c.replicas = append(c.replicas, c.instance(name, data, ports[4+r], fmt.Sprintf("--server-id=%d", 11+r), "--read-only=ON"))
	}
	if c.floating, err = newForwarder(); err != nil || !c.options.Distant {
		return err
	}
	for _, r := range c.replicas {
		way, err := newForwarder()
		if err != nil {
			return err
		}
		way.point(fmt.Sprintf("127.0.0.1:%d", r.port))
		c.ways = append(c.ways, way)
	}
	return nil
}

// Delay holds back, from now on, what clients send to a replica; it needs
// Options.Distant.
func (c *Cluster) Delay(replica string, d time.Duration) {
	for i, r := range c.replicas {
		if r.name == replica {
			c.ways[i].delay.Store(int64(d))
		}
	}
}

// LoseLog has replicas get nothing of what the active node sends, and not notice:
// their connections to it stay open.
func (c *Cluster) LoseLog(on bool) { c.floating.lose(on) }

// address is where the proxy reaches a replica.
func (c *Cluster) address(replica int) string {
	if c.options.Distant {
		return c.ways[replica].address()
	}
	return fmt.Sprintf("127.0.0.1:%d", c.replicas[replica].port)
}

func (c *Cluster) instance(name, data string, port int, args ...string) *instance {
	i := &instance{prog: c.prog, name: name, dir: c.dir, data: data, port: port, args: append(args, "--log-slave-updates=ON")}
	if c.options.GeneralLog {
		i.args = append(i.args, "--general-log=ON", "--general-log-file="+i.generalLog())
	}
	return i
}

// freePorts returns ports of 127.0.0.1 that were free just now.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

func (c *Cluster) startReplicas(ctx context.Context) error {
	errs := make([]error, len(c.replicas))
	var group sync.WaitGroup
	for n, r := range c.replicas {
		group.Go(func() {
			if errs[n] = r.start(ctx); errs[n] == nil {
				errs[n] = r.do(ctx, c.follow()...)
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return c.CaughtUp(ctx)
}

// follow makes a replica follow the floating address.
func (c *Cluster) follow() []string {
	host, port, _ := net.SplitHostPort(c.floating.address())
	n, _ := strconv.Atoi(port)
	return c.prog.follow(host, n)
}

// follow makes a replica follow a server.
func (p *program) follow(host string, port int) []string {
	if p.mariaDB {
		return []string{fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%d, MASTER_USER='%s', MASTER_PASSWORD='%s', "+
			"MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1", host, port, replUser, replPassword), "START SLAVE"}
	}
	return []string{fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%d, SOURCE_USER='%s', SOURCE_PASSWORD='%s', "+
		"SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=86400, GET_SOURCE_PUBLIC_KEY=1", host, port, replUser, replPassword), "START REPLICA"}
}

// CaughtUp waits until every running replica has what the active node has.
func (c *Cluster) CaughtUp(ctx context.Context) error {
	at := c.Active()
	if at == "" {
		return errors.New("no node is active")
	}
	question, wait := "SELECT @@gtid_binlog_pos", "SELECT MASTER_GTID_WAIT(?, 30)"
	if !c.prog.mariaDB {
		question, wait = "SELECT @@gtid_executed", "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 30)"
	}
	var position string
	if err := c.find(at).scan(ctx, question, &position); err != nil {
		return err
	}
	for _, r := range c.replicas {
		var late sql.NullInt64
		db, err := r.root()
		if err != nil {
			return err
		}
		err = db.QueryRowContext(ctx, wait, position).Scan(&late)
		_ = db.Close()
		if err == nil && late.Int64 != 0 {
			err = errors.New("not reached in 30 s")
		}
		if err != nil {
			return fmt.Errorf("%s: wait for %s: %w", r.name, position, err)
		}
	}
	return nil
}

func (i *instance) scan(ctx context.Context, question string, dest ...any) error {
	db, err := i.root()
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.QueryRowContext(ctx, question).Scan(dest...); err != nil {
		return fmt.Errorf("%s: %s: %w", i.name, question, err)
	}
	return nil
}

// Active is the node whose database runs, empty for none.
func (c *Cluster) Active() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active < 0 {
		return ""
	}
	return c.nodes[c.active].name
}

func (c *Cluster) all() []*instance { return append(c.nodes[:], c.replicas...) }

func (c *Cluster) find(name string) *instance {
	for _, i := range c.all() {
		if i.name == name {
			return i
		}
	}
	panic("sandbox: there is no server " + name)
}

// Port is a server's port on 127.0.0.1.
func (c *Cluster) Port(server string) int { return c.find(server).port }

// Exec runs statements on one server as root, past any proxy.
func (c *Cluster) Exec(ctx context.Context, server string, statements ...string) error {
	return c.find(server).do(ctx, statements...)
}

// Query asks one server for one value as root, past any proxy.
func (c *Cluster) Query(ctx context.Context, server, question string, dest ...any) error {
	return c.find(server).scan(ctx, question, dest...)
}

// ApplyLater is the statements that make a replica apply every transaction so many
// seconds after the primary committed it.
func (c *Cluster) ApplyLater(seconds int) []string {
	if c.prog.mariaDB {
		return []string{"STOP SLAVE", fmt.Sprintf("CHANGE MASTER TO MASTER_DELAY=%d", seconds), "START SLAVE"}
	}
	return []string{"STOP REPLICA SQL_THREAD", fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_DELAY=%d", seconds), "START REPLICA SQL_THREAD"}
}

// Applying is the statement that stops a replica's applying, or goes on with it.
func (c *Cluster) Applying(on bool) string {
	word, what := "STOP", "REPLICA"
	if on {
		word = "START"
	}
	if c.prog.mariaDB {
		what = "SLAVE"
	}
	return word + " " + what + " SQL_THREAD"
}

// MariaDB tells whether the servers are MariaDB's.
func (c *Cluster) MariaDB() bool { return c.prog.mariaDB }

// GeneralLog is every statement that a server got, when Options asked for it.
func (c *Cluster) GeneralLog(server string) (string, error) {
	b, err := os.ReadFile(c.find(server).generalLog())
	return string(b), err
}

// Pause stops a server's process where it is; Resume lets it go on.
func (c *Cluster) Pause(server string) error {
	return c.find(server).process.Signal(syscall.SIGSTOP)
}

// Resume ends a Pause.
func (c *Cluster) Resume(server string) error {
	return c.find(server).process.Signal(syscall.SIGCONT)
}

// Kill ends a server as kill -9 does.
func (c *Cluster) Kill(server string) { c.find(server).kill() }

// Restart starts a replica that was killed.
func (c *Cluster) Restart(ctx context.Context, replica string) error {
	i := c.find(replica)
	if err := i.start(ctx); err != nil {
		return err
	}
	start := "START SLAVE"
	if !c.prog.mariaDB {
		start = "START REPLICA"
	}
	return i.do(ctx, start)
}

// Endpoint is the address set aside for a proxy, as WriteConfig writes it.
func (c *Cluster) Endpoint() string { return fmt.Sprintf("127.0.0.1:%d", c.front) }

// Admin is the address of its HTTP server.
func (c *Cluster) Admin() string { return fmt.Sprintf("127.0.0.1:%d", c.admin) }

// DSN opens address with go-sql-driver as the application's account.
func DSN(address string) string {
	m := my.NewConfig()
	m.User, m.Passwd, m.Net, m.Addr, m.DBName = AppUser, AppPassword, "tcp", address, Schema
	m.AllowNativePasswords, m.MaxAllowedPacket, m.Timeout = true, 256<<20, 10*time.Second
	m.Logger = quietDriver{}
	return m.FormatDSN()
}

// Config is a configuration for a proxy in front of the cluster that reads the
// stand-ins for /proc/drbd itself.
func (c *Cluster) Config() string {
	return c.config(func(node string) string { return "file: " + c.procFile(node) })
}

// ConfigAgents is the same for a proxy that hears an agent on each node, on this
// host's address given for it.
func (c *Cluster) ConfigAgents(addresses map[string]string) string {
	return c.config(func(node string) string { return fmt.Sprintf("agent: \"http://%s\"", addresses[node]) }) +
		"authority: {datadir_on_drbd: false}\n"
}

// AgentConfig is a configuration for a node's agent that listens on address.
func (c *Cluster) AgentConfig(node, address string) string {
	return fmt.Sprintf("node: %s\naddress: %q\ndrbd: {file: %s}\nmysql: {address: \"127.0.0.1:%d\", user: %s, password: %s}\n",
		node, address, c.procFile(node), c.Port(node), probeUser, probePass)
}

func (c *Cluster) config(drbd func(node string) string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "listeners:\n  - address: %s\n  - address: unix:%s\nadmin: {address: %q}\n", c.Endpoint(), filepath.Join(c.dir, "proxy.sock"), c.Admin())
	heartbeat := ""
	if c.options.Heartbeat {
		heartbeat = fmt.Sprintf(", heartbeat: {table: %s.heartbeat, write: true, interval: 100ms}", Schema)
	}
	fmt.Fprintf(&b, "users:\n  - {name: %s, password: %s}\nhealth: {user: %s, password: %s%s, interval: 200ms}\nservers:\n",
		AppUser, AppPassword, probeUser, probePass, heartbeat)
	for _, n := range c.nodes {
		fmt.Fprintf(&b, "  - {name: %s, role: drbd, address: \"127.0.0.1:%d\", drbd: {%s}}\n", n.name, n.port, drbd(n.name))
	}
	for i, r := range c.replicas {
		fmt.Fprintf(&b, "  - {name: %s, role: replica, address: %q}\n", r.name, c.address(i))
	}
	return b.String()
}

// Stop ends every server and removes the directory.
func (c *Cluster) Stop() {
	var group sync.WaitGroup
	for _, i := range c.all() {
		if i != nil {
			group.Go(i.stop)
		}
	}
	group.Wait()
	for _, f := range append(c.ways, c.floating) {
		if f != nil {
			f.close()
		}
	}
	_ = os.RemoveAll(c.dir)
}
