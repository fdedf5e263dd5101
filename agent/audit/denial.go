package audit

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// maxPairs bounds the pairs of caller and rule that are tracked; the denials of further ones are written one by one.
const maxPairs = 4096

// denials merges repeated denials of one caller and rule into one line a second. A
// caller can't hide what it tried behind something milder: the operations are told apart.
type denials struct {
	mu       sync.Mutex
	pairs    map[denialKey]*denial
	distinct map[denialKey]int // how many pairs differ in key and message only
}

// maxDistinct is how many messages of one caller and rule get lines of their own in
// a second: noise must neither hide a probe nor fill the disk.
const maxDistinct = 32

// denialKey tells denials apart. A caller that isn't known by name is known by its uid.
type denialKey struct {
	caller    string
	uid       uint32
	rule      string
	reason    string
	operation string

	// What tells apart the denials of one rule, or of none. Both are empty for those
	// above maxDistinct.
	key, message string
}

// alike is the key of all that differ in key and message only.
func (k denialKey) alike() denialKey {
	k.key, k.message = "", ""
	return k
}

// denial is a denial that was written, and those since.
type denial struct {
	id    uint64 // of the line written last
	since time.Time
	last  Record
	count int // not written yet
}

// AppendDenial records a denial that needn't be on disk first. The first of a
// caller and rule is written at once; those that follow are counted, and written
// as one line with their count and the details of the last, a second later. It
// returns the id of the line that was written last.
func (l *Log) AppendDenial(r *Record) (uint64, error) {
	if r.Time.IsZero() {
		r.Time = l.opts.Now()
	}
	key := denialKey{caller: r.Caller, rule: r.Rule, reason: r.Reason, operation: r.Operation, key: r.Key, message: r.Message}
	if r.Caller == "" {
		key.uid = r.UID
	}
	key, id, merged := l.denials.merge(key, r)
	if merged {
		return id, l.Healthy()
	}
	id, err := l.appendDenial(r)
	if err == nil {
		l.denials.track(key, id, l.opts.Now())
	}
	return id, err
}

// durableDenials are operations whose attempt is to be on disk, however the log is synced.
var durableDenials = []string{"withdraw", "transfer", "admin"}

// appendDenial leaves effects out that are too long for a record: what is left
// tells that it was tried.
func (l *Log) appendDenial(r *Record) (uint64, error) {
	durable := slices.Contains(durableDenials, r.Operation)
	id, err := l.Append(r, durable)
	if errors.Is(err, fault.BadRequest) {
		r.Effects = nil
		id, err = l.Append(r, durable)
	}
	return id, err
}

// merge counts a denial whose like was written lately. Else it gives the key that the
// denial is to be tracked by.
func (ds *denials) merge(key denialKey, r *Record) (_ denialKey, id uint64, merged bool) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	d := ds.pairs[key]
	if d == nil && ds.distinct[key.alike()] >= maxDistinct {
		key = key.alike()
		d = ds.pairs[key]
	}
	if d == nil {
		return key, 0, false
	}
	d.count++
	d.last = *r
	return key, d.id, true
}

// track notes that a denial was written; those that follow are merged.
func (ds *denials) track(key denialKey, id uint64, now time.Time) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	d := ds.pairs[key]
	if d == nil && len(ds.pairs) < maxPairs {
		d = new(denial)
		ds.pairs[key] = d
		ds.distinct[key.alike()]++
	}
	if d != nil {
		d.id, d.since = id, now
	}
}

// flushDenials writes what was counted for a second, or all of it, and forgets pairs that fell silent.
func (l *Log) flushDenials(all bool) {
	ds := &l.denials
	now := l.opts.Now()
	due := make(map[denialKey]Record)
	ds.mu.Lock()
	for key, d := range ds.pairs {
		switch {
		case !all && now.Sub(d.since).Abs() < syncEvery:
		case d.count == 0:
			delete(ds.pairs, key)
			if ds.distinct[key.alike()]--; ds.distinct[key.alike()] == 0 {
				delete(ds.distinct, key.alike())
			}
		default:
			d.last.Count, d.count = d.count, 0
			if key == key.alike() && d.last.Message != "" {
				d.last.Message = "the last of several refusals: " + d.last.Message
			}
			due[key] = d.last
		}
	}
	ds.mu.Unlock()
	for key, r := range due {
		id, err := l.appendDenial(&r)
		ds.mu.Lock()
		if d := ds.pairs[key]; err != nil {
			d.count += r.Count // for the next try
		} else {
			d.id, d.since = id, now
		}
		ds.mu.Unlock()
	}
}
