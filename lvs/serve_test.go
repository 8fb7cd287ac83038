package lvs

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The sandbox keeps one thread for the servers that it starts.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("signalbox/internal/child.launch"))
}

// serveOn runs the privileged process over a kernel in memory.
func serveOn(t *testing.T, text string, change func(*Server)) (*Client, *memory, string) {
	t.Helper()
	m, path := newMemory(), filepath.Join(t.TempDir(), "s")
	cfg := parseConfig(t, text)
	s, err := NewServer(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.owner = ownerOf(m, "", Exclusive(Virtuals(cfg)))
	if change != nil {
		change(s)
	}
	ln, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ln) }()
	c := NewClient(path)
	t.Cleanup(func() {
		_ = c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c, m, path
}

func TestServeCarriesOutWhatIsConfigured(t *testing.T) {
	c, m, _ := serveOn(t, desiredConfig, nil)
	m.byHand(makeService(key("tcp/10.9.0.77:80")))
	list := Virtuals(parseConfig(t, desiredConfig))
	desired, _ := Desired(list, Inputs{Cluster: well, Settled: true, Writer: "db1", Epoch: 3}, State{})
	actual, err := c.Dump(t.Context(), nil)
	if err != nil || len(actual) != 1 || actual[key("tcp/10.9.0.77:80")].Owned {
		t.Fatalf("%v %v", actual, err)
	}
	errs, err := c.Apply(t.Context(), Plan(desired, actual).Operations)
	if err != nil || len(errs) != 5 {
		t.Fatal(errs, err)
	}
	actual, err = c.Dump(t.Context(), nil)
	if err != nil || show(actual) != healthy+"; 10.9.0.77: " {
		t.Errorf("%s %v", show(actual), err)
	}
	if p := Plan(desired, actual); len(p.Operations) != 0 {
		t.Errorf("over the socket the table looks different: %v", p.Operations)
	}
	if part, err := c.Dump(t.Context(), []Key{writes}); err != nil || len(part) != 1 || !part[writes].Owned {
		t.Errorf("%v %v", part, err)
	}
	if none, err := c.Dump(t.Context(), []Key{}); err != nil || len(none) != 0 {
		t.Errorf("%v %v", none, err)
	}
	errs, err = c.Apply(t.Context(), []Operation{{Kind: RemoveService, Service: key("tcp/10.9.0.77:80")}})
	if err != nil || errs[0] == nil || !strings.Contains(errs[0].Error(), "not made by Signalbox") {
		t.Errorf("a foreign service: %v %v", errs, err)
	}
}

func TestServeRefusesWhatIsNotConfigured(t *testing.T) {
	c, m, _ := serveOn(t, desiredConfig, nil)
	r1 := Operation{Kind: AddDestination, Service: reads, Destination: toR1}
	for name, change := range map[string]func(*Operation){
		"another address":     func(o *Operation) { o.Destination.Address = addr("10.66.6.6:3306") },
		"another port":        func(o *Operation) { o.Destination.Address = addr("10.0.0.21:22") },
		"another method":      func(o *Operation) { o.Destination.Forward = Masquerade },
		"more weight":         func(o *Operation) { o.Destination.Weight = 101 },
		"another service":     func(o *Operation) { o.Service = vip2; o.Service.Port = 22 },
		"a server elsewhere":  func(o *Operation) { o.Service = writes },
		"adoption":            func(o *Operation) { o.Kind = Adopt },
		"a service":           func(o *Operation) { o.Kind, o.Service = AddService, key("tcp/10.9.0.9:22") },
		"other settings":      func(o *Operation) { o.Kind, o.Settings = AddService, Settings{Scheduler: "rr", Netmask: 32} },
		"an unknown request":  func(o *Operation) { o.Kind = "flush" },
		"removal of a server": func(o *Operation) { o.Kind, o.Service = RemoveDestination, key("tcp/10.9.0.9:22") },
	} {
		o := r1
		change(&o)
		if _, err := c.Apply(t.Context(), []Operation{o}); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m.writes != 0 {
		t.Errorf("%d writes", m.writes)
	}
	less := r1
	less.Destination.Weight = 0
	errs, err := c.Apply(t.Context(), []Operation{{Kind: AddService, Service: reads, Settings: wlc}, less})
	if err != nil || errs[0] != nil || errs[1] != nil {
		t.Errorf("%v %v", errs, err)
	}
}

func TestServeHangsUpOnOtherUsers(t *testing.T) {
	c, m, _ := serveOn(t, desiredConfig, func(s *Server) { s.users = map[uint32]bool{4294967294: true} })
	if _, err := c.Dump(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "its log says why") || len(m.calls) != 0 {
		t.Errorf("%v, %v", err, m.calls)
	}
}

func TestServeSurvivesNonsense(t *testing.T) {
	c, _, path := serveOn(t, desiredConfig, nil)
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	in := bufio.NewReader(nc)
	for _, line := range []string{"hello", `{"do":"flush"}`, `{"do":"dump","only":["x"]}`, `{"do":"apply","operations":[{"service":"tcp/1"}]}`} {
		_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := nc.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
		if got, err := in.ReadString('\n'); err != nil || !strings.Contains(got, `"error":`) {
			t.Errorf("%s: %q %v", line, got, err)
		}
	}
	if _, err := c.Dump(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := ListenSocket(path); err == nil || !strings.Contains(err.Error(), "another signalbox lvs serve answers") {
		t.Errorf("a second one: %v", err)
	}
}

func TestClientSaysWhatToDoWithoutServer(t *testing.T) {
	c := NewClient(filepath.Join(t.TempDir(), "nobody"))
	if _, err := c.Dump(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "start it, with the same configuration") {
		t.Error(err)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"do":"dump","all":true}`))
	f.Add([]byte(`{"do":"apply","operations":[{"kind":"add-destination","service":"tcp/10.9.0.1:3306","destination":{"address":"10.0.0.1:3306","weight":1},"why":"x"}]}`))
	f.Add([]byte(`{"do":"apply","operations":[{"kind":"adopt","service":"mark4/0"}]}`))
	virtuals := Virtuals(parseConfig(f, desiredConfig))
	allow := newAllowed(virtuals, false)
	f.Fuzz(func(t *testing.T, line []byte) {
		q, err := parseRequest(line)
		if err != nil {
			return
		}
		for _, o := range q.Operations {
			if allow.check(o) == nil && (o.Kind == AddService || o.Kind == AddDestination || o.Kind == SetDestination) && o.Service != reads && o.Service != writes {
				t.Fatalf("%s is allowed", o)
			}
		}
	})
}
