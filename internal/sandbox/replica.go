package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Replica is a replica on loopback of a primary that is not the sandbox's.
type Replica struct {
	dir string
	own *instance
}

// StartReplica starts a replica of the server at host and port, whose data
// directory began as DataDir. It listens on 127.0.0.1.
func StartReplica(ctx context.Context, id int, host string, port int) (*Replica, error) {
	prog, err := findProgram()
	if err != nil {
		return nil, err
	}
	template, err := prog.template(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sbx")
	if err != nil {
		return nil, err
	}
	r := &Replica{dir: dir}
	ports, err := freePorts(1)
	if err == nil {
		err = copyData(ctx, template, filepath.Join(dir, "data"))
	}
	if err != nil {
		r.Stop()
		return nil, err
	}
	r.own = &instance{prog: prog, name: fmt.Sprintf("r%d", id), dir: dir, data: filepath.Join(dir, "data"), port: ports[0],
		args: []string{fmt.Sprintf("--server-id=%d", 10+id), "--read-only=ON", "--log-slave-updates=ON"}}
	if err = r.own.start(ctx); err == nil {
		err = r.own.do(ctx, prog.follow(host, port)...)
	}
	if err != nil {
		r.Stop()
		return nil, err
	}
	return r, nil
}

// Address is where the replica listens.
func (r *Replica) Address() string { return fmt.Sprintf("127.0.0.1:%d", r.own.port) }

// Query asks for one value as root.
func (r *Replica) Query(ctx context.Context, question string, dest ...any) error {
	return r.own.scan(ctx, question, dest...)
}

// Stop ends the replica and removes its data.
func (r *Replica) Stop() {
	if r.own != nil {
		r.own.stop()
	}
	_ = os.RemoveAll(r.dir)
}
