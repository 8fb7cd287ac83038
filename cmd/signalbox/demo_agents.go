package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"signalbox/agent"
	"signalbox/config"
	"signalbox/internal/sandbox"
)

// demoAgents are the agents of the demo's nodes, in this process.
type demoAgents struct {
	addresses map[string]string
	configs   map[string]*config.AgentFile
	serving   []func(ctx context.Context) error
}

// newDemoAgents opens an address for each node's agent.
func newDemoAgents(c *sandbox.Cluster, log *slog.Logger) (*demoAgents, error) {
	d := &demoAgents{addresses: make(map[string]string), configs: make(map[string]*config.AgentFile)}
	for _, node := range []string{"db1", "db2"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		d.addresses[node] = ln.Addr().String()
		cfg, err := config.ParseAgent(node, []byte(c.AgentConfig(node, d.addresses[node])))
		if err != nil {
			_ = ln.Close()
			return nil, err
		}
		a, err := agent.New(cfg, log)
		if err != nil {
			_ = ln.Close()
			return nil, err
		}
		d.configs[node] = cfg
		d.serving = append(d.serving, func(ctx context.Context) error {
			var group sync.WaitGroup
			defer group.Wait()
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			group.Go(func() { a.Run(ctx) })
			return a.Serve(ctx, ln)
		})
	}
	return d, nil
}

// demote announces that a node is about to be demoted, as a cluster manager
// does with signalbox notify demote.
func (d *demoAgents) demote(ctx context.Context, node string) error {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := agent.Notify(ctx, d.configs[node], &agent.Notice{Action: "demote", Node: node, Wait: patience / 2}); err != nil {
		return fmt.Errorf("announce the demotion of %s: %w", node, err)
	}
	return nil
}
