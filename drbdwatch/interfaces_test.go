package drbdwatch

import (
	"encoding/hex"
	"strings"
	"testing"
)

// frozen is what drbdsetup-84 events2 printed on DRBD 8.4.11 when the last good
// disk was lost: the dump, then the recovery.
const frozen = `exists resource name:web role:Primary suspended:no-data write-ordering:drain
exists connection name:web peer-node-id:0 conn-name:peer connection:Connecting role:Unknown congested:no
exists device name:web volume:0 minor:0 disk:Diskless size:49112 read:264 written:268 al-writes:9 bm-writes:0 upper-pending:1 lower-pending:0 al-suspended:no blocked:upper
exists peer-device name:web peer-node-id:0 conn-name:peer volume:0 replication:Off peer-disk:DUnknown resync-suspended:no received:0 sent:20 out-of-sync:0 pending:1 unacked:0
exists -
2026-11-23T20:03:27.162943+00:00 call helper name:web peer-node-id:0 conn-name:peer volume:0 minor:0 helper:pri-on-incon-degr
2026-11-23T20:03:27.419602+00:00 change connection name:web peer-node-id:0 conn-name:peer connection:Unconnected
2026-11-23T20:03:27.420001+00:00 change connection name:web peer-node-id:0 conn-name:peer connection:Connecting
2026-11-23T20:03:27.907529+00:00 change connection name:web peer-node-id:0 conn-name:peer connection:Connected
2026-11-23T20:03:27.927326+00:00 change connection name:web peer-node-id:0 conn-name:peer role:Secondary
2026-11-23T20:03:27.927326+00:00 change peer-device name:web peer-node-id:0 conn-name:peer volume:0 replication:Established peer-disk:UpToDate
2026-11-23T20:03:27.928127+00:00 change resource name:web suspended:no
2026-11-23T20:03:28.000000+00:00 destroy connection name:web peer-node-id:0 conn-name:peer`

// three is DRBD 9 (the fields of drbd-utils' own test vectors).
const three = `create resource name:r role:Primary suspended:no force-io-failures:no write-ordering:none may_promote:no promotion_score:0
create device name:r volume:0 minor:1000 backing_dev:/dev/sda disk:UpToDate client:no open:yes quorum:yes size:5 read:10
create connection name:r peer-node-id:1 conn-name:b connection:Connected role:Secondary congested:no ap-in-flight:10
create peer-device name:r peer-node-id:1 conn-name:b volume:0 replication:Established peer-disk:UpToDate peer-client:no
create connection name:r peer-node-id:2 conn-name:c connection:Connecting role:Unknown congested:no
create peer-device name:r peer-node-id:2 conn-name:c volume:0 replication:Off peer-disk:Outdated peer-client:no
create path name:r peer-node-id:1 conn-name:b local:ipv4:1.2.3.4:7789 peer:ipv4:5.6.7.8:7790 established:yes
change device name:r volume:0 minor:1000
rename resource name:r new_name:s
exists -
change device name:s volume:0 minor:1000 quorum:no`

