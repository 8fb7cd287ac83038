package config

import "time"

// Reads is where reads may go.
type Reads struct {
	Consistency  string        `yaml:"consistency" default:"session" enum:"eventual,session,global" doc:"session: a client always reads its own writes. global: it reads every write that was acknowledged to anybody before its read arrived; the primary is asked for its position first. eventual: any healthy replica will do. A user, a rule and a hint may each set their own."`
	Wait         time.Duration `yaml:"wait" default:"100ms" doc:"How long a read may wait on a replica for the writes it must see, where no replica is known to have them; then it goes to the primary. 0: to the primary at once."`
	Timeout      time.Duration `yaml:"timeout" default:"0" doc:"A replica that has not begun to answer a read in this time is given up and the read is sent elsewhere, once. 0: never; a read that is merely slow would run twice."`
	RetryWithin  time.Duration `yaml:"retry_within" default:"10s" doc:"A read whose server was lost before it answered is sent to another server, once, if it began no longer ago than this; 0: never."`
	Balance      string        `yaml:"balance" default:"least-time" enum:"least-time,least-connections,weighted,first" doc:"How a replica is chosen among those fresh enough. least-time: the one that will answer soonest, by its response time and what it has to do. least-connections: the one with the fewest statements running for its weight. weighted: at random by weight. first: the first of the list that can."`
	MaxLag       time.Duration `yaml:"max_lag" default:"10s" doc:"A replica further behind takes no reads; 0 for no bound. A user, a rule and a hint may each set their own."`
	LagReturn    int           `yaml:"lag_return" default:"50" doc:"Per cent of max_lag below which a replica that was too far behind is used again, 1 to 100."`
	LagSettle    time.Duration `yaml:"lag_settle" default:"5s" doc:"How long its lag must stay below that mark first."`
	Primary      string        `yaml:"primary" default:"fallback" enum:"never,fallback,always" doc:"Whether the primary serves reads that a replica could serve. fallback: when no replica can. always: as one more, by its weight. A session whose writes no replica has yet reads from the primary in any case."`
	PrimaryCap   int           `yaml:"primary_cap" default:"128" doc:"Most reads running at once on the primary because no replica can serve them; further ones wait."`
	PrimaryWait  time.Duration `yaml:"primary_wait" default:"10s" doc:"Longest wait of a read for a replica, or for a place at the primary; then the client gets error 1040."`
	SlowStart    time.Duration `yaml:"slow_start" default:"10s" doc:"Time in which a server that returns works up to its full share of reads; 0 for at once."`
	ZoneCapacity int           `yaml:"zone_capacity" default:"32" doc:"Reads running at once, times its weight, up to which a server of the proxy's own zone is preferred to those of others."`
}

// Heartbeat is a table in which the primary's time is kept, so that a replica's
// lag can be told in milliseconds. Its form is that of pt-heartbeat.
type Heartbeat struct {
	Table    string        `yaml:"table" doc:"SCHEMA.TABLE, as pt-heartbeat makes it; empty: lag is what the replica says, in whole seconds. health.user needs SELECT on it."`
	Write    bool          `yaml:"write" default:"false" doc:"Signalbox writes the heartbeat on the primary itself. health.user needs INSERT and UPDATE too, and CREATE where the table does not exist."`
	Interval time.Duration `yaml:"interval" default:"250ms" doc:"Time between two heartbeats written; lag is exact to one of them."`
}

func (d *decoder) reads(c *Config) {
	if r := c.Reads; r.LagReturn < 1 || r.LagReturn > 100 {
		d.at("reads.lag_return", "%d is outside 1 to 100; it is per cent of max_lag", r.LagReturn)
	}
	if c.Reads.PrimaryCap < 1 {
		d.at("reads.primary_cap", "it must be more than 0; to keep reads off the primary set reads.primary to never")
	}
	if c.Reads.ZoneCapacity < 1 {
		d.at("reads.zone_capacity", "it must be more than 0")
	}
	if h := c.Health.Heartbeat; h.Write && h.Table == "" {
		d.at("health.heartbeat", "write needs a table, such as table: percona.heartbeat")
	} else if h.Table != "" && !plainTable(h.Table) {
		d.at("health.heartbeat.table", "%q is not SCHEMA.TABLE in letters, digits, _ and $", h.Table)
	} else if h.Table != "" && h.Interval < 10*time.Millisecond {
		d.at("health.heartbeat.interval", "it must be 10ms or more")
	}
}

// plainTable tells whether name needs no quoting: one dot between two words.
func plainTable(name string) bool {
	dots := 0
	for i, r := range name {
		switch {
		case r == '.' && i > 0 && i < len(name)-1:
			dots++
		case r == '_' || r == '$' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
		default:
			return false
		}
	}
	return dots == 1
}

// ConsistencyOf is what the reads of an account see; nil is no account.
func (c *Config) ConsistencyOf(u *User) string {
	if u != nil && u.Consistency != "" {
		return u.Consistency
	}
	return c.Reads.Consistency
}
