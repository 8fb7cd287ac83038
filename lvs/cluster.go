package lvs

import (
	"cmp"
	"fmt"
	"time"

	"signalbox/backend"
	"signalbox/config"
	"signalbox/drbdwatch"
)

// FromCluster is what the cluster's snapshot, its gate and the authority mean for
// the kernel's table. The writer is the gate's: it is shown only after every
// connection to the one before has been cut.
func FromCluster(s *backend.Snapshot, w *backend.Writer, a *drbdwatch.Authority, maxLag time.Duration) Cluster {
	c := Cluster{Servers: make(map[string]Verdict, len(s.Servers)), Epoch: w.Epoch, Why: w.Sentence}
	for i := range s.Servers {
		if st := &s.Servers[i]; !st.LastProbe.IsZero() {
			c.Servers[st.Server.Name] = replicaVerdict(st, maxLag)
		}
	}
	if w.Server != nil {
		c.Writer = w.Server.Name
	}
	if w.Server == nil && a.Writer == "" {
		// Not the gate's, which ends as soon as the proxy itself is idle.
		c.Leaving = cmp.Or(a.Leaving, a.Paused)
	}
	c.Settled = c.Writer != "" || c.Leaving != "" || a.Verdict == drbdwatch.Deny
	return c
}

func replicaVerdict(st *backend.Status, maxLag time.Duration) Verdict {
	switch {
	case !st.Up:
		return Verdict{Why: st.Reason}
	case st.Server.Role == config.RoleReplica && st.Mode != backend.Enabled:
		return Verdict{Why: "an operator has taken it out of reads (signalbox server enable)"}
	case st.Server.Role == config.RoleReplica && maxLag > 0 && !st.LagKnown:
		return Verdict{Why: "how far it is behind is not known"}
	case st.Server.Role == config.RoleReplica && maxLag > 0 && st.Lag > maxLag:
		return Verdict{Why: fmt.Sprintf("it is more than %s behind (lvs.max_lag)", maxLag)}
	}
	return Verdict{Healthy: true, Why: st.Reason}
}
