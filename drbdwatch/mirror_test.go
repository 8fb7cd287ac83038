package drbdwatch

import (
	"testing"
	"time"

	"github.com/mdlayher/genetlink"
)

// mirrored is a mirror of one resource, dumped as Primary at second 0.
func mirrored(t *testing.T) (*mirror, time.Time) {
	t.Helper()
	m, now := &mirror{disks: diskNumbers8}, time.Now()
	if m.model(now) != nil {
		t.Fatal("something is believed before the first dump")
	}
	if !m.end(dumpOf(t, "Primary"), m.begin(), now) {
		t.Fatal("a dump in which nothing happened does not count")
	}
	return m, now
}

func dumpOf(t *testing.T, role string) model {
	m := make(model)
	if err := m.message(genlResourceState, roleMessage(t, role).Data, diskNumbers8); err != nil {
		t.Fatal(err)
	}
	return m
}

func roleMessage(t *testing.T, role string) genetlink.Message {
	number := map[string]string{"Primary": "01", "Secondary": "02"}[role]
	return genetlink.Message{Header: genetlink.Header{Command: genlResourceState},
		Data: message(t, none, tContext, web, "0f80", "08000100"+number+"000000")}
}

func roleOf(m model) string {
	if m == nil {
		return "unknown"
	}
	return m["web"].role
}

func TestMirror(t *testing.T) {
	secondary := func(t *testing.T) []genetlink.Message { return []genetlink.Message{roleMessage(t, "Secondary")} }
	for name, tt := range map[string]struct {
		do   func(t *testing.T, m *mirror, now *time.Time)
		want string
	}{
		"a dump":                {func(*testing.T, *mirror, *time.Time) {}, "Primary"},
		"a push after it":       {func(t *testing.T, m *mirror, _ *time.Time) { m.push(secondary(t), false) }, "Secondary"},
		"pushes that were lost": {func(_ *testing.T, m *mirror, _ *time.Time) { m.push(nil, true) }, "unknown"},
		"a push after others were lost": {func(t *testing.T, m *mirror, _ *time.Time) {
			m.push(nil, true)
			m.push(secondary(t), false)
		}, "unknown"},
		"a dump after pushes were lost": {func(t *testing.T, m *mirror, now *time.Time) {
			m.push(nil, true)
			if !m.end(dumpOf(t, "Secondary"), m.begin(), *now) {
				t.Error("the dump does not count")
			}
		}, "Secondary"},
		"a push while a dump is made": {func(t *testing.T, m *mirror, now *time.Time) {
			begun := m.begin()
			m.push(secondary(t), false)
			if m.end(dumpOf(t, "Primary"), begun, *now) {
				t.Error("a dump during which something was pushed counts")
			}
		}, "Secondary"},
		"a push told while a dump is made": {func(t *testing.T, m *mirror, now *time.Time) {
			m.begin()
			m.push(secondary(t), false)
			if role := roleOf(m.model(*now)); role != "Secondary" {
				t.Errorf("%s until the dump ends", role)
			}
		}, "Secondary"},
		"pushes lost while a dump is made": {func(t *testing.T, m *mirror, now *time.Time) {
			begun := m.begin()
			m.push(nil, true)
			m.end(dumpOf(t, "Primary"), begun, *now)
		}, "unknown"},
		"too many pushes": {func(t *testing.T, m *mirror, _ *time.Time) {
			for range mostQueued + 1 {
				m.push(secondary(t), false)
			}
		}, "unknown"},
		"a push that makes no sense": {func(_ *testing.T, m *mirror, _ *time.Time) {
			m.push([]genetlink.Message{{Header: genetlink.Header{Command: genlResourceState}, Data: []byte{1}}}, false)
		}, "unknown"},
		"pushes long after the dump": {func(t *testing.T, m *mirror, now *time.Time) {
			*now = now.Add(believe + time.Second)
			m.push(secondary(t), false)
		}, "unknown"},
		"pushes shortly after it": {func(t *testing.T, m *mirror, now *time.Time) {
			*now = now.Add(believe)
			m.push(secondary(t), false)
		}, "Secondary"},
	} {
		t.Run(name, func(t *testing.T) {
			m, now := mirrored(t)
			tt.do(t, m, &now)
			if role := roleOf(m.model(now)); role != tt.want {
				t.Fatalf("the role is %s, want %s", role, tt.want)
			}
			if tt.want == "unknown" { // and stays so, whatever is pushed, until the next dump
				m.push(secondary(t), false)
				if role := roleOf(m.model(now)); role != "unknown" {
					t.Fatalf("then a push made it %s", role)
				}
			}
		})
	}
}

// What is no state changes nothing, and does not make a dump doubtful.
func TestMirrorIgnoresOtherMessages(t *testing.T) {
	m, now := mirrored(t)
	begun := m.begin()
	if m.push([]genetlink.Message{{Header: genetlink.Header{Command: 1}, Data: []byte{1}}, {Header: genetlink.Header{Command: 40}}}, false) {
		t.Error("an event of 8.3 and a helper's call count as a change")
	}
	if !m.end(dumpOf(t, "Secondary"), begun, now) {
		t.Error("they make a dump doubtful")
	}
	if role := roleOf(m.model(now)); role != "Secondary" {
		t.Error(role)
	}
}
