package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxLine bounds a record: the effects of the largest request, a body of 1 MiB, and their escapes.
const MaxLine = 4 << 20

const segmentSuffix = ".jsonl"

func segmentName(number int) string { return fmt.Sprintf("%08d%s", number, segmentSuffix) }

// segments returns the numbers of the segments in dir, rising.
func segments(dir string) ([]int, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, entry := range names {
		digits, ok := strings.CutSuffix(entry.Name(), segmentSuffix)
		if n, err := strconv.Atoi(digits); ok && err == nil && n > 0 && segmentName(n) == entry.Name() {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func noLog(dir string) error {
	return fmt.Errorf("there is no audit log in %s: %w", dir, fs.ErrNotExist)
}

var (
	// errTorn: the text ends without a newline.
	errTorn = errors.New("the last line has no end")
	errLong = fmt.Errorf("a line has more than %d bytes", MaxLine)
)

// lineReader reads lines in bounded memory.
type lineReader struct {
	r      *bufio.Reader
	long   []byte // a line that doesn't fit r's buffer
	number int    // of the last line, from 1
	end    int64  // the offset behind the last line
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// next returns the next line without its newline, valid until the next call. It
// returns io.EOF at the end; errTorn with what is there behind the last newline;
// errLong for a line beyond MaxLine, which it skips.
func (l *lineReader) next() ([]byte, error) {
	l.long = l.long[:0]
	size := 0
	for {
		part, err := l.r.ReadSlice('\n')
		size += len(part)
		whole := err == nil
		end := errors.Is(err, io.EOF)
		if !whole && !end && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if size <= MaxLine && (size > len(part) || !whole) {
			l.long = append(l.long, part...)
		}
		if end && size == 0 {
			return nil, io.EOF
		}
		if whole || end {
			l.number, l.end = l.number+1, l.end+int64(size)
		}
		switch {
		case end:
			return l.long, errTorn
		case whole && size > MaxLine:
			return nil, errLong
		case whole && size == len(part): // in one piece, as nearly all lines are
			return part[:size-1], nil
		case whole:
			return l.long[:size-1], nil
		}
	}
}

// lineID reads the id that a line begins with.
func lineID(line []byte) (int64, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(lineStart))
	digits, _, comma := bytes.Cut(rest, []byte{','})
	id, err := strconv.ParseInt(string(digits), 10, 64)
	return id, ok && comma && err == nil && id >= 0 && strconv.FormatInt(id, 10) == string(digits)
}

// looksWhole reports whether a line is record number id as far as a crash is
// concerned: it has its beginning and its end, and no zeros or noise between them.
// What a person may have changed is Verify's to find.
func looksWhole(line []byte, id int64) bool {
	got, ok := lineID(line)
	return ok && got == id && line[len(line)-1] == '}' && utf8.Valid(line) &&
		!bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' })
}
