package audit

import (
	"bufio"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// maxProblems bounds a report; the rest is only counted.
const maxProblems = 100

// Report is what Verify found.
type Report struct {
	Origin      string
	Segments    int
	Records     uint64
	Checkpoints int       // with a good signature
	Covered     uint64    // records under the last of them
	CoveredAt   time.Time // when that was made
	Beside      bool      // the keys were those kept beside the log: whoever changed the log could change them too
	Torn        []string  // files that were set aside after a crash
	Unfinished  []string  // what stands behind the last record or checkpoint: being written now, or torn
	Problems    []Problem // nothing is wrong if there are none
	More        int       // problems beyond the first hundred
}

// Problem is one thing that isn't as it was written.
type Problem struct {
	File    string // its name in the folder
	Line    int    // from 1; 0: the file as a whole
	Message string
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Message)
}

// Beyond is how many records no checkpoint covers yet.
func (r *Report) Beyond() uint64 { return r.Records - min(r.Covered, r.Records) }

// OK reports whether nothing is wrong.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

// Verify checks the log in dir from its files alone, with the given keys or, without any, with those kept beside it:
// each line, the numbers, the hashes, and each checkpoint's
// signature, root, size and time. The log may be in use. It reads everything once,
// in constant memory. An error means that it could not be checked; what is wrong with
// the log is in the report.
func Verify(dir string, keys ...*ecdsa.PublicKey) (*Report, error) {
	v := &verifier{dir: dir, keys: keys, report: new(Report), hasher: newLeafHasher()}
	if len(keys) == 0 {
		var err error
		// There is none before the first checkpoint; later its lack shows at each of them.
		if v.keys, err = PublicKeys(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the public key beside the log: %w", err)
		}
		v.report.Beside = true
	}
	defer v.close()
	if err := v.run(); err != nil {
		return nil, err
	}
	return v.report, nil
}

type verifier struct {
	dir    string
	keys   []*ecdsa.PublicKey
	report *Report
	hasher *leafHasher
	files  []*os.File

	hashes *bufio.Reader // the file "hashes" as it was when we began
	known  int64         // hashes in it
	notes  *noteReader
	next   *signedNote // the checkpoint that is reached next
	last   checkpoint  // the one before

	n        int64     // records so far
	lines    tree      // what the lines say
	kept     tree      // what the file "hashes" says of the same records
	suspects []suspect // records since the last checkpoint in which the two differ
	lost     bool      // neither says what was signed: no root can be compared any more
}

// suspect is a record whose hash isn't the one that was kept.
type suspect struct {
	file string
	line int
	id   int64
}

func (v *verifier) problem(file string, line int, format string, args ...any) {
	if len(v.report.Problems) == maxProblems {
		v.report.More++
		return
	}
	v.report.Problems = append(v.report.Problems, Problem{file, line, fmt.Sprintf(format, args...)})
}

// run looks at the sizes of the derived files first: a log in use grows meanwhile,
// its segments before its hashes and checkpoints.
func (v *verifier) run() error {
	notes, err := v.limited(checkpointsName)
	if err != nil {
		return err
	}
	hashes, err := v.limited(hashesName)
	if err != nil {
		return err
	}
	v.hashes, v.known = bufio.NewReaderSize(hashes, 64<<10), hashes.Size()/tlog.HashSize
	v.notes = &noteReader{lines: newLineReader(notes)}
	numbers, err := segments(v.dir)
	if err != nil {
		return err
	}
	if len(numbers) == 0 && v.known == 0 && notes.Size() == 0 {
		return noLog(v.dir)
	}
	torn, err := filepath.Glob(filepath.Join(globEscape(v.dir), "*.torn"))
	if err != nil {
		return err
	}
	for _, path := range torn {
		v.report.Torn = append(v.report.Torn, filepath.Base(path))
	}
	if err := v.nextNote(); err != nil {
		return err
	}
	if err := v.checkNotes(); err != nil { // of the empty tree
		return err
	}
	if err := v.segments(numbers); err != nil {
		return err
	}
	return v.finish()
}

// limited opens a file up to its present end. One that isn't there is empty.
func (v *verifier) limited(name string) (*io.SectionReader, error) {
	f, err := os.Open(filepath.Join(v.dir, name))
	if os.IsNotExist(err) {
		return io.NewSectionReader(f, 0, 0), nil
	}
	if err != nil {
		return nil, err
	}
	v.files = append(v.files, f)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f, 0, info.Size()), nil
}

func (v *verifier) close() {
	for _, f := range v.files {
		_ = f.Close()
	}
}

