package audit

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sealsign/sealsign/internal/event"
)

const (
	reserveName = "reserve"
	// reserveSize is room for some ten thousand cancels, and for what the rest of the agent must write to suspend or revoke a key.
	reserveSize = 8 << 20
	// refillEvery is the pause between two tries to get the space back.
	refillEvery = time.Second
)

// reserve is the file whose space is given up when the disk is full.
type reserve struct{ tried time.Time }

// refill gets the reserve back; the log takes all records again then.
func (l *Log) refill() bool {
	now := l.opts.Now()
	if now.Sub(l.writer.reserve.tried).Abs() < refillEvery {
		return false
	}
	l.writer.reserve.tried = now
	if !roomy(l.dir) {
		return false
	}
	if err := l.allocate(); err != nil {
		return false
	}
	l.setLean(false)
	return true
}

// roomy reports whether there is more free than the reserve takes: to ask for all that is left would take it
// from those who are served from it.
func roomy(dir string) bool {
	var fs syscall.Statfs_t
	return syscall.Statfs(dir, &fs) == nil && fs.Bavail*uint64(fs.Bsize) > 2*reserveSize
}

// giveUpReserve frees the space, for good once the folder is synced.
func (l *Log) giveUpReserve() {
	l.writer.reserve.tried = l.opts.Now()
	l.setLean(true)
	path := filepath.Join(l.dir, reserveName)
	if _, err := l.opts.Fault.ask("remove", path, 0); err != nil {
		return
	}
	_ = os.Remove(path)
	_ = l.opts.Fault.syncFolder(l.dir)
	l.opts.Log.Error("the disk is full: only administrative acts and cancels are taken", event.Key, event.AuditLost, "dir", l.dir)
}

func (l *Log) setLean(lean bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lean = lean
	if lean {
		l.beginOutageLocked()
	}
}

// allocate makes sure that the reserve is there in full, as blocks of its own.
func (l *Log) allocate() error {
	path := filepath.Join(l.dir, reserveName)
	f, err := l.opts.Fault.open(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	_, err = l.opts.Fault.ask("allocate", path, reserveSize)
	if err == nil {
		err = allocate(f)
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		_ = os.Remove(path) // what it got is better left to others
	}
	return err
}

func allocate(f *file) error {
	err := syscall.Fallocate(int(f.Fd()), 0, 0, reserveSize)
	if !errors.Is(err, syscall.EOPNOTSUPP) {
		return err
	}
	if size, err := f.size(); err != nil || size == reserveSize {
		return err
	}
	if _, err := f.WriteAt(make([]byte, reserveSize), 0); err != nil {
		return err
	}
	return f.Sync()
}
