package audit

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// testKey signs the checkpoints of most tests.
var testKey = func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}()

func signWith(key *ecdsa.PrivateKey) SignFunc {
	return func(_ context.Context, msg []byte) ([]byte, error) {
		sum := sha256.Sum256(msg)
		return ecdsa.SignASN1(rand.Reader, key, sum[:])
	}
}

// signed fills in what most tests want.
func signed(opts Options) Options {
	opts.Origin, opts.Sign, opts.Public = "sealsign.example/test", signWith(testKey), &testKey.PublicKey
	return opts
}

func openLog(t testing.TB, dir string, opts Options) *Log {
	t.Helper()
	l, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func mustAppend(t testing.TB, l *Log, path string) uint64 {
	t.Helper()
	r := sample()
	r.Path = path
	id, err := l.Append(r, false)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func verified(t testing.TB, dir string) *Report {
	t.Helper()
	report, err := Verify(dir, &testKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// mustVerify fails unless the log is whole and has so many records.
func mustVerify(t testing.TB, dir string, records int) *Report {
	t.Helper()
	report := verified(t, dir)
	for _, p := range report.Problems {
		t.Errorf("problem: %s", p)
	}
	if report.Records != uint64(records) {
		t.Errorf("%d records, want %d", report.Records, records)
	}
	return report
}

// readAll returns the records in dir.
func readAll(t testing.TB, dir string) (records []*Record) {
	t.Helper()
	var text strings.Builder
	if err := Tail(t.Context(), dir, 1<<30, false, &text); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		r, err := ParseRecord([]byte(strings.TrimSuffix(line, "\n")))
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		records = append(records, r)
	}
	return records
}

func TestAppendCloseVerify(t *testing.T) {
	for _, sync := range []string{SyncGroup, SyncInterval} {
		t.Run(sync, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "audit")
			opts := signed(Options{Sync: sync, SegmentSize: 4000})
			for run := range 3 {
				l := openLog(t, dir, opts)
				for i := range 20 {
					if id := mustAppend(t, l, "/x"); id != uint64(run*20+i) {
						t.Fatalf("run %d: id %d for record %d", run, id, run*20+i)
					}
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
			report := mustVerify(t, dir, 60)
			if report.Covered != 60 || report.Checkpoints != 3 || report.Segments < 5 || report.Beside || report.Origin != opts.Origin {
				t.Errorf("%+v", report)
			}
			if report, err := Verify(dir); err != nil || !report.OK() || !report.Beside {
				t.Errorf("with the key kept beside the log: %+v, %v", report, err)
			}
			for i, r := range readAll(t, dir) {
				if r.ID != uint64(i) {
					t.Fatalf("record %d has id %d", i, r.ID)
				}
			}
		})
	}
}

func TestConcurrentAppends(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, signed(Options{Sync: SyncInterval, SegmentSize: 10000, Checkpoint: 5 * time.Millisecond}))
	const workers, each = 8, 200
	var seen sync.Map
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				r := sample()
				r.Path = fmt.Sprintf("/%d/%d", w, i)
				id, err := l.Append(r, i%50 == 0)
				if err != nil {
					t.Error(err)
					return
				}
				if _, twice := seen.LoadOrStore(id, r.Path); twice {
					t.Errorf("id %d was given twice", id)
				}
				if i == each/2 {
					l.tick()
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if report := mustVerify(t, dir, workers*each); report.Checkpoints < 2 {
		t.Errorf("%d checkpoints", report.Checkpoints)
	}
	for _, r := range readAll(t, dir) {
		if path, _ := seen.Load(r.ID); path != r.Path {
			t.Fatalf("record %d is of %s, acknowledged was %v", r.ID, r.Path, path)
		}
	}
}

func TestLogOfAnotherProcessIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	first := openLog(t, dir, signed(Options{}))
	second, err := Open(dir, signed(Options{}))
	defer func() { _ = second.Close() }()
	if !errors.Is(err, fault.AuditUnavailable) || !strings.Contains(err.Error(), "another process") {
		t.Fatal(err)
	}
	if _, err := second.Append(sample(), false); !errors.Is(err, fault.AuditUnavailable) {
		t.Fatal(err)
	}
	mustAppend(t, first, "/x")
	_ = first.Close()
	second.writer.pause = 0
	if id := mustAppend(t, second, "/y"); id != 2 { // record 1 tells of the outage
		t.Errorf("once the first is gone, the second gives id %d", id)
	}
}

func TestRecordBeyondTheLimitIsRefused(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{})
	r := sample()
	r.Message = strings.Repeat("\x00", MaxLine/6)
	if _, err := l.Append(r, false); !errors.Is(err, fault.BadRequest) {
		t.Errorf("got %v", err)
	}
	r.Message = strings.Repeat("\x00", MaxLine/6-1000)
	if _, err := l.Append(r, false); err != nil {
		t.Error(err)
	}
	mustVerifyNoKey(t, l)
}

// mustVerifyNoKey checks a log without checkpoints.
func mustVerifyNoKey(t *testing.T, l *Log) {
	t.Helper()
	_ = l.Close()
	if report := verified(t, l.dir); !report.OK() || report.Checkpoints != 0 {
		t.Errorf("%+v", report)
	}
}

func TestClosedLogRefuses(t *testing.T) {
	l := openLog(t, t.TempDir(), signed(Options{}))
	mustAppend(t, l, "/x")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(sample(), false); !errors.Is(err, fault.AuditUnavailable) {
		t.Errorf("append: %v", err)
	}
	if _, err := l.Checkpoint(t.Context()); !errors.Is(err, fault.AuditUnavailable) {
		t.Errorf("checkpoint: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

func TestHashesAreMadeAgain(t *testing.T) {
	dir := t.TempDir()
	opts := signed(Options{SegmentSize: 2000})
	l := openLog(t, dir, opts)
	for range 30 {
		mustAppend(t, l, "/x")
	}
	_ = l.Close()
	whole, err := os.ReadFile(filepath.Join(dir, hashesName))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{0, 100, int64(len(whole)) - 32} {
		if err := os.Truncate(filepath.Join(dir, hashesName), size); err != nil {
			t.Fatal(err)
		}
		_ = openLog(t, dir, opts).Close()
		if again, _ := os.ReadFile(filepath.Join(dir, hashesName)); string(again) != string(whole) {
			t.Errorf("cut to %d bytes, the hashes are not what they were", size)
		}
	}
	mustVerify(t, dir, 30)
}

func TestOpenRefusesAChangedLog(t *testing.T) {
	tests := map[string]func(t *testing.T, dir string){
		"a record of the last segment changed": func(t *testing.T, dir string) { edit(t, dir, "00000003.jsonl", "/8", "/9") },
		"the tail cut":                         func(t *testing.T, dir string) { cutLines(t, dir, "00000003.jsonl", 1) },
		"the last segment removed":             func(t *testing.T, dir string) { remove(t, dir, "00000003.jsonl") },
		"all segments removed": func(t *testing.T, dir string) {
			remove(t, dir, "00000001.jsonl")
			remove(t, dir, "00000002.jsonl")
			remove(t, dir, "00000003.jsonl")
		},
		"an old record changed and the hashes removed": func(t *testing.T, dir string) {
			edit(t, dir, "00000001.jsonl", "/1", "/9")
			remove(t, dir, hashesName)
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			dir := threeSegments(t)
			change(t, dir)
			now := time.Now()
			l, err := Open(dir, signed(Options{Now: func() time.Time { return now }}))
			defer func() { _ = l.Close() }()
			if !errors.Is(err, fault.AuditUnavailable) || !strings.Contains(fault.From(err).Hint, "sealsign audit verify") {
				t.Fatalf("got %v", err)
			}
			if _, err := l.Append(sample(), false); !errors.Is(err, fault.AuditUnavailable) {
				t.Errorf("append: %v", err)
			}
			// As the hint says: the folder is moved away, and a new log begins without a restart.
			if err := os.Rename(dir, dir+".old"); err != nil {
				t.Fatal(err)
			}
			now = now.Add(maxPause)
			mustAppend(t, l, "/new")
			_ = l.Close()
			mustVerify(t, dir, 2)
		})
	}
}
