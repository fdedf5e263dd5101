package audit

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// Fault is for tests: it is asked before each operation that changes a file or a
// folder ("open", "write", "sync", "truncate", "allocate", "remove", "rename",
// "syncdir"). With an error, only the first allowed of n bytes are written, and the
// error is returned.
type Fault func(op, path string, n int) (allowed int, err error)

func (f Fault) ask(op, path string, n int) (int, error) {
	if f == nil {
		return n, nil
	}
	return f(op, path, n)
}

// file is a file of the log with the test's faults in it.
type file struct {
	*os.File
	fault Fault
}

func (f Fault) open(path string, flag int) (*file, error) {
	if _, err := f.ask("open", path, 0); err != nil {
		return nil, err
	}
	osFile, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return &file{osFile, f}, nil
}

func (f *file) WriteAt(data []byte, at int64) (int, error) {
	if n, err := f.fault.ask("write", f.Name(), len(data)); err != nil {
		n, _ = f.File.WriteAt(data[:n], at)
		return n, err
	}
	return f.File.WriteAt(data, at)
}

func (f *file) Sync() error {
	if _, err := f.fault.ask("sync", f.Name(), 0); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *file) Truncate(size int64) error {
	if _, err := f.fault.ask("truncate", f.Name(), int(size)); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *file) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// syncFolder makes files that were made, renamed or removed in dir last.
func (f Fault) syncFolder(dir string) error {
	if _, err := f.ask("syncdir", dir, 0); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// replace writes a whole file: write-new, fsync, rename, fsync the folder.
func (f Fault) replace(path string, data []byte) error {
	next := path + ".new"
	n, err := f.open(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	if _, err = n.WriteAt(data, 0); err == nil {
		err = n.Sync()
	}
	if err := errors.Join(err, n.Close()); err != nil {
		return err
	}
	if _, err := f.ask("rename", path, 0); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	return f.syncFolder(filepath.Dir(path))
}

// copyOut copies what src holds from at on to a new file, synced.
func (f Fault) copyOut(path string, src *file, at, size int64) error {
	dst, err := f.open(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	err = copyBlocks(io.NewOffsetWriter(dst, 0), src, at, size)
	if err == nil {
		err = dst.Sync()
	}
	if err := errors.Join(err, dst.Close()); err != nil {
		return err
	}
	return f.syncFolder(filepath.Dir(path))
}

// copyBlocks copies [at, size) of src to dst, a block at a time.
func copyBlocks(dst io.Writer, src io.ReaderAt, at, size int64) error {
	_, err := io.CopyBuffer(dst, io.NewSectionReader(src, at, size-at), make([]byte, 1<<20))
	return err
}

// full reports whether the disk, or the quota, has no space left.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