func feedLines(t *testing.T, m model, text string) {
	t.Helper()
	for _, line := range strings.Split(text, "\n") {
		e, ok, err := parseEvent(line)
		if err == nil && ok {
			err = m.apply(&e)
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

func rows(t *testing.T, m model) string {
	t.Helper()
	s, err := m.state("x")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for i := range s.Devices {
		d := &s.Devices[i]
		list = append(list, strings.TrimSpace(d.String()+d.Cause)+" "+Local(d).Reason)
	}
	return strings.Join(list, "\n")
}

func TestEvents2(t *testing.T) {
	lines := strings.Split(frozen, "\n")
	for _, tt := range []struct {
		name, text, want string
	}{
		{"frozen", strings.Join(lines[:5], "\n"), "0: cs:WFConnection ro:Primary/Unknown ds:Diskless/DUnknown  no-data io-suspended"},
		{"a handshake is no health", strings.Join(lines[:9], "\n"), "0: cs:WFReportParams ro:Primary/Unknown ds:Diskless/DUnknown  no-data io-suspended"},
		{"recovered", strings.Join(lines[:12], "\n"), "0: cs:Connected ro:Primary/Secondary ds:Diskless/UpToDate diskless-primary"},
		{"the connection is gone", frozen, "0: cs:StandAlone ro:Primary/Unknown ds:Diskless/DUnknown no-good-disk"},
		{"DRBD 9, two peers, no quorum", three, "1000: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate no-quorum\n" +
			"1000: cs:WFConnection ro:Primary/Unknown ds:UpToDate/Outdated no-quorum"},
	} {
		m := make(model)
		feedLines(t, m, tt.text)
		if got := rows(t, m); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
	for _, bad := range []string{"", "exists", "explode resource name:r", "exists resource role", "exists resource role:Primary",
		"exists device name:r volume:x minor:0 disk:UpToDate"} {
		e, ok, err := parseEvent(bad)
		if err == nil && ok {
			err = make(model).apply(&e)
		}
		if err == nil {
			t.Errorf("%q was understood", bad)
		}
	}
	m := make(model)
	feedLines(t, m, "exists resource name:r role:Emperor suspended:no\nexists device name:r volume:0 minor:0 disk:UpToDate")
	if _, err := m.state("x"); err == nil {
		t.Error("an unknown role was believed")
	}
}

// status9 has the fields of resource_status_json in drbd-utils 9.
const status9 = `[{"name":"r","node-id":0,"role":"Primary","suspended":false,"suspended-user":false,"suspended-no-data":false,
"suspended-fencing":false,"suspended-quorum":false,"force-io-failures":false,"write-ordering":"flush",
"devices":[{"volume":0,"minor":1000,"disk-state":"UpToDate","client":false,"open":true,"quorum":true,"size":102400}],
"connections":[{"peer-node-id":1,"name":"b","connection-state":"Connected","congested":false,"peer-role":"Secondary",
"peer_devices":[{"volume":0,"replication-state":"SyncSource","peer-disk-state":"Inconsistent","percent-in-sync":12.5}]}]}]`

func TestStatusJSON(t *testing.T) {
	s, err := ParseStatus([]byte(status9), "9.2.4")
	if err != nil {
		t.Fatal(err)
	}
	if d := s.Devices[0]; len(s.Devices) != 1 || Local(&d).Reason != "sync-source" || d.Quorum != QuorumYes || d.Minor != 1000 || d.Resource != "r" {
		t.Fatalf("%+v", s.Devices)
	}
	frozen := strings.Replace(status9, `"suspended-quorum":false`, `"suspended-quorum":true`, 1)
	if s, err := ParseStatus([]byte(frozen), "9"); err != nil || s.Devices[0].Cause != "quorum" || Local(&s.Devices[0]).Reason != "io-suspended" {
		t.Fatalf("%+v %v", s, err)
	}
	for _, bad := range []string{"", "{}", `[{"role":"Primary"}]`, strings.Replace(status9, "SyncSource", "Sailing", 1),
		strings.Replace(status9, "UpToDate", "TOO_LARGE", 1)} {
		if s, err := ParseStatus([]byte(bad), "9"); err == nil {
			t.Errorf("%q gave %+v", clip(bad), s)
		}
	}
}

// Attributes of messages of DRBD 8.4.11: resource web.
const (
	webName = "0800024077656200"
)

// message makes the payload of a netlink message of attributes in hexadecimal.
func message(t testing.TB, minor string, nested ...string) []byte {
	t.Helper()
	all := minor + "00000000"
	for i := 0; i < len(nested); i += 2 {
		body := nested[i+1]
		length := 4 + len(body)/2
		all += hex.EncodeToString([]byte{byte(length), byte(length >> 8)}) + nested[i] + body + strings.Repeat("00", (4-length%4)%4)
	}
	b, err := hex.DecodeString(all)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	web      = webName + "0800010000000000"
	webPeer  = web + "0c000400" + "02001e6d0a000002"
	none     = "ffffffff"
	minor0   = "00000000"
	tContext = "0280"
)

func TestNetlink(t *testing.T) {
	m := make(model)
	take := func(command uint8, data []byte) {
		t.Helper()
		if err := m.message(command, data, diskNumbers8); err != nil {
			t.Fatal(err)
		}
	}
	// As captured when suspend-io was given: role Primary, suspended by user.
	take(genlResourceState, message(t, none, tContext, web, "0f80", "0800010001000000050002000100000005000300000000000500040000000000"))
	take(genlDeviceState, message(t, minor0, tContext, web, "1080", "0800010008000000"))
	if got, want := rows(t, m), "0: cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown  user io-suspended"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	take(genlResourceState, message(t, none, tContext, web, "0f80", "0800010001000000050002000000000005000300000000000500040000000000"))
	take(genlConnectionState, message(t, none, tContext, webPeer, "1180", "08000100090000000800020002000000"))
	take(genlPeerDeviceState, message(t, none, tContext, webPeer, "1280", "080001000a0000000800020008000000"))
	if got, want := rows(t, m), "0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate healthy"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if s, _ := m.state("8"); s.Devices[0].Peer != "10.0.0.2:7789" {
		t.Errorf("peer %q", s.Devices[0].Peer)
	}
	// What /proc/drbd must say for this to be believed without a dump.
	s, _ := m.state("8")
	for text, want := range map[string]bool{"Connected ro:Primary/Secondary ds:UpToDate/UpToDate": true, "WFConnection ro:Primary/Secondary ds:UpToDate/UpToDate": false,
		"Connected ro:Primary/Unknown ds:UpToDate/UpToDate": false, "Connected ro:Primary/Secondary ds:UpToDate/Outdated": false} {
		proc, err := ParseProc([]byte(head84 + " 0: cs:" + text + " C r-----\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.agrees(proc); got != want {
			t.Errorf("agrees with %s: %v", text, got)
		}
	}
	const destroyed = "0800010003000000"
	take(genlPeerDeviceState, message(t, none, tContext, webPeer, "1780", destroyed))
	take(genlConnectionState, message(t, none, tContext, webPeer, "1780", destroyed))
	if got, want := rows(t, m), "0: cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown standalone"; got != want {
		t.Errorf("without its peer: %s\nwant %s", got, want)
	}
	take(genlDeviceState, message(t, minor0, tContext, web, "1780", destroyed))
	take(genlResourceState, message(t, none, tContext, web, "1780", destroyed))
	take(genlResourceState, message(t, none, tContext, web, "1780", destroyed))
	if len(m) != 0 {
		t.Errorf("still there: %+v", m)
	}
	take(genlResourceState, message(t, none, tContext, web, "0f80", "0800010001000000"))
	// DRBD 9 numbers disk states otherwise, and knows quorum.
	nine := make(model)
	if err := nine.message(genlDeviceState, message(t, minor0, tContext, web, "1080", "0800010009000000"+"0500030000000000"), diskNumbers9); err != nil {
		t.Fatal(err)
	}
	if v := nine["web"].volumes[0]; v.disk != "UpToDate" || v.quorum != QuorumNo {
		t.Errorf("%+v", v)
	}
	take(genlDeviceState, message(t, minor0, tContext, web, "1080", "0800010063000000"))
	if _, err := m.state("8"); err == nil {
		t.Error("disk state 99 was believed")
	}
	for _, bad := range [][]byte{nil, {1, 2, 3}, message(t, none), message(t, none, tContext, "ffff0000")} {
		if err := m.message(genlDeviceState, bad, diskNumbers8); err == nil {
			t.Errorf("%x was understood", bad)
		}
	}
}

func TestCrossCheckFindsContradictions(t *testing.T) {
	s := func(d Device) *State { return &State{Devices: []Device{d}} }
	for _, tt := range []struct {
		name string
		a, b Device
		bad  bool
	}{
		{"the same", healthy, healthy, false},
		{"role", healthy, standby, true},
		{"disk", healthy, with(healthy, func(d *Device) { d.Disk = "Failed" }), true},
		{"another minor", healthy, with(healthy, func(d *Device) { d.Minor = 3 }), true},
		{"unconfigured", with(standby, func(d *Device) { d.Disk = "Diskless" }), Device{Minor: 0}, false},
	} {
		if err := s(tt.a).complete(s(tt.b)); (err != nil) != tt.bad {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	mine := s(with(healthy, func(d *Device) { d.Flags, d.Suspended = "", false }))
	if err := mine.complete(s(with(healthy, func(d *Device) { d.Flags, d.Suspended = "r---d-", true }))); err != nil || !mine.Devices[0].Suspended {
		t.Errorf("what only /proc/drbd shows was lost: %v %+v", err, mine)
	}
}

func FuzzEvents2(f *testing.F) {
	f.Add(frozen)
	f.Add(three)
	f.Add("destroy device name:a volume:0\nexists peer-device name:a volume:9")
	f.Fuzz(func(t *testing.T, text string) {
		m := make(model)
		for _, line := range strings.Split(text, "\n") {
			if e, ok, err := parseEvent(line); err == nil && ok {
				_ = m.apply(&e)
			}
		}
		judged(t, m)
	})
}

// judged checks that whatever was understood has DRBD's words only.
func judged(t *testing.T, m model) {
	s, err := m.state("x")
	if err != nil {
		return
	}
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	_ = LocalAll(s, nil)
}

func FuzzStatus(f *testing.F) {
	f.Add([]byte(status9))
	f.Add([]byte(`[{"name":"r","role":"Secondary","devices":[{"minor":1,"disk-state":"Diskless"}]}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseStatus(text, "9")
		if err == nil {
			if err := s.check(); err != nil {
				t.Fatal(err)
			}
			_ = LocalAll(s, nil)
		}
	})
}

func FuzzNetlink(f *testing.F) {
	f.Add(uint8(genlResourceState), message(f, none, tContext, web, "0f80", "0800010001000000"))
	f.Add(uint8(genlDeviceState), message(f, minor0, tContext, web, "1080", "0800010008000000"))
	f.Add(uint8(genlPeerDeviceState), message(f, none, tContext, webPeer, "1280", "080001000a0000000800020008000000"))
	f.Fuzz(func(t *testing.T, command uint8, data []byte) {
		m := make(model)
		_ = m.message(genlResourceState, message(t, none, tContext, web, "0f80", "0800010001000000"), diskNumbers8)
		_ = m.message(command, data, diskNumbers8)
		judged(t, m)
	})
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"node":"a","boot":"b","start":"c","seq":1,"echo":0,"age_ns":5,"source":"proc","error":"x"}`))
	f.Add([]byte(`{"node":"a","boot":"b","start":"c","seq":1,"state":{"version":"8","devices":[{"minor":0,"configured":true,"cs":"Connected","role":"Primary","peer_role":"Secondary","disk":"UpToDate","peer_disk":"UpToDate"}]},"fences":[{"node":"b","id":"1"}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseReport(line)
		if err != nil || r.State == nil {
			return
		}
		if err := r.State.check(); err != nil {
			t.Fatal(err)
		}
		_ = LocalAll(r.State, nil)
	})
}

// A resync's progress is no change; everything else is.
func TestProgressIsNoChange(t *testing.T) {
	a, b := healthy, healthy
	a.OutOfSyncKiB, a.SyncPercent, b.OutOfSyncKiB, b.SyncPercent = 100, 10, 90, 20
	state := func(d ...Device) *State { return &State{Version: "8.4.11", Devices: d} }
	if !sameButProgress(state(a), state(b)) || !sameButProgress(nil, nil) {
		t.Error("progress counts as a change")
	}
	for name, other := range map[string]*State{"nil": nil, "a device less": state(), "a role": state(standby),
		"a flag": state(with(a, func(d *Device) { d.Flags = "s-----" })), "suspension": state(with(a, func(d *Device) { d.Suspended = true })),
		"a version": {Version: "9.1", Devices: []Device{a}}} {
		if sameButProgress(state(a), other) || sameButProgress(other, state(a)) {
			t.Errorf("%s does not count as a change", name)
		}
	}
}
