package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// pollEvery is how often a followed log is looked at.
const pollEvery = 200 * time.Millisecond

// Tail writes the last n records in dir to w, a line each. To follow, it goes on
// with what is recorded from then on until ctx ends, which is no error. It needs no
// lock and may run beside the daemon.
func Tail(ctx context.Context, dir string, n int, follow bool, w io.Writer) error {
	t := tail{dir: dir, w: w}
	if err := t.find(n); err != nil {
		return err
	}
	if t.segment == 0 && !follow {
		return noLog(dir)
	}
	for {
		if err := t.copy(); err != nil {
			return err
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pollEvery):
		}
	}
}

// tail is a place in the log.
type tail struct {
	dir     string
	w       io.Writer
	segment int // its number; 0: there is none yet
	off     int64
}

// find goes back to the place with n records behind it.
func (t *tail) find(n int) error {
	numbers, err := segments(t.dir)
	if err != nil {
		return err
	}
	for _, number := range slices.Backward(numbers) {
		off, found, err := lastLines(filepath.Join(t.dir, segmentName(number)), n)
		if err != nil {
			return err
		}
		t.segment, t.off = number, off
		if n -= found; n <= 0 {
			return nil
		}
	}
	return nil
}

// lastLines finds the last n whole lines of a file; found says how many there are, up to n.
func lastLines(path string, n int) (off int64, found int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	block := make([]byte, 64<<10)
	ends := 0 // of lines, seen from behind
	for end > 0 {
		part := block[:min(int64(len(block)), end)]
		if _, err := f.ReadAt(part, end-int64(len(part))); err != nil {
			return 0, 0, err
		}
		start := end - int64(len(part))
		for i := bytes.LastIndexByte(part, '\n'); i >= 0; i = bytes.LastIndexByte(part[:i], '\n') {
			if ends++; ends > n {
				return start + int64(i) + 1, n, nil
			}
		}
		end = start
	}
	return 0, ends, nil
}

// copy writes all whole lines from here on.
func (t *tail) copy() error {
	for {
		more, err := t.copySegment()
		if err != nil || !more {
			return err
		}
	}
}

// copySegment writes the rest of the segment; more: there is a later one, in which it goes on.
func (t *tail) copySegment() (more bool, err error) {
	numbers, err := segments(t.dir) // before the segment is read: it is complete if there is a later one
	if err != nil {
		return false, err
	}
	later, _ := slices.BinarySearch(numbers, t.segment+1)
	more = later < len(numbers)
	if t.segment > 0 {
		if err := t.copyLines(filepath.Join(t.dir, segmentName(t.segment))); err != nil {
			return false, err
		}
	}
	if more {
		t.segment, t.off = numbers[later], 0
	}
	return more, nil
}

func (t *tail) copyLines(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	t.off = min(t.off, info.Size()) // records that did not count were cut off
	start := t.off
	lines := newLineReader(io.NewSectionReader(f, start, info.Size()-start))
	for {
		line, err := lines.next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, errTorn):
			return nil
		case errors.Is(err, errLong):
			line = []byte(errLong.Error())
		case err != nil:
			return err
		}
		if _, err := t.w.Write(append(line, '\n')); err != nil {
			return err
		}
		t.off = start + lines.end
	}
}
