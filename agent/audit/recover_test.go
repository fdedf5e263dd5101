package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealsign/sealsign/internal/fault"
)

// failing is a log whose disk fails as long as how is set, and whose clock passes every pause.
func failing(t *testing.T, opts Options) (l *Log, how *failure) {
	t.Helper()
	how = new(failure)
	b := &breaker{from: 1, to: 1 << 30, synced: map[string]int64{}, how: func(b *breaker, op, path string, n int) (int, error) {
		if *how == nil {
			return n, nil
		}
		return (*how)(b, op, path, n)
	}}
	clock := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	opts.Fault = b.ask
	opts.Now = func() time.Time { clock = clock.Add(2 * maxPause); return clock }
	l = openLog(t, t.TempDir(), signed(opts))
	return l, how
}

func refusedNow(t *testing.T, l *Log, r *Record) {
	t.Helper()
	_, err := l.Append(r, false)
	if !errors.Is(err, fault.AuditUnavailable) || fault.From(err).Hint == "" {
		t.Fatalf("got %v, hint %q", err, fault.From(err).Hint)
	}
	if l.Healthy() == nil {
		t.Fatal("records are refused, but the log says it is healthy")
	}
}

func messages(t *testing.T, dir string) (text string) {
	t.Helper()
	for _, r := range readAll(t, dir) {
		if r.Kind == KindRecovery {
			text += r.Message + "\n"
		}
	}
	return text
}

func TestFailedSyncEndsTheSegment(t *testing.T) {
	l, how := failing(t, Options{Sync: SyncInterval})
	for i := range 3 {
		mustAppend(t, l, fmt.Sprintf("/%d", i))
	}
	l.tick()
	mustAppend(t, l, "/3") // acknowledged, not synced yet
	*how = failures["error"]
	l.tick()
	refusedNow(t, l, sample())
	refusedNow(t, l, sample())
	*how = nil
	if id := mustAppend(t, l, "/4"); id != 5 { // 4 is the log's own
		t.Errorf("id %d", id)
	}
	if numbers, _ := segments(l.dir); len(numbers) != 2 {
		t.Errorf("segments %v", numbers)
	}
	if s := l.Status(); s.Problem != nil || s.Records != 6 {
		t.Errorf("%+v", s)
	}
	_ = l.Close()
	mustVerify(t, l.dir, 6)
	if told := messages(t, l.dir); !strings.Contains(told, "2 were refused") {
		t.Errorf("told: %s", told)
	}
}

func TestRecordsThatTheDiskLost(t *testing.T) {
	l, how := failing(t, Options{Sync: SyncInterval})
	mustAppend(t, l, "/0")
	l.tick()
	mustAppend(t, l, "/1")
	mustAppend(t, l, "/2")
	*how = failures["dropped pages"]
	l.tick()
	*how = nil
	if id := mustAppend(t, l, "/3"); id != 3 {
		t.Errorf("id %d", id)
	}
	_ = l.Close()
	mustVerify(t, l.dir, 4)
	if told := messages(t, l.dir); !strings.Contains(told, "the disk lost 2 records, from number 1 on") {
		t.Errorf("told: %s", told)
	}
}

// A batch with a durable record is one write and one sync: if the sync fails, none
// of it counts, though all of it may be in the file.
func TestFailedSyncOfADurableRecord(t *testing.T) {
	l, how := failing(t, Options{Sync: SyncInterval})
	mustAppend(t, l, "/0")
	*how = failures["written, but an error"]
	r := sample()
	r.Path = "/durable"
	if _, err := l.Append(r, true); !errors.Is(err, fault.AuditUnavailable) {
		t.Fatal(err)
	}
	*how = nil
	mustAppend(t, l, "/2")
	_ = l.Close()
	for _, r := range readAll(t, l.dir) {
		if r.Path == "/durable" {
			t.Errorf("a refused record is in the log as number %d", r.ID)
		}
	}
	mustVerify(t, l.dir, 3)
}

func TestSyncedRecordsThatAreGoneStopTheLog(t *testing.T) {
	l, how := failing(t, Options{})
	mustAppend(t, l, "/0")
	*how = failures["error"]
	refusedNow(t, l, sample())
	*how = nil
	if err := os.Truncate(l.path(1), 10); err != nil {
		t.Fatal(err)
	}
	refusedNow(t, l, sample())
	if err := l.Healthy(); !strings.Contains(err.Error(), "is not what was written") {
		t.Errorf("got %v", err)
	}
}

// diskOf is a disk with so much space, of which the reserve has its share.
func diskOf(l *Log, space int) failure {
	return func(_ *breaker, op, path string, n int) (int, error) {
		if op == "allocate" {
			return 0, syscall.ENOSPC
		}
		if op != "write" {
			return n, nil
		}
		if _, err := os.Stat(filepath.Join(l.dir, reserveName)); os.IsNotExist(err) {
			return n, nil // given up
		}
		if n > space {
			return space, syscall.ENOSPC
		}
		space -= n
		return n, nil
	}
}

