// Package bench measures what the parts of Signalbox cost: `go test -bench .`
// for the way of a statement and its parts, and the command compare for the
// whole beside HAProxy and the straight way. It has no code but tests.
package bench
