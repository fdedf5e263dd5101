package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
)

// compactAt is the size below which a file isn't worth rewriting.
const compactAt = 64 << 10

// ready makes sure that there is a file to append to: it loads the ledger if that
// was never possible, and replaces a file that failed.
func (l *Ledger) ready() error {
	if l.file != nil {
		return nil
	}
	now := l.opts.Now()
	if err := l.Healthy(); err != nil && now.Sub(l.failed).Abs() < retryEvery {
		return err
	}
	if l.lock == nil {
		if err := l.load(); err != nil {
			return l.fail(err)
		}
	}
	if err := l.rewrite(); err != nil {
		return l.fail(err)
	}
	if l.Healthy() != nil {
		l.opts.Log.Info("the ledger can be used again", event.Key, event.LedgerBack, "path", l.path)
		l.setHealth(nil)
	}
	return nil
}

// fail gives the handle up and returns the error that calls get until the disk is back.
func (l *Ledger) fail(err error) error {
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
	l.failed = l.opts.Now()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		e = fault.New(fault.LedgerUnavailable, "the ledger can't be used: %v", err).Because(err).
			WithHint("look at the disk; sealsign tries again by itself")
		e.RetryAfter = retryEvery
	}
	if l.Healthy() == nil {
		l.opts.Log.Error("the ledger can't be used", event.Key, event.LedgerLost, "path", l.path, "error", err)
	}
	l.setHealth(e)
	return e
}

// load takes the lock and reads the file. It changes nothing on disk but sets a torn tail aside.
func (l *Ledger) load() error {
	lock, err := l.takeLock()
	if err != nil {
		return err
	}
	if err := l.read(); err != nil {
		_ = lock.Close()
		return err
	}
	l.lock = lock
	return nil
}

// takeLock keeps a second daemon out: two would hand out the same nonces. The
// kernel gives the lock back when this process ends, however it ends.
func (l *Ledger) takeLock() (*os.File, error) {
	path := l.path + ".lock"
	if _, err := l.ask("lock", path, 0); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fault.New(fault.LedgerUnavailable, "another process uses the ledger %s", l.path).Because(err).
			WithHint("stop the other sealsignd, or give each its own state_dir")
	}
	return f, nil
}

func (l *Ledger) read() error {
	if _, err := l.ask("read", l.path, 0); err != nil {
		return err
	}
	data, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	marks, end, err := parse(data)
	if errors.Is(err, errFormat) {
		return fault.New(fault.LedgerUnavailable, "the ledger %s can't be read: %v", l.path, err).
			WithHint("run the sealsign version that wrote it, or a later one")
	}
	if err != nil {
		return fault.New(fault.LedgerUnavailable, "the ledger %s is damaged: %v", l.path, err).
			WithHint("restore it, or check the host's clock and move it away (mv %[1]s %[1]s.damaged): nonces then go on from the clock, limits start unused", l.path)
	}
	var lost uint64
	if end < len(data) {
		if lost, err = l.setAside(data[end:], marks); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.floor = lost
	for k, value := range marks {
		if k.kind == nonce {
			value = max(value, lost)
		}
		*l.markLocked(k) = mark{used: value, reserved: value}
	}
	l.saw(marks[latest])
	return nil
}

// setAside keeps a torn tail for whoever wants to look at it, and returns the
// highest nonce that it can have allowed: most likely it was never complete, and so
// allowed nothing, but a whole entry that was damaged later looks the same.
func (l *Ledger) setAside(tail []byte, marks map[id]uint64) (uint64, error) {
	now := l.opts.Now()
	path := fmt.Sprintf("%s.%s.torn", l.path, now.UTC().Format("20060102T150405.000000000Z"))
	if err := l.create(path, tail); err != nil {
		return 0, err
	}
	l.opts.Log.Warn("the ledger's last entry was torn by a crash and is set aside", "path", path, "bytes", len(tail))
	lost := unixNano(now)
	for k, value := range marks {
		if k.kind == nonce {
			lost = max(lost, value)
		}
	}
	return lost + ahead, nil
}

// put writes one entry and syncs it.
func (l *Ledger) put(k id, mark uint64) error {
	n, err := l.write(l.file, appendEntry(nil, k, mark))
	l.size += int64(n)
	return err
}

// compact rewrites the file when it is mostly history. If that fails, no harm is
// done: all marks are in the old file or the new one, and the next raise writes another.
func (l *Ledger) compact() {
	if l.size < max(compactAt, 4*l.base) {
		return
	}
	if err := l.rewrite(); err != nil {
		_ = l.fail(err)
	}
}

// rewrite replaces the file by one with an entry per mark. Memory holds all that
// the old file does, so nothing of it is needed.
func (l *Ledger) rewrite() error {
	data := []byte(header)
	l.mu.Lock()
	for k, m := range l.marks {
		if m.reserved > 0 {
			data = appendEntry(data, k, m.reserved)
		}
	}
	l.mu.Unlock()

	next := l.path + ".new"
	if err := l.create(next, data); err != nil {
		return err
	}
	if _, err := l.ask("rename", l.path, 0); err != nil {
		return err
	}
	if err := os.Rename(next, l.path); err != nil {
		return err
	}
	if err := l.syncFolder(); err != nil {
		return err
	}
	file, err := l.open(l.path, os.O_WRONLY|os.O_APPEND)
	if err != nil {
		return err
	}
	if l.file != nil {
		_ = l.file.Close()
	}
	l.file, l.size, l.base = file, int64(len(data)), int64(len(data))
	return nil
}

// create writes a new file and syncs it.
func (l *Ledger) create(path string, data []byte) error {
	f, err := l.open(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = l.write(f, data)
	return errors.Join(err, f.Close())
}

// write writes and syncs.
func (l *Ledger) write(f *os.File, data []byte) (int, error) {
	if n, err := l.ask("write", f.Name(), len(data)); err != nil {
		n, _ = f.Write(data[:n])
		return n, err
	}
	n, err := f.Write(data)
	if err != nil {
		return n, err
	}
	if _, err := l.ask("sync", f.Name(), 0); err != nil {
		return n, err
	}
	return n, f.Sync()
}

func (l *Ledger) open(path string, flag int) (*os.File, error) {
	if _, err := l.ask("open", path, 0); err != nil {
		return nil, err
	}
	return os.OpenFile(path, flag, 0o600)
}

func (l *Ledger) syncFolder() error {
	if _, err := l.ask("syncdir", l.path, 0); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(l.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// ask gives a test's fault its turn.
func (l *Ledger) ask(op, path string, n int) (int, error) {
	if l.opts.Fault == nil {
		return n, nil
	}
	return l.opts.Fault(op, path, n)
}
