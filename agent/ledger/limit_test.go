package ledger

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sealsign/sealsign/internal/fault"
)

var five = Charge{Name: "roles.r.rate/k", Count: 5, Per: time.Second}

func taken(t testing.TB, l *Ledger, now time.Time, c Charge) (n int) {
	t.Helper()
	for {
		err := l.Reserve(now, c)
		if errors.Is(err, fault.RateLimited) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
}

func TestReserveIsABucket(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "ledger"), Options{})
	steps := []struct {
		after time.Duration
		want  int
	}{
		{0, 5}, {0, 0}, {199 * time.Millisecond, 0}, {200 * time.Millisecond, 1}, {1200 * time.Millisecond, 5}, {time.Hour, 5},
	}
	for _, s := range steps {
		if n := taken(t, l, noon.Add(s.after), five); n != s.want {
			t.Errorf("after %s: %d taken, want %d", s.after, n, s.want)
		}
	}
	err := fault.From(l.Reserve(noon.Add(time.Hour), five))
	if err.RetryAfter != 200*time.Millisecond || err.Rule != five.Name {
		t.Errorf("refused with retry after %s and rule %q", err.RetryAfter, err.Rule)
	}
	if err := l.Reserve(noon, Charge{}); err != nil {
		t.Errorf("the zero charge: %v", err)
	}
	if err := l.Reserve(noon, Charge{Name: "x", Count: -1, Per: time.Second}); !errors.Is(err, fault.InternalError) {
		t.Errorf("a negative count: %v", err)
	}
}

func TestRefundGivesBack(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "ledger"), Options{})
	taken(t, l, noon, five)
	l.Refund(noon, five)
	l.Refund(noon, five)
	if n := taken(t, l, noon, five); n != 2 {
		t.Errorf("%d taken after two refunds", n)
	}
	for range 9 {
		l.Refund(noon.Add(time.Hour), five)
	}
	if n := taken(t, l, noon.Add(time.Hour), five); n != 5 {
		t.Errorf("refunds filled the bucket beyond its size: %d taken", n)
	}
}

func TestLimitsSurviveARestart(t *testing.T) {
	daily := Charge{Name: "roles.r.rate/k", Count: 3, Per: 24 * time.Hour}
	for _, how := range []string{"close", "crash"} {
		t.Run(how, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger")
			l := open(t, path, Options{})
			for range 2 {
				if err := l.Reserve(noon, daily); err != nil {
					t.Fatal(err)
				}
			}
			want := 1
			if how == "crash" {
				crash(l)
				want = 0 // reserved ahead: over-counted by ten seconds of the day
			} else if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open(t, path, Options{})
			if n := taken(t, l, noon, daily); n != want {
				t.Errorf("%d taken at once, want %d", n, want)
			}
			if n := taken(t, l, noon.Add(10*time.Second), daily); n != 1-want {
				t.Errorf("%d taken ten seconds later, want %d", n, 1-want)
			}
		})
	}
}

func TestLimitWithTheClockSetBack(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "ledger"), Options{})
	taken(t, l, noon, five)
	earlier := noon.Add(-time.Hour)
	if n := taken(t, l, earlier, five); n != 0 {
		t.Errorf("%d taken at once", n)
	}
	if n := taken(t, l, earlier.Add(time.Second), five); n != 5 {
		t.Errorf("%d taken a second later: the limit must not stay shut for an hour", n)
	}
}

// Whatever the calls, no window of Per sees more than twice Count (a full bucket
// and what was refilled meanwhile), and over the whole time it's Count per Per and the bucket.
func TestLimitIsNeverExceeded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	runs := 0
	rapid.Check(t, func(r *rapid.T) {
		runs++
		l := open(t, path+time.Duration(runs).String(), Options{})
		defer func() { _ = l.Close() }()
		c := Charge{Name: "l", Count: rapid.IntRange(1, 100).Draw(r, "count"), Per: time.Duration(rapid.Int64Range(1, 1e10).Draw(r, "per"))}
		now, passed := noon, 0
		for range rapid.IntRange(1, 200).Draw(r, "calls") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(c.Per)/int64(c.Count)+1).Draw(r, "gap")))
			if l.Reserve(now, c) == nil {
				passed++
			}
		}
		allowed := float64(c.Count) + float64(now.Sub(noon))/float64(c.Per)*float64(c.Count)
		if float64(passed) > allowed+1e-6 {
			r.Fatalf("%d passed, at most %.2f allowed", passed, allowed)
		}
	})
}
