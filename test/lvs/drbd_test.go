package lvslab

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A real DRBD pair, both ends in this kernel: minor 0 is db1's, minor 1 is db2's.
// The program itself reads it and moves the writer's service; at no moment does
// the kernel have both in it.
func TestDRBDSwitchMovesTheWriter(t *testing.T) {
	l := director(t)
	v4, _ := l.vip(t)
	l.mariadb(t)
	l.relay(t, l.far[1], databasePort) // db2's address leads to the same database
	run(t, `m="modprobe -d /mnt/lab/modules"; $m hmac; $m drbd; mkdir -p /run/lock /run/drbd; ln -sf /proc/drbd /run/drbd.far2
d=drbdsetup-84; command -v $d >/dev/null || d=/lib/drbd/drbdsetup-84; command -v $d >/dev/null || d=/usr/lib/drbd/drbdsetup-84
ln -sf $(command -v $d) /run/drbdsetup
for n in 0 1; do disk=/dev/ubd$(echo $n | tr 01 bc); mount -t tmpfs tmpfs /var/lib/drbd 2>/dev/null || true
 drbdmeta --force $n v08 $disk internal create-md
 /run/drbdsetup new-resource node$n; /run/drbdsetup new-minor node$n $n 0; /run/drbdsetup attach $n $disk $disk internal; done
/run/drbdsetup connect node0 ipv4:127.0.0.1:7000 ipv4:127.0.0.1:7001 --protocol=C
/run/drbdsetup connect node1 ipv4:127.0.0.1:7001 ipv4:127.0.0.1:7000 --protocol=C`)
	t.Cleanup(func() { run(t, "/run/drbdsetup down node0; /run/drbdsetup down node1") })
	proc := func(text string) func() error {
		return func() error {
			if now := run(t, "cat /proc/drbd"); strings.Count(now, text) < 2 {
				return fmt.Errorf("no %s in both:\n%s", text, now)
			}
			return nil
		}
	}
	eventually(t, proc("cs:Connected"))
	run(t, "/run/drbdsetup new-current-uuid --clear-bitmap 0")
	eventually(t, proc("ds:UpToDate/UpToDate"))
	run(t, "/run/drbdsetup primary 0")

	text := strings.Replace(settings(stateDir(t), "", fmt.Sprintf("{name: writes, address: %s, ports: 4000, servers: primary, server_port: %d}", v4, databasePort)), "authority: {source: static}\n", "", 1)
	for n, name := range []string{"far1, role: primary", "far2, role: replica"} {
		text = strings.Replace(text, fmt.Sprintf(`{name: %s, address: "10.9.2.%d:3306"}`, name, n+1),
			fmt.Sprintf(`{name: %s, role: drbd, address: "10.9.2.%d:%d", drbd: {source: proc, file: %s, minors: [%d]}}`, name[:4], n+1, databasePort, []string{"/proc/drbd", "/run/drbd.far2"}[n], n), 1)
	}
	file := write(t, "signalbox.yaml", text)
	signalbox(t, "run", "-c", file)
	o, k := owner(t), tcp(v4, 4000)
	l.become(t, o, k, "far1=100")
	stop := watchService(t, k)
	const switches = 4
	for n := range switches {
		began := time.Now()
		run(t, fmt.Sprintf("/run/drbdsetup secondary %d", n%2))
		l.become(t, o, k, "") // nobody is Primary
		gone := time.Since(began)
		run(t, fmt.Sprintf("/run/drbdsetup primary %d", (n+1)%2))
		promoted := time.Now()
		l.become(t, o, k, fmt.Sprintf("far%d=100", (n+1)%2+1))
		t.Logf("switch %d: out %s after the demotion was ordered, the other in %s after the promotion", n+1, gone.Round(time.Millisecond), time.Since(promoted).Round(time.Millisecond))
	}
	neverTwo(t, stop())
}

// relay leads a port of a namespace to MariaDB.
func (l *lab) relay(t *testing.T, s *space, port int) {
	t.Helper()
	var ln net.Listener
	var err error
	l.do(s, func() { ln, err = net.Listen("tcp", fmt.Sprint(":", port)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", at(l.far[0].v4, databasePort).String())
			if err != nil {
				_ = in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()
}
