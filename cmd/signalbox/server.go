package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"signalbox/admin"
	"signalbox/config"
)

// runServer drains, disables, enables or lists servers of a running proxy.
func runServer(args []string, std stdio) int {
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.SetOutput(std.err)
	file := flags.String("c", "/etc/signalbox.yaml", "configuration `file`, for the address and token of the HTTP server")
	address := flags.String("admin", "", "`HOST:PORT` of the HTTP server, in place of the configuration's")
	var words []string
	for rest := args; ; { // flags may come before, between and after the words
		if flags.Parse(rest) != nil {
			return 2
		}
		if flags.NArg() == 0 {
			break
		}
		words, rest = append(words, flags.Arg(0)), flags.Args()[1:]
	}
	if !(len(words) == 1 && words[0] == "list") && !(len(words) == 2 && (words[0] == "drain" || words[0] == "disable" || words[0] == "enable")) {
		fmt.Fprintln(std.err, "signalbox server: want list, or drain, disable or enable and the name of a server")
		flags.Usage()
		return 2
	}
	call, err := operator(*file, *address)
	if err == nil && words[0] == "list" {
		err = call.list(std.out)
	} else if err == nil {
		err = call.set(words[0], words[1], std)
	}
	if err != nil {
		fmt.Fprintln(std.err, "signalbox server:", err)
		return 1
	}
	return 0
}

// caller speaks with the HTTP server of a running proxy.
type caller struct{ base, token string }

// operator finds the HTTP server: at address, or where the configuration says.
func operator(file, address string) (*caller, error) {
	cfg, err := config.Load(file)
	switch {
	case err != nil && address == "":
		return nil, err
	case err != nil: // an address is enough where no token is wanted
		return &caller{base: "http://" + address}, nil
	case address == "":
		address = cfg.Admin.Address
	}
	if address == "" {
		return nil, errors.New("the proxy has no HTTP server: set admin.address")
	}
	return &caller{"http://" + address, cfg.Admin.Token.Reveal()}, nil
}

// callPatience is how long the proxy may take to answer.
const callPatience = 10 * time.Second

func (c *caller) do(method, path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), callPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("is the proxy running there? %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var said struct{ Error string }
		if json.NewDecoder(resp.Body).Decode(&said) != nil || said.Error == "" {
			said.Error = resp.Status
		}
		return errors.New(said.Error)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

func (c *caller) set(action, name string, std stdio) error {
	var done admin.Done
	if err := c.do(http.MethodPost, "/servers/"+url.PathEscape(name)+"/"+action, &done); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s is %s\n", name, done.Mode)
	if done.Warning != "" {
		fmt.Fprintln(std.err, "signalbox server: warning:", done.Warning)
	}
	return nil
}

func (c *caller) list(out io.Writer) error {
	var servers []admin.Server
	if err := c.do(http.MethodGet, "/servers", &servers); err != nil {
		return err
	}
	fmt.Fprintf(out, "%-12s %-8s %-9s %-5s %9s %6s %8s %6s  %s\n", "server", "role", "reads", "up", "lag", "share", "running", "conns", "state")
	for _, v := range servers {
		lag := ""
		if v.LagSeconds != nil {
			lag = fmt.Sprintf("%.3f s", *v.LagSeconds)
		}
		up := "no"
		if v.Up {
			up = "yes"
		}
		name := v.Name
		if v.Writer {
			name += "*"
		}
		fmt.Fprintf(out, "%-12s %-8s %-9s %-5s %9s %4.0f %% %8d %6d  %s\n", name, v.Role, v.Mode, up, lag, v.Share*100, v.Running, v.Connections, v.Reason)
	}
	fmt.Fprintln(out, "* takes writes; share is of all reads since the start; drain and disable concern reads only")
	return nil
}
