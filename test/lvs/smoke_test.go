package lvslab

import (
	"os/exec"
	"testing"
)

func endDirector() {}

func TestSmoke(t *testing.T) {
	out, err := exec.Command("sh", "-c", "uname -a; id; modprobe -d /mnt/lab/modules ip_vs; ipvsadm -A -t 10.0.0.1:80 -s mh; ipvsadm -Ln; ip netns add x && ip netns exec x ip a; nft list ruleset; free -m; df -h; env").CombinedOutput()
	t.Logf("%s %v", out, err)
}
