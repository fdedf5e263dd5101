package audit

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// The values of Options.Sync.
const (
	SyncGroup    = "group"    // on disk before Append returns
	SyncInterval = "interval" // in the kernel before Append returns, on disk within a second
)

const (
	defaultSegment    = 64 << 20 // bytes
	defaultCheckpoint = time.Minute
	// syncEvery is the time in which "interval" brings records on disk, and in which denials are merged.
	syncEvery = time.Second
	// signTimeout bounds the signature at Close.
	signTimeout = 10 * time.Second
)

// Options say how a log works. All but Origin have defaults.
type Options struct {
	Sync        string        // SyncGroup (default) or SyncInterval
	SegmentSize int64         // a segment that would grow beyond it is followed by a new one; default 64 MiB
	Checkpoint  time.Duration // how often a checkpoint is made if something happened; default a minute
	// Origin names a new log in its checkpoints: a URL without scheme, no spaces and no plus.
	Origin string
	// Sign signs the SHA-256 of msg with ECDSA, in DER, and Public checks it. Both may come later, by SetSigner.
	Sign   SignFunc
	Public *ecdsa.PublicKey
	// Digests are written into each checkpoint: names and values of visible ASCII.
	Digests func() map[string]string
	// Synced is told how long it took to bring records on disk; nil: nobody is. It must not block.
	Synced func(time.Duration)
	// OnCheckpoint gets each new checkpoint after it was written.
	OnCheckpoint func(note string)
	Log          *slog.Logger
	Now          func() time.Time
	Fault        Fault
}

// SignFunc makes an ECDSA signature over the SHA-256 of msg, in DER.
type SignFunc func(ctx context.Context, msg []byte) (der []byte, err error)

// Log is the one writer of a log. Its methods may be called by many goroutines at once.
type Log struct {
	dir    string
	opts   Options
	writer writer // touched only by the goroutine that leads, see append.go

	// syncing is held while a segment is synced, or exchanged for another: two
	// goroutines that sync the same handle could each miss the other's error. It is locked before mu.
	syncing sync.Mutex

	// mu guards what follows and is never held during I/O.
	mu      sync.Mutex
	queue   []*entry // waiting for the leader
	leading bool     // a goroutine leads
	closed  bool
	loaded  bool
	seg     *file // nil while the log has failed
	segment int   // its number
	head    mark  // what was acknowledged
	synced  mark  // what is on disk for sure, in the same segment
	broken  error // why no record can be taken
	since   time.Time
	refused int  // records, since then
	suspect bool // a sync failed: the kernel may have dropped what it held
	lean    bool // the reserve is given up

	hashes  *hashFile // set once, by load
	denials denials
	signing signing

	stop     context.CancelFunc
	stopped  sync.WaitGroup
	once     sync.Once // for Close
	closeErr error
}

// mark is a place in the log: the tree up to it, and the offset in the current segment.
type mark struct {
	tree tree
	off  int64
}

func (m *mark) set(from *mark) {
	m.tree.set(&from.tree)
	m.off = from.off
}

// Open opens the log in dir, or begins one. The Log is never nil: if the folder
// can't be used, Append answers with that error and tries again by itself. Errors
// are AUDIT_UNAVAILABLE; records that a checkpoint or the tree knows otherwise, or
// that are gone, are one, for nothing may be built on such a log.
func Open(dir string, opts Options) (*Log, error) {
	l := newLog(dir, opts)
	err := l.nudge()
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.stopped.Go(func() { l.every(ctx, syncEvery, l.tick) })
	l.stopped.Go(func() {
		l.every(ctx, l.opts.Checkpoint, func() { l.checkpointIfNew(ctx) })
	})
	return l, err
}

