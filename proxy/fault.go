package proxy

import (
	"errors"
	"fmt"

	"signalbox/config"
)

// Fault is an error that a client is told: a MySQL error number, its SQLSTATE
// and a sentence (MySQL Server Error Message Reference).
type Fault struct {
	Code     uint16
	SQLState string
	Message  string
}

// Error is the sentence with its number.
func (f *Fault) Error() string {
	return fmt.Sprintf("%d (%s): %s", f.Code, f.SQLState, f.Message)
}

// endsSession tells whether the session cannot go on after it.
func (f *Fault) endsSession() bool { return f.Code == 1927 }

// errQuit ends a session whose client said goodbye.
var errQuit = errors.New("client quit")

// The errors that Signalbox itself gives to clients. All others are the
// server's own, passed as they are.
func faultNoPrimary(sentence string) *Fault {
	return &Fault{1290, "HY000", "signalbox: no server may take writes now: " + sentence}
}

func faultNoServer(what string, err error) *Fault {
	return &Fault{1290, "HY000", fmt.Sprintf("signalbox: cannot reach %s: %v", what, err)}
}

// faultNoReplica is for a read that found no place. Drivers take error 1040 for
// a passing lack.
func faultNoReplica(cfg *config.Reads, never bool) *Fault {
	if never {
		return &Fault{1040, "08004", fmt.Sprintf("signalbox: no replica can serve the read, and the primary may not "+
			"(reads.primary is never, or it is drained); waited for reads.primary_wait, %s", cfg.PrimaryWait)}
	}
	return &Fault{1040, "08004", fmt.Sprintf("signalbox: no replica can serve the read, and %d reads run on the primary already "+
		"(reads.primary_cap); waited for reads.primary_wait, %s", cfg.PrimaryCap, cfg.PrimaryWait)}
}

func faultInterrupted() *Fault { return &Fault{1317, "70100", "Query execution was interrupted"} }

func faultTransactionLost(server, why string) *Fault {
	return &Fault{1213, "40001", fmt.Sprintf(
		"signalbox: the transaction was rolled back because the connection to %s was lost (%s); restart it", server, why)}
}

func faultOutcomeUnknown(server, why string) *Fault {
	return &Fault{1105, "HY000", fmt.Sprintf(
		"signalbox: the connection to %s was lost while the statement ran (%s); whether it took effect is unknown", server, why)}
}

func faultSessionLost(server, what string) *Fault {
	return &Fault{1927, "70100", fmt.Sprintf(
		"signalbox: the connection to %s was lost and with it %s; the session cannot go on", server, what)}
}

func faultUnknownStatement(id uint32, function string) *Fault {
	return &Fault{1243, "HY000", fmt.Sprintf("Unknown prepared statement handler (%d) given to %s", id, function)}
}

func faultUnknownCommand(cmd byte) *Fault {
	return &Fault{1047, "08S01", fmt.Sprintf("Unknown command %#x", cmd)}
}

func faultMalformed(what string) *Fault {
	return &Fault{1835, "HY000", "Malformed communication packet: " + what}
}

func faultTooLarge(limit int64) *Fault {
	return &Fault{1153, "08S01", fmt.Sprintf("Got a packet bigger than 'max_allowed_packet' bytes (limits.max_packet is %d)", limit)}
}

func faultNoSuchThread(id uint64) *Fault {
	return &Fault{1094, "HY000", fmt.Sprintf("Unknown thread id: %d", id)}
}

func faultNotOwner(id uint64) *Fault {
	return &Fault{1095, "HY000", fmt.Sprintf("You are not owner of thread %d", id)}
}

func faultDenied(message string) *Fault {
	return &Fault{1227, "42000", "signalbox: " + message}
}
