package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
)

// The pause between two tries to use a disk that failed, doubling.
const (
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
)

// ready makes sure that there is a segment to write to: it loads a log that could
// not be loaded, and recovers one that failed.
func (l *Log) ready(batch []*entry) error {
	w := &l.writer
	l.mu.Lock()
	closed, loaded, broken := l.closed, l.loaded, l.broken
	l.mu.Unlock()
	if closed {
		return errClosed()
	}
	if loaded && broken == nil {
		return nil
	}
	now := l.opts.Now()
	urgent := false
	for _, e := range batch {
		urgent = urgent || loaded && e.essential
	}
	if !urgent && now.Sub(w.tried).Abs() < w.pause {
		return broken
	}
	w.tried, w.pause = now, min(max(2*w.pause, minPause), maxPause)

	restore := l.recover
	if !loaded {
		restore = l.load
	}
	if err := restore(); err != nil {
		return l.unavailable(l.fail(err, false))
	}
	return nil
}

// fail notes that the log can't be written; nothing is acknowledged until it has
// recovered. Suspect: what the kernel holds of the segment can't be trusted. It returns err.
func (l *Log) fail(err error, suspect bool) error {
	reason := l.unavailable(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken == nil {
		l.opts.Log.Error("the audit log can't take records", event.Key, event.AuditLost, "dir", l.dir, "error", err)
	}
	l.beginOutageLocked()
	l.broken = reason
	l.suspect = l.suspect || suspect
	return err
}

func (l *Log) beginOutageLocked() {
	if l.since.IsZero() {
		l.since, l.refused = l.opts.Now(), 0
	}
}

// outage says for how long not all records were taken, or nothing.
func (l *Log) outage() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() || l.lean {
		return ""
	}
	took := l.opts.Now().Sub(l.since).Round(time.Millisecond)
	return fmt.Sprintf("for %s the log could not take all records: %d were refused, and their requests with them", took, l.refused)
}

func (l *Log) endOutage() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lean || l.since.IsZero() {
		return
	}
	l.since, l.refused = time.Time{}, 0
	l.opts.Log.Info("the audit log takes all records again", event.Key, event.AuditBack, "dir", l.dir)
}

// notice has a recovery record written before anything else is.
func (l *Log) notice(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.opts.Log.Warn("audit log: " + text)
	l.writer.notices = append(l.writer.notices, text)
}

