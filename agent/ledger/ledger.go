// Package ledger keeps the numbers that must not go back: the last nonce handed
// out for each key, how much of each limit is used, and the latest time ever seen.
// They survive restarts, kill -9, a crash of the host and a clock that is set back.
//
// # Reserved ahead
//
// Each number is a mark that only rises on disk. The file holds not what was
// used but what may be used: when a number reaches its mark, the mark is raised
// by ten seconds' worth and synced before the number is handed out. All calls in
// between do no I/O. After a crash the numbers start at the marks, so that a nonce
// is never given twice and a limit is at worst over-counted. A clean Close writes
// what was really used. Times (time.go) are not reserved ahead: they are written as
// they are, and seldom.
//
// # The file
//
// A header line, "sealsign ledger 2\n", whose number is the format, and then
// entries:
//
//	length   4 bytes, little-endian: of the payload
//	checksum 4 bytes, little-endian: CRC-32C of the length and the payload
//	payload  1 byte kind, 8 bytes mark (little-endian), the name
//
// The kinds are 'n' (nonce), 'l' (limit), 't' (the latest time seen) and 'u' (the last
// use of a key). Format 1, which is still read, has the first two. Of several entries with one name the highest mark counts. Entries are only
// appended, each with one write and one fsync; the whole file is replaced
// (write-new, fsync, rename, fsync the folder) when it has grown, at Close, and
// after any failed write: a handle whose write or fsync failed is never used again.
//
// An entry cut short by a crash can only be the last one. It is set aside in
// PATH.TIME.torn, and all numbers move on as far as the lost entry may have
// allowed. An entry that is damaged and has a whole one behind it is no torn tail:
// the ledger refuses to work from that file.
//
// # Faults
//
// While the file can't be written, marks aren't raised: numbers that are still
// reserved are handed out, all others are refused with LEDGER_UNAVAILABLE. The
// next call that needs the disk tries again, so the ledger recovers by itself.
package ledger

import (
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

const (
	// ahead is how far beyond its need a mark is raised: one fsync per name and ten seconds of use.
	ahead = uint64(10 * time.Second)
	// retryEvery is the pause between two tries to use a disk that failed.
	retryEvery = 100 * time.Millisecond
)

// Options are all optional.
type Options struct {
	Log *slog.Logger
	Now func() time.Time
	// Fault is for tests: it is asked before each operation on a file ("open", "read", "write", "sync", "rename",
	// "syncdir", "lock"); with an error, only the first allowed of the n bytes are written and the error is returned.
	Fault func(op, path string, n int) (allowed int, err error)
}

// Ledger hands out numbers. Its methods may be called by many goroutines at once.
type Ledger struct {
	path string
	opts Options

	// mu guards the marks, never held during I/O.
	mu     sync.Mutex
	marks  map[id]*mark
	floor  uint64 // no nonce at or below it: a torn tail may have allowed it
	closed bool
	last   error // why file is nil

	seen atomic.Uint64 // the latest time; it is read for each signature

	// disk guards what follows and is held during I/O; it is locked before mu.
	disk   sync.Mutex
	lock   *os.File // holds the lock file; nil until the ledger is loaded
	file   *os.File // nil: not open, or not to be trusted any more
	size   int64    // of the file
	base   int64    // of the file when it was last rewritten
	failed time.Time
}

type kind byte

const (
	nonce kind = 'n'
	limit kind = 'l'
	clock kind = 't'
	use   kind = 'u'
)

type id struct {
	kind kind
	name string
}

// mark is one number: what was used, and up to where the disk allows it.
type mark struct {
	used, reserved uint64
}

// Open opens the ledger at path and makes it if there is none. The Ledger is
// never nil: if opening failed it answers every call with that error, and tries
// again by itself. Errors are LEDGER_UNAVAILABLE.
func Open(path string, opts Options) (*Ledger, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	l := &Ledger{path: path, opts: opts, marks: make(map[id]*mark)}
	l.disk.Lock()
	defer l.disk.Unlock()
	return l, l.ready()
}

// Nonce returns the next number for name: the Unix time in nanoseconds, or one
// more than the last number where the clock isn't beyond it.
func (l *Ledger) Nonce(name string, now time.Time) (uint64, error) {
	k := id{nonce, name}
	for {
		l.mu.Lock()
		m := l.markLocked(k)
		n := max(unixNano(now), m.used+1, l.floor+1)
		if n <= m.reserved {
			m.used = n
			l.mu.Unlock()
			return n, nil
		}
		l.mu.Unlock()
		if err := l.raise(k, n, ahead); err != nil {
			return 0, err
		}
	}
}

// Healthy returns nil, or why marks can't be raised.
func (l *Ledger) Healthy() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *Ledger) setHealth(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = err
}

// Close writes what was really used and releases the file. Numbers are refused from then on.
func (l *Ledger) Close() error {
	l.disk.Lock()
	defer l.disk.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.markLocked(latest).used = l.seen.Load()
	for _, m := range l.marks {
		m.reserved = m.used
	}
	l.mu.Unlock()

	var err error
	if l.lock != nil { // else nothing was loaded, nothing is lost
		err = l.rewrite()
		_ = l.lock.Close()
	}
	if l.file != nil {
		_ = l.file.Close()
	}
	l.file = nil
	l.setHealth(fault.New(fault.LedgerUnavailable, "the ledger is closed"))
	return err
}

func (l *Ledger) markLocked(k id) *mark {
	m := l.marks[k]
	if m == nil {
		m = new(mark)
		l.marks[k] = m
	}
	return m
}

// raise puts on disk that the number k may be used up to need, and spare beyond.
func (l *Ledger) raise(k id, need, spare uint64) error {
	l.disk.Lock()
	defer l.disk.Unlock()
	l.mu.Lock()
	closed, done := l.closed, l.markLocked(k).reserved >= need
	l.mu.Unlock()
	switch {
	case done:
		return nil // by another goroutine, meanwhile
	case closed:
		return fault.New(fault.LedgerUnavailable, "the ledger is closed")
	case need > math.MaxInt64-spare:
		return fault.New(fault.LedgerUnavailable, "the number %q is used up: the clock must have stood at the end of time", k.name)
	case len(k.name) == 0 || len(k.name) > maxName:
		return fault.New(fault.InternalError, "a name in the ledger has 1 to %d bytes, not %d", maxName, len(k.name))
	}
	if err := l.ready(); err != nil {
		return err
	}
	if err := l.put(k, need+spare); err != nil {
		return l.fail(err)
	}
	l.mu.Lock()
	l.markLocked(k).reserved = need + spare
	l.mu.Unlock()
	l.compact()
	return nil
}

// unixNano is the time as a number; times before 1970 are 0.
func unixNano(t time.Time) uint64 { return uint64(max(t.UnixNano(), 0)) }
