package lvs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var (
	vip  = key("tcp/10.9.0.1:3306")
	vip2 = key("tcp/10.9.0.2:3306")
)

func makeService(k Key) Operation {
	return Operation{Kind: AddService, Service: k, Settings: wlc}
}

func apply(t *testing.T, o *Owner, list ...Operation) []error {
	t.Helper()
	errs, err := o.Apply(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	return errs
}

func ours(t *testing.T, o *Owner, k Key) bool {
	t.Helper()
	table, err := o.Dump(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return table[k].Owned
}

func TestOwnershipSurvivesRestartsAndCrashes(t *testing.T) {
	dir, m := t.TempDir(), newMemory()
	m.byHand(makeService(vip2))
	first := ownerOf(m, dir, nil)
	if errs := apply(t, first, makeService(vip)); errs[0] != nil {
		t.Fatal(errs)
	}
	again := ownerOf(m, dir, nil)
	if !ours(t, again, vip) || ours(t, again, vip2) {
		t.Error("after a restart ours must be ours, and others' theirs")
	}
	other, err := loadLedger(dir, "another boot")
	if err != nil || len(other.entries) != 0 {
		t.Errorf("the list of another boot counts: %v %v", other, err)
	}
}

// The process dies after the list was written and before it was written again.
func TestServiceOfACrashIsOursOnlyIfItIsWhatWeMeant(t *testing.T) {
	for name, tt := range map[string]struct {
		found Settings
		want  bool
	}{
		"made by us":            {wlc, true},
		"made by somebody else": {Settings{Scheduler: "rr", Netmask: 32}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, m := t.TempDir(), newMemory()
			o := ownerOf(m, dir, nil)
			var left []byte
			m.fail = func(Operation) error {
				left, _ = os.ReadFile(filepath.Join(dir, ledgerName))
				return nil
			}
			apply(t, o, makeService(vip))
			if err := os.WriteFile(filepath.Join(dir, ledgerName), left, 0o600); err != nil {
				t.Fatal(err)
			}
			m.byHand(Operation{Kind: SetService, Service: vip, Settings: tt.found})
			if got := ours(t, ownerOf(m, dir, nil), vip); got != tt.want {
				t.Errorf("ours: %t", got)
			}
		})
	}
}

func TestOwnerTouchesNothingOfOthers(t *testing.T) {
	m := newMemory()
	m.byHand(makeService(vip), Operation{Kind: AddDestination, Service: vip, Destination: dst("10.0.0.1:1", 1)})
	o := ownerOf(m, t.TempDir(), nil)
	for _, op := range []Operation{makeService(vip), {Kind: SetService, Service: vip, Settings: wlc}, {Kind: RemoveService, Service: vip},
		{Kind: AddDestination, Service: vip, Destination: dst("10.0.0.2:1", 1)}, {Kind: SetDestination, Service: vip, Destination: dst("10.0.0.1:1", 9)},
		{Kind: RemoveDestination, Service: vip, Destination: dst("10.0.0.1:1", 1)}} {
		if errs := apply(t, o, op); errs[0] == nil {
			t.Errorf("%s was carried out", op)
		}
	}
	if m.writes != 0 || ours(t, o, vip) {
		t.Errorf("%d writes, ours %t", m.writes, ours(t, o, vip))
	}
	if errs := apply(t, o, Operation{Kind: Adopt, Service: vip}, Operation{Kind: RemoveDestination, Service: vip, Destination: dst("10.0.0.1:1", 1)}); errors.Join(errs...) != nil || !ours(t, o, vip) {
		t.Errorf("adopted: %v", errs)
	}
}

// Somebody removes our service, and another program makes one there.
func TestServiceRemovedByHandIsForgotten(t *testing.T) {
	m := newMemory()
	o := ownerOf(m, t.TempDir(), nil)
	apply(t, o, makeService(vip))
	m.byHand(Operation{Kind: RemoveService, Service: vip})
	if ours(t, o, vip) {
		t.Error("gone, and ours")
	}
	m.byHand(makeService(vip))
	if ours(t, o, vip) {
		t.Error("another program's service is taken for ours")
	}
}

func TestInterlock(t *testing.T) {
	m := newMemory()
	o := ownerOf(m, "", func(Key) bool { return true })
	add := func(a string, epoch uint64) error {
		return apply(t, o, Operation{Kind: AddDestination, Service: vip, Destination: dst(a, 1), Epoch: epoch})[0]
	}
	apply(t, o, makeService(vip))
	if err := add("10.0.0.1:3306", 5); err != nil {
		t.Fatal(err)
	}
	if err := add("10.0.0.2:3306", 6); err == nil || !strings.Contains(err.Error(), "10.0.0.1:3306 is still in the writer's service") {
		t.Errorf("a second writer: %v", err)
	}
	apply(t, o, Operation{Kind: RemoveDestination, Service: vip, Destination: dst("10.0.0.1:3306", 1)})
	if err := add("10.0.0.2:3306", 4); err == nil || !strings.Contains(err.Error(), "epoch 4 is over, 5 has begun") {
		t.Errorf("a writer of the past: %v", err)
	}
	if err := add("10.0.0.2:3306", 6); err != nil {
		t.Error(err)
	}
}

func TestLedgerThatCannotBeKeptStopsNewServices(t *testing.T) {
	m := newMemory()
	dir := filepath.Join(t.TempDir(), "gone")
	o := ownerOf(m, dir, nil)
	if _, err := o.Apply(t.Context(), []Operation{makeService(vip)}); err == nil || !strings.Contains(err.Error(), "lvs.state_dir") || m.writes != 0 {
		t.Errorf("%v, %d writes", err, m.writes)
	}
}

func FuzzParseLedger(f *testing.F) {
	f.Add([]byte(`{"version":1,"kernel":"x","services":{"tcp/10.9.0.1:3306":{"made":true,"settings":{"scheduler":"wlc","netmask":32}}}}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"services":{"tcp/x":{}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseLedger(text)
		if (l == nil) == (err == nil) {
			t.Fatal("either a list or an error")
		}
		if err == nil {
			for k := range l.Services {
				if again, err := ParseKey(k.String()); err != nil || again != k {
					t.Fatalf("%v", k)
				}
			}
		}
	})
}
