package audit

import (
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// One goroutine writes at a time: the leader. Append puts its record into the
// queue; if nobody leads, it leads, else it waits. The leader takes all that
// waits, numbers it, writes it with one write (and one fsync), wakes those whose
// records these were, and makes the first that came meanwhile the next leader. So
// batches are as large as the disk is slow, and nobody waits for a timer.

// entry is one record on its way. It is reused.
type entry struct {
	body      []byte // the line from behind the id; empty: none, the leader is to look after the log only
	durable   bool
	essential bool
	room      bool // the reserve is to be given up
	id        uint64
	err       error
	wake      chan bool // true: lead; false: done
}

var entries = sync.Pool{New: func() any { return &entry{wake: make(chan bool, 1)} }}

// keepBody is the largest buffer that is kept for reuse.
const keepBody = 64 << 10

// writer is what only the leader touches.
type writer struct {
	lock    folderLock
	buf     []byte // the lines of a batch
	stored  []byte // their hashes
	next    mark   // the log with them
	spare   []*entry
	hasher  *leafHasher
	notices []string  // for recovery records, to be written before anything else
	tried   time.Time // when recovering was tried last
	pause   time.Duration
	reserve reserve
}

// Append records r and returns its id. It returns when the record is in the log as
// Options.Sync says, or on disk if durable. It sets r.ID, and r.Time if that is
// zero. Errors are AUDIT_UNAVAILABLE, and nothing is recorded then; or BAD_REQUEST,
// for a record beyond MaxLine.
func (l *Log) Append(r *Record, durable bool) (uint64, error) {
	if r.Time.IsZero() {
		r.Time = l.opts.Now()
	}
	e := entries.Get().(*entry)
	e.body = append(appendBody(e.body[:0], r), '\n')
	e.durable = durable || l.opts.Sync == SyncGroup
	e.essential, e.room = r.essential(), false
	if len(e.body) > MaxLine-64 {
		e.body = nil
		entries.Put(e)
		return 0, fault.New(fault.BadRequest, "the request has more to record than the %d bytes of a record", MaxLine)
	}
	id, err := l.submit(e)
	r.ID = id
	return id, err
}

// nudge has the leader look after the log without a record: load it, recover, write notices.
func (l *Log) nudge() error { return l.handOver(false) }

// MakeRoom gives the reserve up for what else of the agent must be written on a full
// disk. Where that was done before, or there is no reserve, there is no room to make.
func (l *Log) MakeRoom() { _ = l.handOver(true) }

// handOver gives the leader an entry without a record.
func (l *Log) handOver(room bool) error {
	e := entries.Get().(*entry)
	e.body, e.durable, e.essential, e.room = e.body[:0], false, false, room
	_, err := l.submit(e)
	return err
}

func (l *Log) submit(e *entry) (uint64, error) {
	l.mu.Lock()
	l.queue = append(l.queue, e)
	lead := !l.leading
	l.leading = true
	l.mu.Unlock()
	if !lead {
		lead = <-e.wake
	}
	if lead {
		l.lead()
	}
	id, err := e.id, e.err
	if cap(e.body) > keepBody {
		e.body = nil
	}
	entries.Put(e)
	return id, err
}

// lead writes one batch, the leader's own record first, and hands on.
func (l *Log) lead() {
	w := &l.writer
	runtime.Gosched() // whoever is about to record as well gets into this batch: a third less time each, when many do
	l.mu.Lock()
	batch := l.queue
	l.queue = w.spare[:0]
	l.mu.Unlock()

	l.store(batch)
	for _, e := range batch[1:] {
		e.wake <- false
	}
	clear(batch)
	w.spare = batch

	l.mu.Lock()
	if len(l.queue) > 0 {
		l.queue[0].wake <- true
	} else {
		l.leading = false
	}
	l.mu.Unlock()
}

// store brings a batch to where it must be and says so in each entry.
func (l *Log) store(batch []*entry) {
	if !l.lean && slices.ContainsFunc(batch, func(e *entry) bool { return e.room }) {
		l.giveUpReserve()
	}
	err := l.ready(batch)
	if err == nil && l.lean && !l.refill() {
		batch = l.essential(batch, l.errLean())
	}
	if err == nil {
		err = l.put(batch)
	}
	if full(err) && !l.lean {
		// Only what must work on a full disk may have the space that was kept for it.
		batch = l.essential(batch, l.unavailable(err))
		if len(batch) > 0 {
			l.giveUpReserve()
			if err = l.ready(batch); err == nil {
				err = l.put(batch)
			}
		}
	}
	if err != nil {
		l.refuse(batch, l.unavailable(err))
	}
}

// essential refuses all but the essential entries, which it returns.
func (l *Log) essential(batch []*entry, err error) []*entry {
	var kept, others []*entry
	for _, e := range batch {
		if e.essential {
			kept = append(kept, e)
		} else {
			others = append(others, e)
		}
	}
	l.refuse(others, err)
	return kept
}

func (l *Log) refuse(batch []*entry, err error) {
	records := 0
	for _, e := range batch {
		e.id, e.err = 0, err
		if len(e.body) > 0 {
			records++
		}
	}
	l.mu.Lock()
	l.refused += records
	l.mu.Unlock()
}

// put numbers and writes a batch. On an error the log is broken, and none of it counts.
func (l *Log) put(batch []*entry) error {
	w := &l.writer
	w.next.set(&l.head) // only leaders change it
	w.buf, w.stored = w.buf[:0], w.stored[:0]
	durable := l.putNotices()
	for _, e := range batch {
		e.err = nil
		if len(e.body) > 0 {
			e.id = uint64(w.next.tree.n)
			w.line(e.body)
			durable = durable || e.durable
		}
	}
	if len(w.buf) == 0 {
		return nil
	}
	if err := l.write(durable); err != nil {
		return err
	}
	l.hashes.add(w.stored)
	w.notices, w.pause = nil, 0
	l.endOutage()
	return nil
}

// line numbers one line and puts it into the batch.
func (w *writer) line(body []byte) {
	start := len(w.buf)
	w.buf = append(w.buf, lineStart...)
	w.buf = strconv.AppendInt(w.buf, w.next.tree.n, 10)
	w.buf = append(w.buf, body...)
	w.stored = w.next.tree.push(w.hasher.leaf(w.buf[start:len(w.buf)-1]), w.stored)
}

// putNotices puts the log's own records into the batch, if there are any: they are durable.
func (l *Log) putNotices() bool {
	w := &l.writer
	notices := w.notices
	if outage := l.outage(); outage != "" {
		notices = append(notices[:len(notices):len(notices)], outage)
	}
	for _, notice := range notices {
		r := Record{Time: l.opts.Now(), Kind: KindRecovery, Caller: "sealsign", Operation: "recover", Message: notice}
		w.line(append(appendBody(nil, &r), '\n'))
	}
	return len(notices) > 0
}

// write writes the batch behind what was acknowledged and acknowledges it.
func (l *Log) write(durable bool) error {
	w := &l.writer
	if off := l.head.off; off > 0 && off+int64(len(w.buf)) > l.opts.SegmentSize {
		if err := l.roll(); err != nil {
			return err
		}
		w.next.off = 0
	}
	if _, err := l.seg.WriteAt(w.buf, w.next.off); err != nil {
		return l.fail(err, false)
	}
	w.next.off += int64(len(w.buf))
	if durable {
		return l.syncNext()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil { // by the sync in the background, meanwhile
		return l.broken
	}
	l.head, w.next = w.next, l.head
	return nil
}

// syncNext brings the batch on disk and acknowledges it.
func (l *Log) syncNext() error {
	w := &l.writer
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	broken := l.broken
	l.mu.Unlock()
	if broken != nil {
		return broken
	}
	if err := l.syncSegment(l.seg); err != nil {
		return l.fail(err, true)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head, w.next = w.next, l.head
	l.synced.set(&l.head)
	return nil
}
