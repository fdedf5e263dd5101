package ledger

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

func seen(t *testing.T, l *Ledger, want time.Time) {
	t.Helper()
	if got := l.Seen(); !got.Equal(want) {
		t.Errorf("the latest time seen is %v, want %v", got.UTC(), want)
	}
}

var never time.Time

func TestTheLatestTimeNeverGoesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := open(t, path, Options{})
	seen(t, l, never)
	l.Saw(noon)
	l.Saw(noon.AddDate(-1, 0, 0))
	l.Saw(time.Time{})
	seen(t, l, noon)
	if kept := l.Kept(); !kept.Equal(never) {
		t.Errorf("%v is kept before it was asked for", kept)
	}
	if err := l.KeepTime(); err != nil || !l.Kept().Equal(noon) {
		t.Fatal(err, l.Kept())
	}
	l.Saw(noon.Add(time.Minute))
	crash(l) // what was not kept is lost
	l = open(t, path, Options{})
	seen(t, l, noon)
	l.Saw(noon.Add(time.Hour))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	seen(t, open(t, path, Options{}), noon.Add(time.Hour))
}

func TestTheLatestTimeIsReset(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := open(t, path, Options{})
	l.Saw(noon.AddDate(10, 0, 0))
	nonce := draw(t, l, "k", noon)
	if err := errors.Join(l.KeepTime(), l.ResetTime()); err != nil {
		t.Fatal(err)
	}
	seen(t, l, never)
	l.Saw(noon)
	if err := l.KeepTime(); err != nil {
		t.Fatal(err)
	}
	crash(l)
	l = open(t, path, Options{})
	seen(t, l, noon)
	if n := draw(t, l, "k", noon); n <= nonce {
		t.Errorf("nonce %d after %d", n, nonce)
	}
	_ = l.Close()
	if err := l.ResetTime(); !errors.Is(err, fault.LedgerUnavailable) {
		t.Errorf("a closed ledger answers %v", err)
	}
}

// Wherever the disk fails in a reset, it is done or not, in memory and on disk.
func TestAResetThatFails(t *testing.T) {
	far := noon.AddDate(10, 0, 0)
	for _, op := range []string{"open", "write", "sync", "rename", "syncdir"} {
		t.Run(op, func(t *testing.T) {
			path, now, failing := filepath.Join(t.TempDir(), "ledger"), noon, false
			opts := Options{Now: func() time.Time { return now }, Fault: func(at, _ string, n int) (int, error) {
				if failing && at == op {
					return n / 2, errors.New("injected")
				}
				return n, nil
			}}
			l := open(t, path, opts)
			l.Saw(far)
			if err := l.KeepTime(); err != nil {
				t.Fatal(err)
			}
			failing = true
			if err := l.ResetTime(); !errors.Is(err, fault.LedgerUnavailable) {
				t.Fatalf("got %v", err)
			}
			seen(t, l, far)
			failing, now = false, now.Add(time.Second)
			if err := l.KeepUse("k", now); err != nil { // the next write
				t.Fatal(err)
			}
			crash(l)
			seen(t, open(t, path, Options{}), far)
		})
	}
}

func TestUsesAreWrittenOnceAnHour(t *testing.T) {
	writes, path := 0, filepath.Join(t.TempDir(), "ledger")
	l := open(t, path, Options{Fault: func(op, _ string, n int) (int, error) {
		if op == "write" {
			writes++
		}
		return n, nil
	}})
	if last := l.LastUse("k"); last != never {
		t.Errorf("a key that was never used was used at %v", last)
	}
	writes = 0
	last := noon
	for range 150 {
		last = last.Add(time.Minute)
		if err := l.KeepUse("k", last); err != nil {
			t.Fatal(err)
		}
	}
	if writes != 3 || !l.LastUse("k").Equal(last) {
		t.Errorf("%d writes in two hours and a half, the last use is %v", writes, l.LastUse("k"))
	}
	if err := l.KeepUse("k", noon); err != nil || !l.LastUse("k").Equal(last) {
		t.Errorf("with the clock set back: %v, %v", l.LastUse("k"), err)
	}
	_ = l.Close()
	l = open(t, path, Options{})
	if !l.LastUse("k").Equal(last) {
		t.Errorf("after a restart it is %v, want %v", l.LastUse("k"), last)
	}
	crash(l)
	if l = open(t, path, Options{}); !l.LastUse("k").Equal(last) {
		t.Errorf("after a crash it is %v, want %v", l.LastUse("k"), last)
	}
}

// A ledger of the format before is read, and is of the new one from then on.
func TestTheFormatBeforeIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	if err := os.WriteFile(path, append([]byte(headerBefore), appendEntry(nil, id{nonce, "k"}, uint64(noon.UnixNano()))...), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, path, Options{})
	if n := draw(t, l, "k", never); n != uint64(noon.UnixNano())+1 {
		t.Errorf("the nonce after %d is %d", noon.UnixNano(), n)
	}
	if data, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(data, []byte(header)) {
		t.Errorf("the file begins with %.20q, %v", data, err)
	}
}

func TestSeenIsFree(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "ledger"), Options{})
	if n := testing.AllocsPerRun(100, func() { l.Saw(noon); _ = l.Seen() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
