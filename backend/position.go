package backend

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Position is a set of executed transactions, by GTID: MariaDB's
// domain-server-sequence list, or MySQL's uuid:1-5:7 sets, with the tags of
// MySQL 8.3 and later. The zero value is nothing. It is immutable; Merge makes
// another.
type Position struct {
	domains []domain // MariaDB, ascending
	sources []source // MySQL, ascending
}

// domain is how far a MariaDB replication domain has come.
type domain struct {
	id     uint32
	seq    uint64
	server uint32
}

// source is what was executed of one MySQL server, or of one tag of it.
type source struct {
	id        string // uuid or uuid:tag
	intervals []interval
}

// interval is from first to last, both included.
type interval struct{ first, last uint64 }

// ParsePosition reads either form.
func ParsePosition(text string) (Position, error) {
	var p Position
	last := ""
	for _, item := range strings.Split(text, ",") {
		item = strings.ToLower(strings.TrimSpace(item))
		if item == "" {
			continue
		}
		var err error
		if len(item) >= 36 && item[8] == '-' && item[13] == '-' {
			last, err = p.addMySQL(item)
		} else if strings.Contains(item, ":") && last != "" {
			last, err = p.addMySQL(last + ":" + item)
		} else {
			err = p.addMariaDB(item)
		}
		if err != nil {
			return Position{}, fmt.Errorf("position %q: %w", clip(text), err)
		}
	}
	if len(p.domains) > 0 && len(p.sources) > 0 {
		return Position{}, fmt.Errorf("position %q mixes MariaDB's and MySQL's form", clip(text))
	}
	return p, nil
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}

func (p *Position) addMariaDB(item string) error {
	parts := strings.Split(item, "-")
	if len(parts) != 3 {
		return fmt.Errorf("%q is not domain-server-sequence", item)
	}
	id, err1 := strconv.ParseUint(parts[0], 10, 32)
	server, err2 := strconv.ParseUint(parts[1], 10, 32)
	seq, err3 := strconv.ParseUint(parts[2], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return fmt.Errorf("%q is not domain-server-sequence", item)
	}
	p.setDomain(domain{id: uint32(id), seq: seq, server: uint32(server)})
	return nil
}

func (p *Position) setDomain(d domain) {
	i, found := slices.BinarySearchFunc(p.domains, d.id, func(d domain, id uint32) int { return int(int64(d.id) - int64(id)) })
	switch {
	case !found:
		p.domains = slices.Insert(p.domains, i, d)
	case p.domains[i].seq < d.seq:
		p.domains[i] = d
	}
}

// addMySQL reads uuid:1-5:7:tag:1-2 and returns the uuid.
func (p *Position) addMySQL(item string) (uuid string, err error) {
	parts := strings.Split(item, ":")
	uuid = parts[0]
	if len(uuid) != 36 || strings.Trim(uuid, "0123456789abcdef-") != "" {
		return "", fmt.Errorf("%q is not a server's uuid", uuid)
	}
	id := uuid
	for _, part := range parts[1:] {
		part = strings.TrimSpace(part)
		if part != "" && (part[0] == '_' || part[0] >= 'a' && part[0] <= 'z') {
			id = uuid + ":" + part
			continue
		}
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		f, err1 := strconv.ParseUint(first, 10, 64)
		l, err2 := strconv.ParseUint(last, 10, 64)
		if err1 != nil || err2 != nil || f < 1 || f > l || l >= math.MaxInt64 {
			return "", fmt.Errorf("%q is not an interval", part)
		}
		p.setInterval(id, interval{f, l})
	}
	return uuid, nil
}

func (p *Position) setInterval(id string, v interval) {
	i, found := slices.BinarySearchFunc(p.sources, id, func(s source, id string) int { return strings.Compare(s.id, id) })
	if !found {
		p.sources = slices.Insert(p.sources, i, source{id: id})
	}
	p.sources[i].add(v)
}

