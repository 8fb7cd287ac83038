package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The dependencies between the packages go one way, see ARCHITECTURE.md.
func TestImportsGoOneWay(t *testing.T) {
	allowed := map[string]string{
		"config": "", "internal/wire": "", "internal/durable": "", "internal/ask": "", "drbdwatch": "config internal/durable", "router": "config",
		"backend": "config drbdwatch internal/ask internal/durable",
		"proxy":   "config backend router internal/wire", "lvs": "config backend drbdwatch internal/ask internal/durable", "admin": "drbdwatch", "agent": "config drbdwatch internal/ask internal/durable",
		"internal/poll": "", "internal/child": "internal/poll", "internal/sandbox": "internal/child",
	}
	for name, may := range allowed {
		out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, "signalbox/"+name).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, imported := range strings.Fields(string(out)) {
			own, ok := strings.CutPrefix(imported, "signalbox/")
			if ok && !strings.Contains(" "+may+" ", " "+own+" ") {
				t.Errorf("%s imports %s; it may import only: %s", name, own, may)
			}
		}
	}
}
