package ledger

import (
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// latest is the one mark of its kind: the latest time ever seen.
var latest = id{clock, "latest"}

// useEvery is how far apart two writes of a key's last use are.
const useEvery = time.Hour

// Saw takes note of a time, which the caller vouches for: a wrong one that is ahead
// stays until ResetTime. It does no I/O: KeepTime and Close write it down.
func (l *Ledger) Saw(at time.Time) { l.saw(unixNano(at)) }

func (l *Ledger) saw(at uint64) {
	for {
		seen := l.seen.Load()
		if at <= seen || l.seen.CompareAndSwap(seen, at) {
			return
		}
	}
}

// Seen is the latest time that was seen, by this process or one before it; zero where
// there is none, or the file can't be read. It neither waits nor allocates.
func (l *Ledger) Seen() time.Time { return fromUnixNano(l.seen.Load()) }

// Kept is the latest time that is on disk; zero: none.
func (l *Ledger) Kept() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fromUnixNano(l.markLocked(latest).reserved)
}

// KeepTime writes down the latest time that was seen.
func (l *Ledger) KeepTime() error { return l.raise(latest, l.seen.Load(), 0) }

// ResetTime forgets the latest time that was seen, on disk first: where it fails, it
// is as before.
func (l *Ledger) ResetTime() error {
	l.disk.Lock()
	defer l.disk.Unlock()
	if err := l.ready(); err != nil {
		return err
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return fault.New(fault.LedgerUnavailable, "the ledger is closed")
	}
	before := *l.markLocked(latest)
	*l.markLocked(latest) = mark{}
	l.mu.Unlock()
	// The highest mark of a file counts, so that only another file can lower it.
	if err := l.rewrite(); err != nil {
		l.mu.Lock()
		*l.markLocked(latest) = before
		l.mu.Unlock()
		return l.fail(err)
	}
	l.seen.Store(0)
	return nil
}

// KeepUse keeps when a key was used last. It writes once an hour of use: after a
// crash the last use is told up to an hour too early.
func (l *Ledger) KeepUse(name string, at time.Time) error {
	k := id{use, name}
	l.mu.Lock()
	m := l.markLocked(k)
	m.used = max(m.used, unixNano(at))
	used, due := m.used, m.used >= m.reserved+uint64(useEvery)
	l.mu.Unlock()
	if !due {
		return nil
	}
	return l.raise(k, used, 0)
}

// LastUse is when a key was used last, as far as KeepUse was told; zero: never.
func (l *Ledger) LastUse(name string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fromUnixNano(l.markLocked(id{use, name}).used)
}

// fromUnixNano undoes unixNano; 0, which none of these times is, stands for none.
func fromUnixNano(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n)) //nolint:gosec // no mark is beyond MaxInt64
}
