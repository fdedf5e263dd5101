package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	checkpointsName = "checkpoints"
	// maxNote bounds a checkpoint with its signatures.
	maxNote = 64 << 10
)

// noteFile is the file "checkpoints": signed notes, each followed by an empty line.
// It is opened for each checkpoint anew, once a minute at most, so that no handle
// outlives an error.
type noteFile struct {
	path  string
	fault Fault
	size  int64 // of what is whole
}

// sigStart begins a signature line.
var sigStart = []byte("— ")

// wholeNotes returns how much of the end of a checkpoints file is whole notes, and
// the last of them, or nil. A note ends with an empty line behind its signatures.
func wholeNotes(tail []byte) (size int, last []byte) {
	for size = len(tail); size > 0; size-- {
		size = bytes.LastIndex(tail[:size], []byte("\n\n")) + 2
		if size < 2 {
			return 0, nil
		}
		signature := tail[:size-1]
		if start := bytes.LastIndex(signature, []byte("\n\n")); start >= 0 && bytes.HasPrefix(signature[start+2:], sigStart) {
			from := bytes.LastIndex(signature[:start], []byte("\n\n"))
			if from < 0 {
				return size, signature
			}
			return size, signature[from+2:]
		}
	}
	return 0, nil
}

// lastNote reads the last note of the end of a checkpoints file. whole is how much is whole up to and with it, or,
// with an error, before it.
func lastNote(tail []byte) (whole int, last checkpoint, err error) {
	whole, msg := wholeNotes(tail)
	if msg == nil {
		return whole, checkpoint{}, nil
	}
	last, err = readNote(msg)
	if err != nil {
		return whole - len(msg) - 1, checkpoint{}, err
	}
	return whole, last, nil
}

// load reads the last checkpoint and sets aside what a crash left behind it.
func (f *noteFile) load(l *Log) (last checkpoint, err error) {
	file, err := f.fault.open(f.path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		f.size = 0
		return checkpoint{}, nil
	}
	if err != nil {
		return checkpoint{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.size()
	if err != nil {
		return checkpoint{}, err
	}
	from := max(size-2*maxNote, 0)
	tail := make([]byte, size-from)
	if _, err := file.ReadAt(tail, from); err != nil && !errors.Is(err, io.EOF) {
		return checkpoint{}, err
	}
	whole, last, err := lastNote(tail)
	if err != nil { // one checkpoint at most can be torn: the end of it may be there, and the beginning not
		if whole, last, err = lastNote(tail[:whole]); err != nil {
			return checkpoint{}, l.errChanged(fmt.Errorf("%s: the last checkpoint: %w", checkpointsName, err))
		}
	}
	f.size = from + int64(whole)
	if f.size < size {
		err = f.setAside(l, file, size)
	}
	l.signing.setLast(last)
	return last, err
}

func (f *noteFile) setAside(l *Log, file *file, size int64) error {
	path := fmt.Sprintf("%s.%s.torn", f.path, l.opts.Now().UTC().Format(tornTime))
	if err := f.fault.copyOut(path, file, f.size, size); err != nil {
		return err
	}
	if err := file.Truncate(f.size); err != nil {
		return err
	}
	l.notice("%d bytes of a checkpoint were torn by a crash and are set aside in %s", size-f.size, filepath.Base(path))
	return file.Sync()
}

// append writes one note behind those that are whole, synced. Whatever a failed try left there is overwritten.
func (f *noteFile) append(msg []byte) error {
	file, err := f.fault.open(f.path, os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	err = f.write(file, append(msg, '\n'))
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if f.size == 0 {
		if err := f.fault.syncFolder(filepath.Dir(f.path)); err != nil {
			return err
		}
	}
	f.size += int64(len(msg)) + 1
	return nil
}

func (f *noteFile) write(file *file, data []byte) error {
	if err := file.Truncate(f.size); err != nil {
		return err
	}
	if _, err := file.WriteAt(data, f.size); err != nil {
		return err
	}
	return file.Sync()
}
