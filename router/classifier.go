package router

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"signalbox/config"
)

// Classifier finds out what statements are, and remembers it. It is safe for
// concurrent use.
type Classifier struct {
	readOnly      map[string]bool // stored functions known to write nothing
	systemReplica bool

	seed   maphash.Seed
	shards [shards]shard
	limit  int64 // bytes a shard may hold

	hits, misses, evicted atomic.Uint64
}

// shards spread the cache over several locks; a power of two.
const shards = 64

type shard struct {
	mu    sync.RWMutex
	byKey map[uint64]*entry
	bytes int64
}

// entry keeps the whole fingerprint: an equal hash alone must not route.
type entry struct {
	print []byte
	st    *Statement
}

var scans = sync.Pool{New: func() any { return new(scan) }}

// NewClassifier prepares a classifier.
func NewClassifier(cfg config.Router) *Classifier {
	c := &Classifier{readOnly: lower(cfg.ReadOnlyFunctions), systemReplica: cfg.SystemSchemas == "replica",
		seed: maphash.MakeSeed(), limit: max(int64(cfg.CacheSize), 1<<20) / shards}
	for i := range c.shards {
		c.shards[i].byKey = make(map[uint64]*entry)
	}
	return c
}

// Classify says what sql is, to a server that reads text by mode. It keeps no
// reference to sql. A statement seen before costs no allocation.
func (c *Classifier) Classify(sql []byte, mode Mode) *Statement {
	s := scans.Get().(*scan)
	s.read(sql, mode)
	st := c.find(s)
	s.text = nil
	scans.Put(s)
	return st
}

// ClassifyPrefix classifies a statement of which only the beginning is at hand:
// never a read.
func (c *Classifier) ClassifyPrefix(head []byte, mode Mode) *Statement {
	s := new(scan)
	s.read(head, mode)
	s.cut = true
	s.print = append(s.print, " …"...)
	return c.find(s)
}

func (c *Classifier) find(s *scan) *Statement {
	key := maphash.Bytes(c.seed, s.print)
	shard := &c.shards[key%shards]
	shard.mu.RLock()
	e := shard.byKey[key]
	shard.mu.RUnlock()
	if e != nil && bytes.Equal(e.print, s.print) {
		c.hits.Add(1)
		return e.st
	}
	c.misses.Add(1)
	st := c.build(s)
	if !s.broken || s.cut {
		c.keep(shard, key, &entry{print: bytes.Clone(s.print), st: st})
	}
	return st
}

// entryCost is what an entry takes beside its fingerprint and digest, roughly,
// in bytes.
const entryCost = 400

func (e *entry) cost() int64 { return int64(2*len(e.print) + entryCost) }

// keep stores an entry, making room by dropping others at random: a map's order
// is as good as any for statements that are all cheap to classify again.
func (c *Classifier) keep(s *shard, key uint64, e *entry) {
	if e.cost() > c.limit/4 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.byKey[key]; old != nil {
		s.bytes -= old.cost()
	}
	for k, old := range s.byKey {
		if s.bytes+e.cost() <= c.limit {
			break
		}
		s.bytes -= old.cost()
		delete(s.byKey, k)
		c.evicted.Add(1)
	}
	s.byKey[key] = e
	s.bytes += e.cost()
}

// CacheStats counts look-ups of the statement cache.
type CacheStats struct{ Hits, Misses, Evicted uint64 }

// Stats returns the counts so far.
func (c *Classifier) Stats() CacheStats {
	return CacheStats{c.hits.Load(), c.misses.Load(), c.evicted.Load()}
}

// digestID names a digest, the same in every process.
func digestID(digest string) string {
	sum := sha256.Sum256([]byte(digest))
	return hex.EncodeToString(sum[:8])
}