// add keeps the intervals ascending and apart.
func (s *source) add(v interval) {
	merged := make([]interval, 0, len(s.intervals)+1)
	for _, w := range s.intervals {
		switch {
		case w.last+1 < v.first:
			merged = append(merged, w)
		case v.last+1 < w.first:
			merged = append(merged, v)
			v = w
		default:
			v = interval{min(v.first, w.first), max(v.last, w.last)}
		}
	}
	s.intervals = append(merged, v)
}

// Empty reports whether nothing was executed.
func (p *Position) Empty() bool { return len(p.domains) == 0 && len(p.sources) == 0 }

// MariaDB reports whether it is in MariaDB's form; an empty one is in none.
func (p *Position) MariaDB() bool { return len(p.domains) > 0 }

// Parts is of how many replication domains or servers it speaks.
func (p *Position) Parts() int { return len(p.domains) + len(p.sources) }

// Contains reports whether p has executed everything in q. It allocates
// nothing.
//
// In MariaDB's form the sequence number decides and the server that wrote it does
// not: within a domain the numbers rise from one writer to the next, across
// failovers too, and MASTER_GTID_WAIT compares alike. That is true of servers
// with one history. Of a replica that has what the writer never had it is not,
// see Ahead; its own, local writes do not count, because for replicas
// gtid_slave_pos is asked and not gtid_binlog_pos.
func (p *Position) Contains(q *Position) bool {
	for i := range q.domains {
		if !p.hasDomain(&q.domains[i]) {
			return false
		}
	}
	for i := range q.sources {
		if !p.hasSource(&q.sources[i]) {
			return false
		}
	}
	return true
}

func (p *Position) hasDomain(d *domain) bool {
	for i := range p.domains {
		if p.domains[i].id == d.id {
			return p.domains[i].seq >= d.seq
		}
	}
	return false
}

func (p *Position) hasSource(q *source) bool {
	for i := range p.sources {
		if p.sources[i].id != q.id {
			continue
		}
		for _, v := range q.intervals {
			if !p.sources[i].has(v) {
				return false
			}
		}
		return true
	}
	return len(q.intervals) == 0
}

func (s *source) has(v interval) bool {
	for _, w := range s.intervals {
		if w.first <= v.first && v.last <= w.last {
			return true
		}
	}
	return false
}

// Merge returns what p or q have executed.
func (p Position) Merge(q Position) Position {
	m := Position{domains: slices.Clone(p.domains), sources: slices.Clone(p.sources)}
	for i := range m.sources { // Raise works in place
		m.sources[i].intervals = slices.Clone(m.sources[i].intervals)
	}
	for _, d := range q.domains {
		m.setDomain(d)
	}
	for _, s := range q.sources {
		for _, v := range s.intervals {
			m.setInterval(s.id, v)
		}
	}
	return m
}

// Ahead reports whether p, of a replica, has of the writer's history what the
// writer does not have: w must have been asked after p. Then the two have
// parted - the writer lost what it had already sent, or somebody else wrote under
// its name - and p's numbers say nothing about the writer's later ones. What only
// one of the two knows of, such as a replica's own writes or another source,
// does not count.
func (p *Position) Ahead(w *Position) bool {
	for i := range p.domains {
		for k := range w.domains {
			if p.domains[i].id == w.domains[k].id && p.domains[i].seq > w.domains[k].seq {
				return true
			}
		}
	}
	for i := range p.sources {
		for k := range w.sources {
			if p.sources[i].id == w.sources[k].id && !w.hasSource(&p.sources[i]) {
				return true
			}
		}
	}
	return false
}

// Trails reports whether p has not come as far as w in something of which both
// know. Holes do not count, only the highest number of each domain or server, nor
// does what only one of the two knows of, such as a domain that a replica is told
// to ignore. It allocates nothing.
func (p *Position) Trails(w *Position) bool {
	for i := range p.domains {
		for k := range w.domains {
			if p.domains[i].id == w.domains[k].id && p.domains[i].seq < w.domains[k].seq {
				return true
			}
		}
	}
	for i := range p.sources {
		for k := range w.sources {
			if p.sources[i].id == w.sources[k].id && p.sources[i].highest() < w.sources[k].highest() {
				return true
			}
		}
	}
	return false
}

