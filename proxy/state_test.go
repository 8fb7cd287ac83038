package proxy

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"testing"

	"signalbox/internal/wire"
)

func parsePublicKey(p []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(p)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return key.(*rsa.PublicKey), nil
}

func TestCatchUp(t *testing.T) {
	start := &state{schema: "a"}
	now := start.with("time_zone", "+00:00").with("sql_mode", "it's\\").with("sql_select_limit", "100").with("time_zone", "UTC").
		with("character_set_results", "").withSchema("b")
	sql, schema := start.catchUp(now)
	want := "SET SESSION `time_zone`='UTC', SESSION `sql_mode`='it''s\\\\', SESSION `sql_select_limit`=100, SESSION `character_set_results`=NULL"
	if sql != want || schema != "b" {
		t.Fatalf("%s; schema %q", sql, schema)
	}
	if sql, schema := now.catchUp(now); sql != "" || schema != "" {
		t.Fatalf("equal states differ by %q %q", sql, schema)
	}
	if now.withSchema("b") != now {
		t.Fatal("the same schema makes another state")
	}
	if len(start.variables) != 0 {
		t.Fatal("a state was changed")
	}
}

func TestNumbersAndWords(t *testing.T) {
	for text, want := range map[string]bool{"1": true, "-1": true, "1.5": true, "": false, "-": false, "ON": false, "1e5": false, "+00:00": false, "1.": true} {
		if isNumber(text) != want {
			t.Errorf("%q is a number: %v", text, !want)
		}
	}
}

// A client is shown what a server itself would show.
func TestShownState(t *testing.T) {
	var data []byte
	add := func(kind wire.TrackKind, parts ...string) {
		var entry []byte
		for _, p := range parts {
			entry = wire.AppendLenencString(entry, p)
		}
		data = wire.AppendLenencString(append(data, byte(kind)), string(entry))
	}
	add(wire.TrackVariable, "last_gtid", "0-1-5")
	add(wire.TrackVariable, "autocommit", "OFF")
	add(wire.TrackSchema, "shop")
	add(wire.TrackStateChange, "1")
	add(wire.TrackVariable, "sql_mode", "x")
	tracked, got := wire.TrackedState(shownState(data)), ""
	var e wire.Tracked
	for tracked.Next(&e) {
		got += string(e.Name) + "=" + string(e.Value) + ";"
	}
	if got != "autocommit=OFF;=shop;" {
		t.Fatal(got)
	}
}
