package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sealsign/sealsign/internal/fault"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, path string, opts Options) *Ledger {
	t.Helper()
	l, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func draw(t testing.TB, l *Ledger, name string, now time.Time) uint64 {
	t.Helper()
	n, err := l.Nonce(name, now)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// crash drops the ledger as kill -9 would: nothing is written, the lock goes.
func crash(l *Ledger) {
	_ = l.file.Close()
	_ = l.lock.Close()
	l.closed = true
}

func TestNonceIsTheTimeAndRises(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "ledger"), Options{})
	first := draw(t, l, "kraken-main", noon)
	if first != uint64(noon.UnixNano()) {
		t.Errorf("the first nonce is %d, not the time", first)
	}
	if n := draw(t, l, "kraken-main", noon); n != first+1 {
		t.Errorf("in the same nanosecond: %d after %d", n, first)
	}
	if n := draw(t, l, "kraken-main", noon.Add(-time.Hour)); n != first+2 {
		t.Errorf("with the clock set back: %d after %d", n, first+1)
	}
	if n := draw(t, l, "kraken-other", noon); n != first {
		t.Errorf("another key's nonce is %d, want %d", n, first)
	}
}

func TestCleanCloseKeepsExactMarks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := open(t, path, Options{})
	last := draw(t, l, "k", noon)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Nonce("k", noon); !errors.Is(err, fault.LedgerUnavailable) {
		t.Errorf("a closed ledger answers %v", err)
	}
	if n := draw(t, open(t, path, Options{}), "k", noon); n != last+1 {
		t.Errorf("after a restart: %d after %d", n, last)
	}
}

func TestSecondProcessIsKeptOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	first := open(t, path, Options{})
	now := noon
	second, err := Open(path, Options{Now: func() time.Time { return now }})
	if !errors.Is(err, fault.LedgerUnavailable) || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("got %v", err)
	}
	if _, err := second.Nonce("k", noon); !errors.Is(err, fault.LedgerUnavailable) {
		t.Fatalf("got %v", err)
	}
	last := draw(t, first, "k", noon)
	_ = first.Close()
	now = now.Add(time.Second)
	if n := draw(t, second, "k", noon); n != last+1 {
		t.Errorf("once the first is gone, the second gives %d after %d", n, last)
	}
}

func TestHotPathDoesNoIO(t *testing.T) {
	writes := 0
	l := open(t, filepath.Join(t.TempDir(), "ledger"), Options{Fault: func(op, _ string, n int) (int, error) {
		if op == "write" {
			writes++
		}
		return n, nil
	}})
	writes = 0
	charge := Charge{Name: "roles.r.rate/k", Count: 1000, Per: time.Second}
	for i := range 1000 {
		now := noon.Add(time.Duration(i) * time.Millisecond)
		draw(t, l, "k", now)
		if err := l.Reserve(now, charge); err != nil {
			t.Fatal(err)
		}
	}
	if writes != 2 {
		t.Errorf("%d writes in one second of use, want one for each name", writes)
	}
}

func TestConcurrentNoncesAreAllDifferent(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "ledger"), Options{})
	const workers, each = 8, 500
	got := make([][]uint64, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				// Three seconds a step, so that marks are raised all the time.
				n, err := l.Nonce("k", noon.Add(3*time.Duration(i)*time.Second))
				if err != nil {
					t.Error(err)
				}
				got[w] = append(got[w], n)
			}
		})
	}
	wg.Wait()
	for _, mine := range got {
		if !slices.IsSorted(mine) {
			t.Fatal("one goroutine's nonces fell")
		}
	}
	if all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(got...)))); len(all) != workers*each {
		t.Errorf("%d different nonces of %d", len(all), workers*each)
	}
}

func TestGrownFileIsRewritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := open(t, path, Options{Fault: func(op, _ string, n int) (int, error) { return n, nil }})
	var last uint64
	for i := range 2 * compactAt / 20 {
		last = draw(t, l, "k", noon.Add(time.Duration(i)*20*time.Second))
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > compactAt {
		t.Fatalf("the file has %d bytes, %v", info.Size(), err)
	}
	crash(l)
	if n := draw(t, open(t, path, Options{}), "k", noon); n <= last {
		t.Errorf("%d after %d", n, last)
	}
}