func (v *verifier) segments(numbers []int) error {
	for want, i := 1, 0; i < len(numbers); want++ {
		if numbers[i] != want {
			v.problem(segmentName(want), 0, "the segment is missing")
			if numbers[i]-want > maxProblems {
				want = numbers[i] - 1
			}
			continue
		}
		if err := v.segment(want, i == len(numbers)-1); err != nil {
			return err
		}
		v.report.Segments++
		i++
	}
	return nil
}

func (v *verifier) segment(number int, last bool) error {
	name := segmentName(number)
	f, err := os.Open(filepath.Join(v.dir, name))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for lines := newLineReader(f); ; {
		line, err := lines.next()
		switch {
		case err == nil:
			err = v.line(name, lines.number, line)
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errTorn):
			if last {
				v.report.Unfinished = append(v.report.Unfinished, fmt.Sprintf("%s: %d bytes behind the last record", name, len(line)))
			} else {
				v.problem(name, lines.number, "the line has no end, and there is a later segment")
			}
			return nil
		case errors.Is(err, errLong):
			v.problem(name, lines.number, "%v", errLong)
			err = v.add(name, lines.number, nil)
		}
		if err != nil {
			return err
		}
	}
}

// line checks one line and its place.
func (v *verifier) line(file string, number int, line []byte) error {
	if _, err := ParseRecord(line); err != nil {
		v.problem(file, number, "not a record: %v", err)
	}
	id, ok := lineID(line)
	switch {
	case !ok: // a changed line, in the place of the record
		return v.add(file, number, line)
	case id < v.n:
		v.problem(file, number, "record %d stands where record %d should: it is repeated or out of order", id, v.n)
		return nil
	case id > v.n:
		v.problem(file, number, "record %d stands where record %d should: %d are missing", id, v.n, id-v.n)
		if err := v.skip(id); err != nil {
			return err
		}
	}
	return v.add(file, number, line)
}

// skip passes over missing records with the hashes that were kept of them.
func (v *verifier) skip(id int64) error {
	for v.n < id && tlog.StoredHashIndex(0, v.n) < v.known {
		leaf, err := v.readHash()
		if err != nil {
			return err
		}
		if err := v.push(leaf, leaf); err != nil {
			return err
		}
	}
	if v.n < id {
		v.lost, v.n = true, id
	}
	return v.checkNotes()
}

// add adds a line to the trees.
func (v *verifier) add(file string, number int, line []byte) error {
	v.report.Records++
	leaf := v.hasher.leaf(line)
	kept := leaf
	if !v.lost && tlog.StoredHashIndex(0, v.n) < v.known {
		var err error
		if kept, err = v.readHash(); err != nil {
			return err
		}
		if kept == (tlog.Hash{}) { // never brought on disk before a crash
			kept = leaf
		}
	}
	if kept != leaf && len(v.suspects) <= maxProblems {
		v.suspects = append(v.suspects, suspect{file, number, v.n})
	}
	return v.push(leaf, kept)
}

// push adds a leaf to both trees and passes over the inner hashes in the file.
func (v *verifier) push(leaf, kept tlog.Hash) error {
	v.n++
	if v.lost {
		return v.checkNotes()
	}
	v.lines.push(leaf, nil)
	inner := v.kept.push(kept, nil)[tlog.HashSize:]
	for ; len(inner) > 0 && v.hashesLeft(); inner = inner[tlog.HashSize:] {
		was, err := v.readHash()
		if err != nil {
			return err
		}
		if was != tlog.Hash(inner) && was != (tlog.Hash{}) && len(v.suspects) == 0 {
			v.problem(hashesName, 0, "a hash over the records up to %d is damaged", v.n-1)
		}
	}
	return v.checkNotes()
}

func (v *verifier) hashesLeft() bool { return tlog.StoredHashCount(v.n) <= v.known }

func (v *verifier) readHash() (h tlog.Hash, err error) {
	_, err = io.ReadFull(v.hashes, h[:])
	return h, err
}

// finish says what should be there and isn't.
func (v *verifier) finish() error {
	v.blame("record %d has another hash than when it was written: the line was changed, or the file hashes is damaged")
	for v.next != nil {
		v.problem(checkpointsName, v.next.line, "it covers %d records, but the log ends with %d: the tail is cut", v.next.Size, v.n)
		if err := v.nextNote(); err != nil {
			return err
		}
	}
	if v.known > tlog.StoredHashCount(v.n) {
		level, i := tlog.SplitStoredHashIndex(v.known - 1)
		v.problem(hashesName, 0, "there are hashes of %d records, but the log ends with %d: the tail is cut", (i+1)<<level, v.n)
	}
	slices.Sort(v.report.Torn)
	return nil
}

// blame names the suspects.
func (v *verifier) blame(format string) {
	for _, s := range v.suspects {
		v.problem(s.file, s.line, format, s.id)
	}
	v.suspects = v.suspects[:0]
}
