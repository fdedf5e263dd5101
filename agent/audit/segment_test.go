package audit

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestLineReader(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	text := "a\n\n" + long + "\n" + strings.Repeat("y", MaxLine) + "\nb\ntorn"
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text))} {
		t.Run(name, func(t *testing.T) {
			lines := newLineReader(r)
			for i, want := range []struct {
				text string
				err  error
			}{{"a", nil}, {"", nil}, {long, nil}, {"", errLong}, {"b", nil}, {"torn", errTorn}, {"", io.EOF}} {
				line, err := lines.next()
				if string(line) != want.text || !errors.Is(err, want.err) {
					t.Fatalf("line %d: %d bytes, %v", i+1, len(line), err)
				}
				if err == nil && lines.number != i+1 {
					t.Fatalf("line %d has number %d", i+1, lines.number)
				}
			}
			if lines.end != int64(len(text)) {
				t.Errorf("ended at %d of %d", lines.end, len(text))
			}
		})
	}
}

func TestSegmentsAreNumbers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"00000002.jsonl", "00000010.jsonl", "123456789.jsonl", "1.jsonl", "00000000.jsonl", "-0000001.jsonl", "00000003.jsonl.x.torn", "x"} {
		write(t, dir, name, nil)
	}
	if numbers, err := segments(dir); err != nil || fmt.Sprint(numbers) != "[2 10 123456789]" {
		t.Errorf("%v, %v", numbers, err)
	}
}

// FuzzSegment puts any bytes behind the first record of a segment: what the log takes of them when it opens is whole
// lines, the rest is torn; and what Verify finds nothing wrong with, the log takes.
func FuzzSegment(f *testing.F) {
	record := func(id uint64, path string) []byte {
		return append(appendLine(nil, &Record{ID: id, Time: time.Unix(0, 0), Kind: KindDecision, Path: path}), '\n')
	}
	good := record(1, "/x")
	for _, seed := range [][]byte{
		nil, good, good[:20], append(bytes.Clone(good), record(2, "/\u202e")...), append(bytes.Clone(good), good...), record(7, "/"),
		make([]byte, 100), bytes.Replace(good, []byte("/x"), []byte("\x00\x00"), 1), []byte("\n"), []byte("{}\n"), []byte(`{"id":1,}` + "\n"),
		bytes.Replace(good, []byte(`"/x"`), []byte(`"\ud800"`), 1), append(good[:len(good)-1:len(good)-1], `{}`+"\n"...),
	} {
		f.Add(seed)
	}
	first := record(0, "/first")
	key, err := encodeKeys([]*ecdsa.PublicKey{&testKey.PublicKey})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, tail []byte) {
		dir := t.TempDir()
		data := append(bytes.Clone(first), tail...)
		write(t, dir, segmentName(1), data)
		write(t, dir, publicKeyName, key)
		report, err := Verify(dir)
		if err != nil {
			t.Fatal(err)
		}
		l := newLog(dir, Options{})
		hashes, err := openHashes(nil, filepath.Join(dir, hashesName))
		if err != nil {
			t.Fatal(err)
		}
		ld := loader{log: l, hashes: hashes}
		defer func() { ld.close(); _ = hashes.f.Close() }()
		if err := ld.scan([]int{1}); err != nil {
			t.Fatal(err)
		}
		taken := data[:ld.end.off]
		if len(taken) < len(first) || taken[len(taken)-1] != '\n' || int64(bytes.Count(taken, []byte{'\n'})) != ld.end.tree.n {
			t.Fatalf("took %d records: %q", ld.end.tree.n, taken)
		}
		if torn := len(ld.torn) > 0; torn != (len(taken) < len(data)) {
			t.Fatalf("%d bytes of %d are records; torn: %v", len(taken), len(data), ld.torn)
		}
		if report.OK() && uint64(ld.end.tree.n) != report.Records {
			t.Fatalf("Verify is content with %d records, the log took %d", report.Records, ld.end.tree.n)
		}
	})
}
