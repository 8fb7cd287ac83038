package main

import (
	"fmt"
	"runtime/debug"
)

func runVersion(_ []string, io stdio) int {
	fmt.Fprintln(io.out, "signalbox", version())
	return 0
}

// version is the commit that the program was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}