func TestFullDiskTakesWhatMustWork(t *testing.T) {
	for _, mode := range []string{SyncGroup, SyncInterval} {
		t.Run(mode, func(t *testing.T) {
			l, how := failing(t, Options{Sync: mode})
			mustAppend(t, l, "/0")
			*how = diskOf(l, 1000)
			trade := func() *Record { return sample() }
			mustAppend(t, l, "/1")
			refusedNow(t, l, trade())
			refusedNow(t, l, trade())
			suspend := &Record{Kind: KindAdmin, Caller: "root", Key: "binance-main", Operation: "key.suspend"}
			if _, err := l.Append(suspend, true); err != nil {
				t.Fatal(err)
			}
			cancel := sample()
			cancel.Operation = "cancel"
			for range 3 {
				if _, err := l.Append(cancel, false); err != nil {
					t.Fatal(err)
				}
				refusedNow(t, l, trade())
			}
			*how = nil
			mustAppend(t, l, "/2")
			if err := l.Healthy(); err != nil {
				t.Error(err)
			}
			if info, err := os.Stat(filepath.Join(l.dir, reserveName)); err != nil || info.Size() != reserveSize {
				t.Errorf("the reserve is not back: %v", err)
			}
			_ = l.Close()
			if report := verified(t, l.dir); !report.OK() {
				t.Errorf("%+v", report)
			}
			if told := messages(t, l.dir); !strings.Contains(told, "5 were refused") {
				t.Errorf("told: %s", told)
			}
		})
	}
}

// What else must be written on a full disk gets the reserve's room, and the log takes
// what it takes on a full disk.
func TestRoomForOthers(t *testing.T) {
	l, how := failing(t, Options{})
	mustAppend(t, l, "/0")
	*how = diskOf(l, 0)
	l.MakeRoom()
	if _, err := os.Stat(filepath.Join(l.dir, reserveName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the reserve is still there: %v", err)
	}
	refusedNow(t, l, sample())
	if _, err := l.Append(&Record{Kind: KindAdmin, Operation: "key.suspend"}, true); err != nil {
		t.Error(err)
	}
	l.MakeRoom()
	*how = nil
	mustAppend(t, l, "/1")
}

// In a batch that doesn't fit, the essential records are taken and the others refused.
func TestFullDiskSplitsABatch(t *testing.T) {
	l, how := failing(t, Options{})
	mustAppend(t, l, "/0")
	*how = diskOf(l, 1000)
	var batch []*entry
	for i := range 6 {
		r := sample()
		r.Path, r.Time = fmt.Sprintf("/batch/%d", i), time.Unix(0, 0)
		if i%2 == 1 {
			r.Operation = "cancel"
		}
		batch = append(batch, &entry{body: append(appendBody(nil, r), '\n'), durable: true, essential: r.essential()})
	}
	l.store(batch)
	for i, e := range batch {
		if ok := e.err == nil; ok != e.essential {
			t.Errorf("entry %d: %v", i, e.err)
		}
		if e.err == nil && e.id != uint64(1+i/2) {
			t.Errorf("entry %d has id %d", i, e.id)
		}
	}
	*how = nil
	mustAppend(t, l, "/1")
	_ = l.Close()
	mustVerify(t, l.dir, 6) // one, three cancels, the log's own, one
}

func TestNoSpaceForTheReserveAtStart(t *testing.T) {
	dir := t.TempDir()
	none := true
	l, err := Open(dir, signed(Options{Fault: func(op, _ string, n int) (int, error) {
		if none && op == "allocate" {
			return 0, syscall.ENOSPC
		}
		return n, nil
	}}))
	defer func() { _ = l.Close() }()
	if !errors.Is(err, fault.AuditUnavailable) {
		t.Fatalf("got %v", err)
	}
	refusedNow(t, l, sample())
	if _, err := l.Append(&Record{Kind: KindAdmin, Operation: "key.revoke"}, true); err != nil {
		t.Error(err)
	}
	none = false
	l.writer.reserve.tried = time.Time{}
	mustAppend(t, l, "/0")
}

// Hashes that a failing disk lost are made again from the records, whether a
// checkpoint covers them or not; no root is signed over what is lost.
func TestHashesThatWereLost(t *testing.T) {
	for _, covered := range []bool{true, false} {
		t.Run(map[bool]string{true: "under a checkpoint", false: "under none"}[covered], func(t *testing.T) {
			dir := t.TempDir()
			o := signed(Options{SegmentSize: 2000})
			l, err := Open(dir, o)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 40 {
				mustAppend(t, l, fmt.Sprint("/", i))
				if i == 20 && covered {
					if _, err := l.Checkpoint(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = l.Close()
			if !covered {
				if err := os.Remove(filepath.Join(dir, "checkpoints")); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, hashesName)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, make([]byte, len(whole)), 0o600); err != nil {
				t.Fatal(err)
			}
			if l, err = Open(dir, o); err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
			again, err := os.ReadFile(path)
			if size := tlog.StoredHashCount(40) * tlog.HashSize; err != nil || !bytes.Equal(again[:size], whole[:size]) {
				t.Errorf("the hashes of the records are not what they were: %v", err)
			}
			if report, err := Verify(dir); err != nil || !report.OK() {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}
