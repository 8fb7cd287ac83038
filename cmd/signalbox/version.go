package main

import (
	"fmt"
	"runtime/debug"
)

func runVersion(_ []string, io stdio) int {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				version = s.Value
			}
		}
	}
	fmt.Fprintln(io.out, "signalbox", version)
	return 0
}
