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

// Contains reports whether p has executed everything in q. It allocates
// nothing.
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

// String is the form that ParsePosition reads.
func (p Position) String() string {
	var items []string
	for _, d := range p.domains {
		items = append(items, fmt.Sprintf("%d-%d-%d", d.id, d.server, d.seq))
	}
	for _, s := range p.sources {
		var b strings.Builder
		b.WriteString(s.id)
		for _, v := range s.intervals {
			fmt.Fprintf(&b, ":%d", v.first)
			if v.last > v.first {
				fmt.Fprintf(&b, "-%d", v.last)
			}
		}
		items = append(items, b.String())
	}
	return strings.Join(items, ",")
}
