package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// signedNote is a checkpoint with a good signature, and its line in the file.
type signedNote struct {
	checkpoint
	line int
}

// nextNote reads on to the next checkpoint that can be compared. What is wrong with those before it is reported.
func (v *verifier) nextNote() error {
	v.next = nil
	for v.next == nil {
		msg, line, err := v.notes.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, errTorn) {
			v.report.Unfinished = append(v.report.Unfinished, fmt.Sprintf("%s: %d bytes behind the last checkpoint", checkpointsName, len(msg)))
			return nil
		}
		if err != nil {
			return err
		}
		c, err := openNote(msg, v.keys)
		if err != nil {
			v.problem(checkpointsName, line, "not a checkpoint by the key given: %v", err)
			continue
		}
		if v.follows(c, line) {
			v.next = &signedNote{c, line}
		}
	}
	return nil
}

// follows compares a checkpoint with the one before it.
func (v *verifier) follows(c checkpoint, line int) bool {
	before := v.last
	switch {
	case v.report.Checkpoints > 0 && c.Origin != before.Origin:
		v.problem(checkpointsName, line, "it is one of the log %q, those before are of %q", c.Origin, before.Origin)
		return false
	case c.Size < before.Size:
		v.problem(checkpointsName, line, "it covers %d records, the one before covers %d", c.Size, before.Size)
		return false
	case c.Time.Before(before.Time):
		v.problem(checkpointsName, line, "it was made before the one that it follows")
	}
	v.last, v.report.Origin = c, c.Origin
	v.report.Checkpoints++
	return true
}

// checkNotes compares the trees with the checkpoints over what was read so far.
func (v *verifier) checkNotes() error {
	for v.next != nil && v.next.Size <= v.n {
		v.compare(v.next)
		if err := v.nextNote(); err != nil {
			return err
		}
	}
	return nil
}

// compare finds out who is right where the lines and the kept hashes differ: what the checkpoint was signed over.
func (v *verifier) compare(c *signedNote) {
	from := v.report.Covered
	v.report.Covered, v.report.CoveredAt = uint64(c.Size), c.Time
	switch {
	case v.lost:
		v.problem(checkpointsName, c.line, "the %d records that it covers can't be compared with it any more", c.Size)
	case v.lines.root() == c.Root:
		for _, s := range v.suspects {
			v.problem(hashesName, 0, "the hash of record %d is damaged (the record itself is as signed)", s.id)
		}
		v.suspects = v.suspects[:0]
		v.kept.set(&v.lines)
	case v.kept.root() == c.Root:
		v.blame("record %d was changed after it was written")
		v.lines.set(&v.kept)
	default:
		if from < uint64(c.Size) {
			v.problem(checkpointsName, c.line, "the records %d to %d are not those that were signed", from, c.Size-1)
		} else {
			v.problem(checkpointsName, c.line, "it was signed over %d other records than those of the checkpoint before", c.Size)
		}
		v.blame("record %d has another hash than when it was written")
		v.lost = true
	}
}

// noteReader reads the notes of a checkpoints file one by one.
type noteReader struct {
	lines *lineReader
	msg   bytes.Buffer
}

// next returns a note and the line that it begins in; io.EOF at the end, or errTorn
// with what stands there behind the last whole note. What is no note at all is
// returned as well, up to an empty line behind a signature: it won't open.
func (r *noteReader) next() (msg []byte, number int, err error) {
	r.msg.Reset()
	signed := false
	for {
		line, err := r.lines.next()
		switch {
		case errors.Is(err, io.EOF) && r.msg.Len() == 0:
			return nil, number, io.EOF
		case errors.Is(err, io.EOF), errors.Is(err, errTorn):
			r.msg.Write(line)
			return r.msg.Bytes(), number, errTorn
		case err != nil && !errors.Is(err, errLong):
			return nil, number, err
		}
		if number == 0 {
			number = r.lines.number
		}
		if len(line) == 0 && signed {
			return r.msg.Bytes(), number, nil
		}
		signed = bytes.HasPrefix(line, sigStart)
		if r.msg.Len() < maxNote { // a longer one is none, and won't open
			r.msg.Write(line)
			r.msg.WriteByte('\n')
		}
	}
}

// globEscape makes a folder's name match itself.
func globEscape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}
