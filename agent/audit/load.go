package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
)

const (
	hashesName = "hashes"
	// tornTime stands in the names of files that were set aside.
	tornTime = "20060102T150405.000000000Z"
)

// folderLock keeps a second writer out. The kernel gives it back when the process ends, however it ends.
type folderLock = *os.File

func lockFolder(dir string) (folderLock, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = d.Close()
		return nil, fault.New(fault.AuditUnavailable, "another process writes the audit log in %s", dir).Because(err).
			WithHint("stop the other sealsignd, or give each its own state_dir")
	}
	return d, nil
}

// load finds out where the log ends. Only the last segment is read: the hashes of
// the others are on disk since it was begun. Nothing is changed before all is
// known to be what was written, but for what a crash left.
func (l *Log) load() error {
	l.writer.notices = nil
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	lock, err := lockFolder(l.dir)
	if err != nil {
		return err
	}
	if err := l.loadLocked(); err != nil {
		_ = lock.Close() // the folder may be another when it is tried again
		return err
	}
	l.writer.lock = lock
	if err := l.allocate(); err != nil {
		l.setLean(true)
		l.opts.Log.Error("the audit log has no reserve: only administrative acts and cancels are taken", event.Key, event.AuditLost, "dir", l.dir, "error", err)
	}
	return nil
}

func (l *Log) loadLocked() error {
	hashes, err := openHashes(l.opts.Fault, filepath.Join(l.dir, hashesName))
	if err != nil {
		return err
	}
	ld := loader{log: l, hashes: hashes, known: hashes.kept}
	defer ld.close()
	if err := ld.run(); err != nil {
		_ = hashes.f.Close()
		return err
	}
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.hashes = hashes
	l.setSegment(ld.take(), ld.number)
	l.mu.Lock()
	l.head.set(&ld.end)
	l.synced.set(&ld.end)
	l.loaded, l.broken, l.suspect = true, nil, false
	l.mu.Unlock()
	return nil
}

// scanAndCheck reads the last segment. Where that doesn't give the tree of the last
// checkpoint, it reads all of them: the file of hashes may have lost some in a
// failure of the disk, and the segments haven't.
func (ld *loader) scanAndCheck(numbers []int) error {
	err := ld.scan(numbers)
	if err == nil {
		err = ld.check()
	}
	if err == nil || !ld.trusted {
		return err
	}
	ld.log.notice("the hashes of the log don't give its last checkpoint: they are made again from all of its records")
	ld.distrust, ld.torn, ld.seg, ld.number, ld.end, ld.hashes.pending = true, nil, nil, 0, mark{}, nil
	if err := ld.scan(numbers); err != nil {
		return err
	}
	return ld.check()
}

// loader is the state of one load.
type loader struct {
	log    *Log
	hashes *hashFile
	known  int64 // hashes that the file had
	last   checkpoint

	distrust bool // make all hashes again
	trusted  bool // those before the last segment were taken as they are
	torn     []cut
	opened   []*file
	number   int // of the segment that is written on
	seg      *file
	end      mark
}

// cut is what is to be set aside of a segment.
type cut struct {
	seg      *file
	at, size int64
}

func (ld *loader) run() error {
	l := ld.log
	numbers, err := segments(l.dir)
	if err != nil {
		return err
	}
	if ld.last, err = l.signing.file.load(l); err != nil {
		return err
	}
	if err := ld.scanAndCheck(numbers); err != nil {
		return err
	}
	for _, c := range ld.torn {
		if err := ld.setAside(c); err != nil {
			return err
		}
	}
	if ld.seg == nil {
		ld.number = 1
		if ld.seg, err = l.newSegment(1); err != nil {
			return err
		}
		ld.opened = append(ld.opened, ld.seg)
	}
	return ld.seg.Sync()
}

// scan finds the last segment with a record in it and reads it, and with it all
// others if the hashes before it aren't there.
func (ld *loader) scan(numbers []int) error {
	var lines *file // the last segment with records
	first := int64(0)
	i := len(numbers) - 1
	for ; i >= 0; i-- {
		seg, err := ld.log.opts.Fault.open(ld.log.path(numbers[i]), os.O_RDWR)
		if err != nil {
			return err
		}
		ld.opened = append(ld.opened, seg)
		if ld.seg == nil {
			ld.seg, ld.number = seg, numbers[i]
		}
		id, ok, err := firstID(seg)
		if err != nil {
			return err
		}
		if ok {
			lines, first = seg, id
			break
		}
		if err := ld.tear(seg, 0); err != nil {
			return err
		}
	}
	if lines == nil {
		return ld.keepHashes(0)
	}
	var err error
	// What no checkpoint vouches for isn't signed over unseen.
	ld.trusted = !ld.distrust && tlog.StoredHashCount(first) <= ld.known && first <= ld.last.Size
	if ld.trusted {
		err = ld.keepHashes(first)
	} else {
		err = ld.readAll(numbers[:i])
	}
	if err == nil {
		err = ld.read(lines, true)
	}
	if ld.seg != lines {
		ld.end.off = 0 // what is written on is an empty segment behind it
	}
	return err
}