func newLog(dir string, opts Options) *Log {
	if opts.Sync == "" {
		opts.Sync = SyncGroup
	}
	if opts.SegmentSize <= 0 {
		opts.SegmentSize = defaultSegment
	}
	if opts.Checkpoint <= 0 {
		opts.Checkpoint = defaultCheckpoint
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	l := &Log{dir: dir, opts: opts}
	l.writer.hasher = newLeafHasher()
	l.denials.pairs = make(map[denialKey]*denial)
	l.denials.distinct = make(map[denialKey]int)
	l.signing.file = noteFile{path: filepath.Join(dir, checkpointsName), fault: opts.Fault}
	l.SetSigner(opts.Public, opts.Sign)
	return l
}

func (l *Log) every(ctx context.Context, interval time.Duration, do func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}

// tick is what happens once a second.
func (l *Log) tick() {
	l.flushDenials(false)
	if l.Healthy() != nil {
		_ = l.nudge() // tries to recover
	}
	_, _ = l.sync()
}

// sync brings what was acknowledged on disk and returns how far that is.
func (l *Log) sync() (tree, error) {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	var want mark
	l.mu.Lock()
	want.set(&l.head)
	seg, broken, done := l.seg, l.broken, l.synced.tree.n == want.tree.n
	if l.closed {
		broken = errClosed()
	}
	l.mu.Unlock()
	if broken != nil {
		return tree{}, broken
	}
	if done {
		return want.tree, nil
	}
	if err := l.syncSegment(seg); err != nil {
		return tree{}, l.unavailable(l.fail(err, true))
	}
	l.mu.Lock()
	l.synced.set(&want)
	l.mu.Unlock()
	return want.tree, nil
}

// syncSegment brings a segment on disk.
func (l *Log) syncSegment(seg *file) error {
	began := time.Now()
	err := seg.Sync()
	if l.opts.Synced != nil {
		l.opts.Synced(time.Since(began))
	}
	return err
}

// Status is what there is to say about a log.
type Status struct {
	Problem      error     // why records are refused; nil: they are taken
	Records      uint64    // acknowledged
	Covered      uint64    // by the last checkpoint
	CheckpointAt time.Time // zero: there is none
	// CheckpointProblem is why the last try to make one failed, or nil.
	CheckpointProblem error
	Origin            string // as in its checkpoints
	Sync              string
}

// Status is cheap: no I/O.
func (l *Log) Status() Status {
	s := Status{Problem: l.Healthy(), Sync: l.opts.Sync}
	l.mu.Lock()
	s.Records = uint64(l.head.tree.n)
	l.mu.Unlock()
	l.signing.report(&s)
	if s.Origin == "" {
		s.Origin = l.opts.Origin
	}
	return s
}

// Healthy returns nil, or the AUDIT_UNAVAILABLE that a record would get now.
func (l *Log) Healthy() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return errClosed()
	case l.broken != nil:
		return l.broken
	case l.lean:
		return l.errLean()
	}
	return nil
}

// Close writes what is left, makes a last checkpoint and gives the folder free.
func (l *Log) Close() error {
	l.once.Do(func() {
		l.stop()
		l.stopped.Wait()
		l.flushDenials(true)
		ctx, cancel := context.WithTimeout(context.Background(), signTimeout)
		defer cancel()
		l.checkpointIfNew(ctx)
		_, err := l.sync()
		l.closeErr = errors.Join(err, l.shut())
	})
	return l.closeErr
}

// shut refuses further records, waits for the last leader and closes the files.
func (l *Log) shut() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	_ = l.nudge() // leads once more, so that whoever led before is done
	l.syncing.Lock()
	defer l.syncing.Unlock()
	var errs []error
	if l.hashes != nil {
		errs = append(errs, l.hashes.flush(), l.hashes.f.Close())
	}
	for _, f := range []*os.File{osFile(l.seg), l.writer.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

func osFile(f *file) *os.File {
	if f == nil {
		return nil
	}
	return f.File
}

func errClosed() error { return fault.New(fault.AuditUnavailable, "the audit log is closed") }
