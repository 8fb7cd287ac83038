// Package lvslab runs package lvs against a real IPVS kernel: the test binary
// starts itself anew inside a User-Mode-Linux guest, where the guest's own
// network namespace is the director and further namespaces are real servers and
// clients. The guest has no network device to the outside, and sees the host's
// files read-only.
//
// It plays no database but where a test says so, and changes nothing on the
// host.
package lvslab
