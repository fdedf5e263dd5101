package audit

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// threeSegments makes a log of nine records in three segments, with checkpoints over 3, 6 and 9 of them.
// Record n has the path /n.
func threeSegments(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	line := len(appendLine(nil, sample()))
	l := openLog(t, dir, signed(Options{SegmentSize: int64(line)*3 + 500}))
	for i := range 9 {
		mustAppend(t, l, fmt.Sprintf("/%d", i))
		if i%3 == 2 {
			if _, err := l.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if numbers, _ := segments(dir); len(numbers) != 3 {
		t.Fatalf("segments %v", numbers)
	}
	mustVerify(t, dir, 9)
	return dir
}

func read(t testing.TB, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func edit(t testing.TB, dir, name, old, replacement string) {
	t.Helper()
	data := read(t, dir, name)
	if !bytes.Contains(data, []byte(`"`+old+`"`)) {
		t.Fatalf("%s has no %q", name, old)
	}
	write(t, dir, name, bytes.Replace(data, []byte(`"`+old+`"`), []byte(`"`+replacement+`"`), 1))
}

// editLines lets change rearrange a file's lines.
func editLines(t testing.TB, dir, name string, change func(lines []string) []string) {
	t.Helper()
	lines := strings.SplitAfter(string(read(t, dir, name)), "\n")
	write(t, dir, name, []byte(strings.Join(change(lines[:len(lines)-1]), "")))
}

func cutLines(t testing.TB, dir, name string, n int) {
	t.Helper()
	editLines(t, dir, name, func(lines []string) []string { return lines[:len(lines)-n] })
}

// rehash makes the file hashes say what the segments say now, as a careful forger would.
func rehash(t testing.TB, dir string) {
	t.Helper()
	var all tree
	var stored []byte
	numbers, _ := segments(dir)
	for _, number := range numbers {
		for line := range bytes.Lines(read(t, dir, segmentName(number))) {
			stored = all.push(tlog.RecordHash(line[:len(line)-1]), stored)
		}
	}
	write(t, dir, hashesName, stored)
}

func TestTampering(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(t *testing.T, dir string)
		want   []string // each begins a problem; all problems are named
	}{
		{
			"a record changed",
			func(t *testing.T, dir string) { edit(t, dir, "00000002.jsonl", "/4", "/5") },
			[]string{"00000002.jsonl:2: record 4 was changed"},
		},
		{
			"a record changed that no checkpoint covers",
			func(t *testing.T, dir string) {
				editLines(t, dir, checkpointsName, func(lines []string) []string { return lines[:len(lines)/3] })
				edit(t, dir, "00000003.jsonl", "/8", "/9")
			},
			[]string{"00000003.jsonl:3: record 8 has another hash"},
		},
		{
			"a record changed and its hash",
			func(t *testing.T, dir string) {
				edit(t, dir, "00000002.jsonl", "/4", "/5")
				rehash(t, dir)
			},
			[]string{"checkpoints:8: the records 3 to 5 are not those", "checkpoints:15: the 9 records that it covers can't"},
		},
		{
			"a record changed and the hashes removed",
			func(t *testing.T, dir string) {
				edit(t, dir, "00000001.jsonl", "/0", "/5")
				remove(t, dir, hashesName)
			},
			[]string{"checkpoints:1: the records 0 to 2 are not those", "checkpoints:8: the 6", "checkpoints:15: the 9"},
		},
		{
			"a space in a record",
			func(t *testing.T, dir string) {
				write(t, dir, "00000001.jsonl", bytes.Replace(read(t, dir, "00000001.jsonl"), []byte(`"id":1,`), []byte(`"id":1, `), 1))
			},
			[]string{"00000001.jsonl:2: not a record: not in the one form", "00000001.jsonl:2: record 1 was changed"},
		},
		{
			"a record replaced by noise",
			func(t *testing.T, dir string) {
				editLines(t, dir, "00000001.jsonl", func(l []string) []string { return []string{l[0], "noise\n", l[2]} })
			},
			[]string{"00000001.jsonl:2: not a record: invalid", "00000001.jsonl:2: record 1 was changed"},
		},
		{
			"a record dropped",
			func(t *testing.T, dir string) {
				editLines(t, dir, "00000002.jsonl", func(l []string) []string { return []string{l[0], l[2]} })
			},
			[]string{"00000002.jsonl:2: record 5 stands where record 4 should: 1 are missing"},
		},
		{
			"a record dropped and the others numbered anew",
			func(t *testing.T, dir string) {
				editLines(t, dir, "00000003.jsonl", func(l []string) []string {
					return []string{l[0], strings.Replace(l[2], `"id":8`, `"id":7`, 1)}
				})
				rehash(t, dir)
			},
			[]string{"checkpoints:15: it covers 9 records, but the log ends with 8"},
		},
		{
			"two records exchanged",
			func(t *testing.T, dir string) {
				editLines(t, dir, "00000002.jsonl", func(l []string) []string { return []string{l[1], l[0], l[2]} })
			},
			[]string{"00000002.jsonl:1: record 4 stands where record 3 should: 1 are missing", "00000002.jsonl:2: record 3 stands where record 5 should"},
		},
		{
			"a record added",
			func(t *testing.T, dir string) {
				editLines(t, dir, "00000003.jsonl", func(l []string) []string { return append(l, strings.Replace(l[2], `"id":8`, `"id":9`, 1)) })
			},
			nil, // anyone who may write the file may append to it; no checkpoint covers it
		},
		{
			"a record repeated",
			func(t *testing.T, dir string) {
				editLines(t, dir, "00000001.jsonl", func(l []string) []string { return append(l, l[2]) })
			},
			[]string{"00000001.jsonl:4: record 2 stands where record 3 should: it is repeated"},
		},
		{
			"the tail cut",
			func(t *testing.T, dir string) { cutLines(t, dir, "00000003.jsonl", 1) },
			[]string{"checkpoints:15: it covers 9 records, but the log ends with 8", "hashes: there are hashes of 9 records, but the log ends with 8"},
		},
		{
			"the tail cut, with its checkpoints",
			func(t *testing.T, dir string) {
				cutLines(t, dir, "00000003.jsonl", 1)
				editLines(t, dir, checkpointsName, func(lines []string) []string { return lines[:len(lines)/3*2] })
			},
			[]string{"hashes: there are hashes of 9 records, but the log ends with 8"},
		},
		{
			"a segment removed",
			func(t *testing.T, dir string) { remove(t, dir, "00000002.jsonl") },
			[]string{"00000002.jsonl: the segment is missing", "00000003.jsonl:1: record 6 stands where record 3 should: 3 are missing"},
		},
		{
			"the first segment removed",
			func(t *testing.T, dir string) { remove(t, dir, "00000001.jsonl") },
			[]string{"00000001.jsonl: the segment is missing", "00000002.jsonl:1: record 3 stands where record 0 should: 3 are missing"},
		},
		{
			"the last segment removed",
			func(t *testing.T, dir string) { remove(t, dir, "00000003.jsonl") },
			[]string{"checkpoints:15: it covers 9 records, but the log ends with 6", "hashes: there are hashes of 9 records, but the log ends with 6"},
		},
		{
			"a segment that ends in mid-line",
			func(t *testing.T, dir string) {
				data := read(t, dir, "00000001.jsonl")
				write(t, dir, "00000001.jsonl", data[:len(data)-9])
			},
			[]string{"00000001.jsonl:3: the line has no end", "00000002.jsonl:1: record 3 stands where record 2 should: 1 are missing"},
		},
		{
			"a checkpoint's root changed",
			func(t *testing.T, dir string) {
				editLines(t, dir, checkpointsName, func(l []string) []string { l[2] = l[9]; return l })
			},
			[]string{"checkpoints:1: not a checkpoint by the key given: invalid signature"},
		},
		{
			"a checkpoint forged with another key",
			func(t *testing.T, dir string) { appendCheckpoint(t, dir, other, 9, strings.Repeat("A", 43)+"=") },
			[]string{"checkpoints:22: not a checkpoint by the key given: signed by another key"},
		},
		{
			"a checkpoint of the right key over another log",
			func(t *testing.T, dir string) { appendCheckpoint(t, dir, testKey, 9, strings.Repeat("A", 43)+"=") },
			[]string{"checkpoints:22: it was signed over 9 other records"},
		},
		{
			"a checkpoint over fewer records behind one over more",
			func(t *testing.T, dir string) { appendCheckpoint(t, dir, testKey, 3, strings.Repeat("A", 43)+"=") },
			[]string{"checkpoints:22: it covers 3 records, the one before covers 9"},
		},
		{
			"two checkpoints exchanged",
			func(t *testing.T, dir string) {
				editLines(t, dir, checkpointsName, func(l []string) []string { return slices.Concat(l[7:14], l[:7], l[14:]) })
			},
			[]string{"checkpoints:8: it covers 3 records, the one before covers 6"},
		},
		{
			"noise in the checkpoints",
			func(t *testing.T, dir string) {
				editLines(t, dir, checkpointsName, func(l []string) []string { return append([]string{"noise\n", "\n"}, l...) })
			},
			[]string{"checkpoints:1: not a checkpoint by the key given"},
		},
		{
			"a hash damaged",
			func(t *testing.T, dir string) {
				data := read(t, dir, hashesName)
				data[32*tlog.StoredHashIndex(0, 4)]++
				write(t, dir, hashesName, data)
			},
			[]string{"hashes: the hash of record 4 is damaged (the record itself is as signed)"},
		},
		{
			"an inner hash damaged",
			func(t *testing.T, dir string) {
				data := read(t, dir, hashesName)
				data[32*tlog.StoredHashIndex(1, 2)]++
				write(t, dir, hashesName, data)
			},
			[]string{"hashes: a hash over the records up to 5 is damaged"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := threeSegments(t)
			test.change(t, dir)
			report := verified(t, dir)
			var got []string
			for _, p := range report.Problems {
				got = append(got, p.String())
			}
			if len(got) != len(test.want) {
				t.Fatalf("problems: %q", got)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("problem %d is %q, want %q", i, got[i], want)
				}
			}
		})
	}
}

// appendCheckpoint adds a checkpoint that the log did not make.
func appendCheckpoint(t *testing.T, dir string, key *ecdsa.PrivateKey, size int64, root string) {
	t.Helper()
	l := newLog(dir, Options{})
	c := checkpoint{Origin: "sealsign.example/test", Size: size, Time: l.opts.Now()}
	if err := c.Root.UnmarshalJSON([]byte(`"` + root + `"`)); err != nil {
		t.Fatal(err)
	}
	msg, err := l.signNote(context.Background(), c, &key.PublicKey, signWith(key))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, checkpointsName, append(read(t, dir, checkpointsName), append(msg, '\n')...))
}

func TestVerifyWithoutKeyOrLog(t *testing.T) {
	if _, err := Verify(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := Verify(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	dir := threeSegments(t)
	remove(t, dir, publicKeyName)
	if report, err := Verify(dir); err != nil || len(report.Problems) != 3 || report.Covered != 0 {
		t.Errorf("without a key: %+v, %v", report, err)
	}
	write(t, dir, publicKeyName, []byte("noise"))
	if _, err := Verify(dir); err == nil {
		t.Error("a damaged key file was passed over")
	}
}

func TestVerifyWhileTheLogIsInUse(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, signed(Options{Sync: SyncInterval, SegmentSize: 20000, Checkpoint: 1e6}))
	done := make(chan error)
	go func() {
		for range 3000 {
			if _, err := l.Append(sample(), false); err != nil {
				done <- err
				return
			}
		}
		close(done)
	}()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
			if _, err := os.Stat(filepath.Join(dir, publicKeyName)); err != nil {
				continue
			}
			if report := verified(t, dir); !report.OK() {
				t.Fatalf("%+v", report)
			}
		}
	}
}