// readAll makes the hashes again from the segments before the last.
func (ld *loader) readAll(before []int) error {
	if err := ld.keepHashes(0); err != nil {
		return err
	}
	for _, number := range before {
		seg, err := ld.log.opts.Fault.open(ld.log.path(number), os.O_RDONLY)
		if err != nil {
			return err
		}
		err = ld.read(seg, false)
		if err := errors.Join(err, seg.Close()); err != nil {
			return err
		}
	}
	return nil
}

// keepHashes begins with the tree of the first n records.
func (ld *loader) keepHashes(n int64) (err error) {
	ld.end = mark{}
	ld.end.tree, err = treeAt(n, ld.hashes)
	ld.hashes.kept = tlog.StoredHashCount(n)
	return err
}

// read adds the records of one segment to the tree. A line of the last segment that isn't whole is torn, with
// all behind it. Hashes that the file has already must be the same.
func (ld *loader) read(seg *file, last bool) error {
	size, err := seg.size()
	if err != nil {
		return err
	}
	h, count := ld.hashes, tlog.StoredHashCount(ld.end.tree.n)
	have := bufio.NewReaderSize(io.NewSectionReader(h.f, count*tlog.HashSize, max(ld.known-count, 0)*tlog.HashSize), 64<<10)
	lines := newLineReader(io.NewSectionReader(seg, 0, size))
	ld.end.off = 0
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, errTorn) && !errors.Is(err, errLong) {
			return err
		}
		if err != nil || !looksWhole(line, ld.end.tree.n) {
			if !last {
				return ld.log.errChanged(fmt.Errorf("%s, line %d: not record %d", seg.Name(), lines.number, ld.end.tree.n))
			}
			return ld.tear(seg, ld.end.off)
		}
		stored := ld.end.tree.push(ld.log.writer.hasher.leaf(line), nil)
		if !sameHashes(have, stored) {
			return ld.log.errChanged(fmt.Errorf("%s, line %d: record %d has another hash than when it was written",
				seg.Name(), lines.number, ld.end.tree.n-1))
		}
		h.add(stored)
		ld.end.off = lines.end
	}
}

// sameHashes compares with the hashes that the file has. One that was never brought
// on disk before a crash is all zeros, or not there.
func sameHashes(have io.Reader, stored []byte) bool {
	var was, zero tlog.Hash
	for ; len(stored) > 0; stored = stored[tlog.HashSize:] {
		if _, err := io.ReadFull(have, was[:]); err != nil {
			return true
		}
		if was != zero && !bytes.Equal(was[:], stored[:tlog.HashSize]) {
			return false
		}
	}
	return true
}

// tear notes what lies behind at, if anything.
func (ld *loader) tear(seg *file, at int64) error {
	size, err := seg.size()
	if err == nil && size > at {
		ld.torn = append(ld.torn, cut{seg, at, size})
	}
	return err
}

// check compares the tree with the last checkpoint.
func (ld *loader) check() error {
	n, last := ld.end.tree.n, ld.last
	if last.Size > n {
		return ld.log.errChanged(fmt.Errorf("the last checkpoint covers %d records, but only %d are there", last.Size, n))
	}
	if last.Size > 0 {
		covered, err := treeAt(last.Size, ld.hashes)
		if err != nil {
			return err
		}
		if covered.root() != last.Root {
			return ld.log.errChanged(fmt.Errorf("the first %d records are not those of the last checkpoint", last.Size))
		}
	}
	if known := ld.known; known > tlog.StoredHashCount(n) {
		level, i := tlog.SplitStoredHashIndex(known - 1)
		ld.log.notice("records from number %d to %d are gone, of which there are hashes: lost in a crash of the host, or removed",
			n, (i+1)<<level-1)
	}
	return ld.hashes.cut(n)
}

// setAside moves what a crash left into a file of its own.
func (ld *loader) setAside(c cut) error {
	l := ld.log
	path := fmt.Sprintf("%s.%s.torn", c.seg.Name(), l.opts.Now().UTC().Format(tornTime))
	if err := l.opts.Fault.copyOut(path, c.seg, c.at, c.size); err != nil {
		return err
	}
	if err := c.seg.Truncate(c.at); err != nil {
		return err
	}
	if err := c.seg.Sync(); err != nil {
		return err
	}
	l.notice("%d bytes behind record %d were torn by a crash and are set aside in %s", c.size-c.at, ld.end.tree.n-1, filepath.Base(path))
	return nil
}

// take hands the segment to the log, so that close leaves it open.
func (ld *loader) take() *file {
	seg := ld.seg
	ld.seg = nil
	kept := ld.opened[:0]
	for _, f := range ld.opened {
		if f != seg {
			kept = append(kept, f)
		}
	}
	ld.opened = kept
	return seg
}

func (ld *loader) close() {
	for _, f := range ld.opened {
		_ = f.Close()
	}
}

// firstID is the id of a segment's first record; not ok: it has none.
func firstID(seg *file) (id int64, ok bool, err error) {
	line, err := newLineReader(io.NewSectionReader(seg, 0, MaxLine)).next()
	switch {
	case err == nil:
		id, ok = lineID(line)
		return id, ok && looksWhole(line, id), nil
	case errors.Is(err, io.EOF), errors.Is(err, errTorn), errors.Is(err, errLong):
		return 0, false, nil
	}
	return 0, false, err
}