// Any history of draws, clocks, crashes and restarts gives each nonce once, rising.
func TestNoncesRiseThroughAnyHistory(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			r.Fatal(err)
		}
		path, now := filepath.Join(dir, "ledger"), noon
		var failing bool
		opts := Options{Now: func() time.Time { return now }, Fault: func(op, _ string, n int) (int, error) {
			if failing {
				return n / 2, errors.New("injected")
			}
			return n, nil
		}}
		l, err := Open(path, opts)
		if err != nil {
			r.Fatal(err)
		}
		last := map[string]uint64{}
		for range rapid.IntRange(1, 40).Draw(r, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(-20e9, 30e9).Draw(r, "clock")))
			switch rapid.SampledFrom([]string{"draw", "draw", "draw", "crash", "close", "fault"}).Draw(r, "step") {
			case "fault":
				failing = !failing
			case "draw":
				name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "name")
				n, err := l.Nonce(name, now)
				if err != nil && !errors.Is(err, fault.LedgerUnavailable) {
					r.Fatal(err)
				}
				if err == nil && n <= last[name] {
					r.Fatalf("%s: %d after %d", name, n, last[name])
				}
				if err == nil {
					last[name] = n
				}
			case "crash", "close":
				failing = failing && rapid.Bool().Draw(r, "still")
				if l.lock != nil && rapid.Bool().Draw(r, "kill") {
					_ = l.lock.Close()
				} else {
					_ = l.Close()
				}
				l, _ = Open(path, opts)
			}
		}
		_ = l.Close()
	})
}

func TestFaultsHandOutNothingAndHeal(t *testing.T) {
	for _, op := range []string{"write", "sync", "open", "rename", "syncdir"} {
		t.Run(op, func(t *testing.T) {
			path, now, failing := filepath.Join(t.TempDir(), "ledger"), noon, ""
			opts := Options{Now: func() time.Time { return now }, Fault: func(op, _ string, n int) (int, error) {
				if failing == op || failing == "write" && op == "sync" {
					return n / 2, fmt.Errorf("injected %s", op)
				}
				return n, nil
			}}
			l := open(t, path, opts)
			last := draw(t, l, "k", now)
			if op != "write" && op != "sync" { // these happen only while the file is replaced
				failing = "write"
				if _, err := l.Nonce("k", now.Add(time.Minute)); err == nil {
					t.Fatal("a nonce was given though the mark could not be written")
				}
			}
			failing = op
			now = now.Add(time.Minute)
			if n := draw(t, l, "k", noon); n != last+1 {
				t.Errorf("a reserved nonce needs no disk, but %d came after %d", n, last)
			}
			for range 3 {
				now = now.Add(time.Minute)
				_, err := l.Nonce("k", now)
				if !errors.Is(err, fault.LedgerUnavailable) || l.Healthy() == nil {
					t.Fatalf("with a failing %s: %v, health %v", op, err, l.Healthy())
				}
			}
			failing = ""
			now = now.Add(time.Minute)
			last = draw(t, l, "k", now)
			if err := l.Healthy(); err != nil {
				t.Errorf("healed, but %v", err)
			}
			crash(l)
			if n := draw(t, open(t, path, Options{}), "k", noon); n <= last {
				t.Errorf("%d after %d", n, last)
			}
		})
	}
}

func TestDiskGoneAtStart(t *testing.T) {
	path, now := filepath.Join(t.TempDir(), "ledger"), noon
	seed := open(t, path, Options{})
	last := draw(t, seed, "k", now)
	_ = seed.Close()
	gone := true
	l, err := Open(path, Options{Now: func() time.Time { return now }, Fault: func(_, _ string, n int) (int, error) {
		if gone {
			return 0, errors.New("injected")
		}
		return n, nil
	}})
	if !errors.Is(err, fault.LedgerUnavailable) {
		t.Fatal(err)
	}
	if _, err := l.Nonce("k", now); !errors.Is(err, fault.LedgerUnavailable) {
		t.Fatal(err)
	}
	gone, now = false, now.Add(retryEvery)
	if n := draw(t, l, "k", noon); n != last+1 {
		t.Errorf("%d after %d", n, last)
	}
}

func BenchmarkNonce(b *testing.B) {
	l := open(b, filepath.Join(b.TempDir(), "ledger"), Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			draw(b, l, "kraken-main", noon)
		}
	})
}

func BenchmarkReserve(b *testing.B) {
	l := open(b, filepath.Join(b.TempDir(), "ledger"), Options{})
	c := Charge{Name: "roles.market-maker.rate/binance-main", Count: 1e9, Per: time.Second}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		now := noon
		for pb.Next() {
			now = now.Add(100)
			if err := l.Reserve(now, c); err != nil {
				b.Fatal(err)
			}
		}
	})
}