func (s *source) highest() uint64 {
	if len(s.intervals) == 0 {
		return 0
	}
	return s.intervals[len(s.intervals)-1].last
}

// Raise adds what a server reported about a write, in place: p must share nothing
// with another Position. Text in the form that p already has costs no
// allocation.
//
// In MySQL's form p becomes everything from the first to the last number of each
// server: a session that writes now and then would otherwise gather an interval
// for each write. What lies between was committed before the last one, or its
// number is given out again (MySQL manual, "GTID Life Cycle").
func (p *Position) Raise(text []byte) error {
	if p.raiseDomain(text) || p.raiseSource(text) {
		return nil
	}
	q, err := ParsePosition(string(text))
	if err != nil {
		return err
	}
	*p = p.Merge(q)
	for i := range p.sources {
		if v := p.sources[i].intervals; len(v) > 1 {
			p.sources[i].intervals = []interval{{v[0].first, v[len(v)-1].last}}
		}
	}
	return nil
}

// raiseDomain takes domain-server-sequence of a domain that p has.
func (p *Position) raiseDomain(text []byte) bool {
	id, rest, ok1 := digits(text, '-')
	server, rest, ok2 := digits(rest, '-')
	seq, rest, ok3 := digits(rest, 0)
	if !ok1 || !ok2 || !ok3 || len(rest) > 0 || id > math.MaxUint32 || server > math.MaxUint32 {
		return false
	}
	for i := range p.domains {
		if d := &p.domains[i]; uint64(d.id) == id {
			if d.seq < seq {
				d.seq, d.server = seq, uint32(server)
			}
			return true
		}
	}
	return false
}

// uuidLen is the length of a server's uuid as text.
const uuidLen = 36

// raiseSource takes uuid:number of a server that p has.
func (p *Position) raiseSource(text []byte) bool {
	if len(text) < uuidLen+2 || text[uuidLen] != ':' {
		return false
	}
	n, rest, ok := digits(text[uuidLen+1:], 0)
	if !ok || len(rest) > 0 || n < 1 || n >= math.MaxInt64 {
		return false
	}
	for i := range p.sources {
		if s := &p.sources[i]; s.id == string(text[:uuidLen]) && len(s.intervals) == 1 {
			v := &s.intervals[0]
			v.first, v.last = min(v.first, n), max(v.last, n)
			return true
		}
	}
	return false
}

// digits reads a decimal number of at most 19 digits and, if it is not 0, the
// byte that must end it.
func digits(b []byte, end byte) (n uint64, rest []byte, ok bool) {
	i := 0
	for ; i < len(b) && i < 19 && b[i] >= '0' && b[i] <= '9'; i++ {
		n = n*10 + uint64(b[i]-'0')
	}
	if i == 0 || end != 0 && (i == len(b) || b[i] != end) {
		return 0, nil, false
	}
	if end != 0 {
		return n, b[i+1:], true
	}
	return n, b[i:], true
}

// String is the form that ParsePosition reads.
func (p Position) String() string { return string(p.Append(nil)) }

// Append appends the form that ParsePosition reads and the servers' functions
// take.
func (p *Position) Append(b []byte) []byte {
	begin := len(b)
	separate := func() {
		if len(b) > begin {
			b = append(b, ',')
		}
	}
	for _, d := range p.domains {
		separate()
		b = append(strconv.AppendUint(b, uint64(d.id), 10), '-')
		b = append(strconv.AppendUint(b, uint64(d.server), 10), '-')
		b = strconv.AppendUint(b, d.seq, 10)
	}
	for i := range p.sources {
		s := &p.sources[i]
		separate()
		b = append(b, s.id...)
		for _, v := range s.intervals {
			b = strconv.AppendUint(append(b, ':'), v.first, 10)
			if v.last > v.first {
				b = strconv.AppendUint(append(b, '-'), v.last, 10)
			}
		}
	}
	return b
}
