package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

var errInjected = errors.New("injected")

// breaker fails operations on files.
type breaker struct {
	mu       sync.Mutex
	ops      int
	from, to int // the operations that fail, from 1
	how      failure
	synced   map[string]int64 // the sizes of files when they were synced
}

// failure decides about one operation of those that are to fail.
type failure func(b *breaker, op, path string, n int) (int, error)

func (b *breaker) ask(op, path string, n int) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ops++
	if b.ops >= b.from && b.ops <= b.to {
		if allowed, err := b.how(b, op, path, n); err != nil {
			return allowed, err
		}
	}
	if info, err := os.Stat(path); err == nil && op == "sync" {
		b.synced[path] = info.Size()
	}
	return n, nil
}

// The ways in which a disk fails.
var failures = map[string]failure{
	"error":                 func(*breaker, string, string, int) (int, error) { return 0, errInjected },
	"short write":           func(_ *breaker, _, _ string, n int) (int, error) { return n / 2, errInjected },
	"written, but an error": func(_ *breaker, _, _ string, n int) (int, error) { return n, errInjected },
	"full": func(_ *breaker, op, _ string, n int) (int, error) {
		if op == "write" || op == "allocate" || op == "open" {
			return n / 3, syscall.ENOSPC
		}
		return n, nil
	},
	// The kernel tells of the error once, and forgets what it could not write.
	"dropped pages": func(b *breaker, op, path string, n int) (int, error) {
		if op != "sync" || !strings.HasSuffix(path, segmentSuffix) {
			return n, nil
		}
		info, err := os.Stat(path)
		if err == nil {
			err = os.Truncate(path, b.synced[path])
		}
		if err == nil {
			err = os.Truncate(path, info.Size()) // zeros
		}
		return 0, errors.Join(err, errInjected)
	},
}

// tries runs a short life of a log: records, some of them durable, syncs and checkpoints.
// It returns the paths of the records that were acknowledged by id, and of those that were refused.
func tries(t *testing.T, dir, mode string, b *breaker) (acked map[uint64]string, refused map[string]bool) {
	t.Helper()
	acked, refused = map[uint64]string{}, map[string]bool{}
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var passed atomic.Int64 // the log's own goroutines read the clock too
	now := func() time.Time { return start.Add(time.Duration(passed.Load())) }
	l, _ := Open(dir, signed(Options{Sync: mode, SegmentSize: 2500, Checkpoint: time.Hour, Fault: b.ask, Now: now}))
	for i := range 10 {
		passed.Add(int64(2 * maxPause))
		r := sample()
		r.Path = fmt.Sprintf("/%d", i)
		if id, err := l.Append(r, i == 3); err == nil {
			acked[id] = r.Path
		} else if refused[r.Path] = true; !errors.Is(err, fault.AuditUnavailable) {
			t.Fatalf("record %d: %v", i, err)
		}
		if i == 5 {
			l.tick()
		}
		if i == 7 {
			_, _ = l.Checkpoint(t.Context())
		}
	}
	b.mu.Lock()
	b.to = 0
	b.mu.Unlock()
	passed.Add(int64(2 * maxPause))
	r := sample()
	r.Path = "/healed"
	id, err := l.Append(r, false)
	if err != nil {
		t.Fatalf("the disk is back, and yet: %v (%v)", err, fault.From(err).Cause)
	}
	acked[id] = r.Path
	if err := l.Healthy(); err != nil {
		t.Fatalf("healed, but %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return acked, refused
}

// checkTries compares what is in the log with what was answered.
func checkTries(t *testing.T, dir string, acked map[uint64]string, refused map[string]bool, mayLose bool) {
	t.Helper()
	report := verified(t, dir)
	if !report.OK() || report.Beyond() != 0 {
		t.Fatalf("%+v", report)
	}
	lost := 0
	got, told := map[uint64]string{}, ""
	for _, r := range readAll(t, dir) {
		got[r.ID] = r.Path
		if r.Kind == KindRecovery {
			told += r.Message + "\n"
		}
		if refused[r.Path] {
			t.Fatalf("record %d is of %s, which was refused", r.ID, r.Path)
		}
	}
	for id, path := range acked {
		if got[id] != path {
			lost++
		}
	}
	if lost > 0 && (!mayLose || !strings.Contains(told, "the disk lost")) {
		t.Fatalf("%d acknowledged records are lost; acknowledged %v, there %v; told: %s", lost, acked, got, told)
	}
	if len(refused) > 0 && !strings.Contains(told, "could not take all records") {
		t.Fatalf("%d were refused, and no record tells it: %q", len(refused), told)
	}
}

// Whatever operation fails, and for however long, an acknowledged record stays
// where it is, a refused one is nowhere, and the log heals by itself.
func TestFaultAtEveryOperation(t *testing.T) {
	for _, mode := range []string{SyncGroup, SyncInterval} {
		for name, how := range failures {
			t.Run(mode+"/"+name, func(t *testing.T) {
				t.Parallel()
				steps := 0
				for _, length := range []int{1, 7} {
					for from := 1; ; from += length/3 + 1 {
						steps++
						dir := filepath.Join(t.TempDir(), "audit")
						b := &breaker{from: from, to: from + length - 1, how: how, synced: map[string]int64{}}
						acked, refused := tries(t, dir, mode, b)
						if t.Failed() {
							t.Fatalf("with operations %d to %d", b.from, from+length-1)
						}
						checkTries(t, dir, acked, refused, mode == SyncInterval && name == "dropped pages")
						if t.Failed() {
							t.Fatalf("with operations %d to %d", b.from, from+length-1)
						}
						if b.ops < from {
							break
						}
					}
				}
				if steps < 40 {
					t.Errorf("only %d steps", steps)
				}
			})
		}
	}
}