// recover makes the segment end again with the last acknowledged record, on a handle of its own.
func (l *Log) recover() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.setSegment(nil, l.segment)
	seg, err := l.opts.Fault.open(l.path(l.segment), os.O_RDWR)
	if err != nil {
		return err
	}
	if err := l.restore(seg); err != nil {
		return errors.Join(err, seg.Close())
	}
	l.setSegment(seg, l.segment)
	if l.suspect && l.head.off > 0 {
		if err := l.rollLocked(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken, l.suspect = nil, false
	return nil
}

// restore cuts off what was never acknowledged, and brings on disk what was.
func (l *Log) restore(seg *file) error {
	size, err := seg.size()
	if err != nil {
		return err
	}
	if size < l.synced.off {
		return l.errChanged(fmt.Errorf("%s has %d bytes, %d were synced", seg.Name(), size, l.synced.off))
	}
	if size > l.head.off {
		if err := seg.Truncate(l.head.off); err != nil {
			return err
		}
	}
	if l.suspect || size < l.head.off {
		if err := l.rewrite(seg, min(size, l.head.off)); err != nil {
			return err
		}
	}
	if err := seg.Sync(); err != nil {
		l.mu.Lock()
		l.suspect = true
		l.mu.Unlock()
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced.set(&l.head)
	return nil
}

// rewrite writes the records that were acknowledged but not synced once more, in
// place, so that the kernel knows them as unsaved; and checks that they are what the tree has.
func (l *Log) rewrite(seg *file, size int64) error {
	from := l.synced.off
	if err := copyBlocks(io.NewOffsetWriter(seg, from), seg, from, size); err != nil {
		return err
	}
	var have mark
	have.set(&l.synced)
	lines := newLineReader(io.NewSectionReader(seg, from, size-from))
	for have.tree.n < l.head.tree.n {
		line, err := lines.next()
		if err != nil || !looksWhole(line, have.tree.n) {
			break
		}
		have.tree.push(l.writer.hasher.leaf(line), nil)
		have.off = from + lines.end
	}
	if have.tree.n < l.head.tree.n {
		return l.lose(seg, &have)
	}
	if have.tree.root() != l.head.tree.root() {
		return l.errChanged(fmt.Errorf("%s no longer holds what was written", seg.Name()))
	}
	return nil
}

// lose goes back to have: the disk lost acknowledged records behind it. That can
// only be if Options.Sync is "interval", and is what that risks.
func (l *Log) lose(seg *file, have *mark) error {
	if err := seg.Truncate(have.off); err != nil {
		return err
	}
	if err := l.hashes.cut(have.tree.n); err != nil {
		return err
	}
	l.notice("the disk lost %d records, from number %d on, that were acknowledged but not yet synced",
		l.head.tree.n-have.tree.n, have.tree.n)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head.set(have)
	return nil
}

// roll ends the segment and begins the next.
func (l *Log) roll() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	broken := l.broken
	l.mu.Unlock()
	if broken != nil {
		return broken
	}
	if err := l.seg.Sync(); err != nil {
		return l.fail(err, true)
	}
	if err := l.rollLocked(); err != nil {
		return l.fail(err, false)
	}
	return nil
}

// rollLocked begins a new segment; the one before, and all hashes, are on disk then.
func (l *Log) rollLocked() error {
	if err := l.hashes.sync(); err != nil {
		return err
	}
	next, err := l.newSegment(l.segment + 1)
	if err != nil {
		return err
	}
	old := l.seg
	l.setSegment(next, l.segment+1)
	l.mu.Lock()
	l.head.off = 0
	l.synced.set(&l.head)
	l.mu.Unlock()
	return old.Close()
}

// newSegment makes an empty segment. One that a failed try left behind will do.
func (l *Log) newSegment(number int) (*file, error) {
	f, err := l.opts.Fault.open(l.path(number), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	size, err := f.size()
	if err == nil && size > 0 {
		err = l.errChanged(fmt.Errorf("%s is there already", f.Name()))
	}
	if err == nil {
		err = l.opts.Fault.syncFolder(l.dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// setSegment exchanges the segment; l.syncing is held.
func (l *Log) setSegment(f *file, number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f == nil && l.seg != nil {
		_ = l.seg.Close()
	}
	l.seg, l.segment = f, number
}

func (l *Log) path(segment int) string { return filepath.Join(l.dir, segmentName(segment)) }

// unavailable is what a caller gets for err.
func (l *Log) unavailable(err error) *fault.Error {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e
	}
	e := fault.New(fault.AuditUnavailable, "the audit log can't be written: %v", err).Because(err).
		WithHint("look at the disk of %s; sealsign tries again by itself", l.dir)
	if full(err) {
		e = l.errLean().Because(err)
	}
	e.RetryAfter = minPause
	return e
}

// errLean is the refusal of a record that may not use the reserve.
func (l *Log) errLean() *fault.Error {
	e := fault.New(fault.AuditUnavailable, "the audit log's disk is full").
		WithHint("free space on the disk of %s; administrative acts and cancels still work", l.dir)
	e.RetryAfter = time.Second
	return e
}

// errChanged is the refusal to build on a log that isn't what it was.
func (l *Log) errChanged(err error) *fault.Error {
	return fault.New(fault.AuditUnavailable, "the audit log is not what was written: %v", err).Because(err).
		WithHint("see what changed with: sealsign audit verify %[1]s; to begin a new log, move the folder away: mv %[1]s %[1]s.old", l.dir)
}
