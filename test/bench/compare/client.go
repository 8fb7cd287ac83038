package main

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"
)

// client is one connection by the Go driver, without a pool above it.
type client struct{ driver.Conn }

// connect opens a connection to addr.
func connect(ctx context.Context, addr, user, password, schema string) (client, error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Passwd, cfg.DBName = "tcp", addr, user, password, schema
	cfg.Timeout, cfg.ReadTimeout, cfg.Logger = 10*time.Second, 30*time.Second, quiet{}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return client{}, fmt.Errorf("prepare a connection to %s: %w", addr, err)
	}
	conn, err := c.Connect(ctx)
	if err != nil {
		return client{}, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return client{conn}, nil
}

// exec runs statements that return no rows.
func (c client) exec(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if _, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, sql, nil); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// execute runs statements on a connection of their own.
func execute(ctx context.Context, addr, user, password, schema string, statements ...string) error {
	c, err := connect(ctx, addr, user, password, schema)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.exec(ctx, statements...)
}

// quiet drops the driver's log lines: every attempt at a server that is not up
// yet would be one.
type quiet struct{}

func (quiet) Print(...any) {}
