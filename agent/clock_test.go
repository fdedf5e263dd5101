package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

func TestClockCorrection(t *testing.T) {
	for name, test := range map[string]struct {
		ahead, precision time.Duration
		want             time.Duration
		skewed           bool
	}{
		"right":                       {0, time.Millisecond, 0, false},
		"within what can be told":     {400 * time.Millisecond, time.Second, 0, false},
		"behind the venue's":          {time.Second, time.Millisecond, time.Second, false},
		"ahead of the venue's":        {-1500 * time.Millisecond, time.Millisecond, -1500 * time.Millisecond, false},
		"two seconds off":             {2 * time.Second, time.Millisecond, 2 * time.Second, false},
		"off by more":                 {2100 * time.Millisecond, time.Millisecond, 0, true},
		"by more, as far as is known": {2900 * time.Millisecond, time.Second, 2900 * time.Millisecond, false},
		"far behind":                  {-time.Hour, time.Second, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := clocks{now: time.Now}
				read := func(context.Context) (time.Time, time.Duration, error) {
					return time.Now().Add(test.ahead), test.precision, nil
				}
				if at, err := c.at("h", read); err != nil || !at.Equal(time.Now()) {
					t.Errorf("before the clock is known: %v, %v", at, err)
				}
				synctest.Wait()
				at, err := c.at("h", read)
				if test.skewed {
					var refusal *fault.Error
					if !errors.As(err, &refusal) || refusal.Reason != fault.ClockSkew || refusal.Hint == "" {
						t.Errorf("got %v, %v", at, err)
					}
					return
				}
				if got := time.Until(at); err != nil || got != test.want {
					t.Errorf("got %v, %v, want %v", got, err, test.want)
				}
			})
		})
	}
}

// A clock is read every ten minutes, and one that couldn't be read, or is far
// off, after five seconds; by one at a time, and a request waits for none.
func TestClockIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clocks{now: time.Now}
		reads, ahead, failing := 0, time.Hour, error(nil)
		read := func(context.Context) (time.Time, time.Duration, error) {
			reads++
			time.Sleep(time.Second)
			return time.Now().Add(ahead), time.Millisecond, failing
		}
		ask := func(after time.Duration) error {
			time.Sleep(after)
			began := time.Now()
			_, err := c.at("h", read)
			if waited := time.Since(began); waited > 0 {
				t.Errorf("a request waits %v", waited)
			}
			return err
		}
		for i, step := range []struct {
			after  time.Duration
			reads  int // begun by then
			skewed bool
		}{
			{0, 1, false},
			{500 * time.Millisecond, 1, false}, // it is being read
			{time.Second, 1, true},
			{6 * time.Second, 2, true},   // the clock is set right meanwhile: see below
			{2 * time.Second, 2, false},  // read
			{6 * time.Second, 2, false},  // and good for
			{10 * time.Minute, 3, false}, // ten minutes
			{2 * time.Second, 3, false},  // failed: what was known stands
			{5 * time.Second, 4, false},  // and is tried again
			{20 * time.Second, 5, false},
		} {
			if i == 3 {
				ahead = 0
			}
			if i == 6 {
				failing = errors.New("status 500")
			}
			err := ask(step.after)
			synctest.Wait()
			if reads != step.reads || errors.Is(err, fault.ClockSkew) != step.skewed {
				t.Errorf("step %d: %d reads, %v", i, reads, err)
			}
		}
		time.Sleep(time.Minute) // the last read ends
	})
}
