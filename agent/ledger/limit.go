package ledger

import (
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// Charge is one request's share of a limit: a bucket of Count tokens that is
// refilled over Per, of which the request takes one. The zero Charge takes nothing.
type Charge struct {
	Name  string // as the config names the limit: "roles.ROLE.rate/KEY"
	Count int
	Per   time.Duration
}

// step is the time in which one token is refilled, window that of all of them.
// Rounded up, so that a limit is never exceeded.
func (c Charge) step() (step, window uint64) {
	count := uint64(c.Count)
	step = (uint64(c.Per) + count - 1) / count
	return step, step * count
}

// Reserve takes one token, or refuses with RATE_LIMITED and the time until there
// is one. The limit is kept as one number, the time at which the bucket will be
// full again (GCRA, the generic cell rate algorithm).
func (l *Ledger) Reserve(now time.Time, c Charge) error {
	if c == (Charge{}) {
		return nil
	}
	if c.Name == "" || c.Count <= 0 || c.Per <= 0 {
		return fault.New(fault.InternalError, "limit %q is not a number of requests in a time: %d in %s", c.Name, c.Count, c.Per)
	}
	k := id{limit, c.Name}
	step, window := c.step()
	at := unixNano(now)
	for {
		l.mu.Lock()
		m := l.markLocked(k)
		// A bucket can't be emptier than empty: a number beyond that is from before a
		// crash (reserved ahead) or from a clock that was set back.
		m.used = min(m.used, at+window)
		full := max(m.used, at) + step
		if full > at+window {
			l.mu.Unlock()
			return limited(c, time.Duration(full-at-window))
		}
		if full <= m.reserved {
			m.used = full
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		if err := l.raise(k, full, ahead); err != nil {
			return err
		}
	}
}

// Refund gives one token back, for a request that is known not to have left.
func (l *Ledger) Refund(now time.Time, c Charge) {
	if c == (Charge{}) {
		return
	}
	step, _ := c.step()
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.marks[id{limit, c.Name}]
	if m != nil && m.used > unixNano(now) {
		m.used -= min(step, m.used)
	}
}

func limited(c Charge, wait time.Duration) error {
	err := fault.New(fault.RateLimited, "the limit %s, %d in %s, is used up", c.Name, c.Count, c.Per).
		WithRule(c.Name).WithHint("retry in %s", wait.Round(time.Millisecond))
	err.RetryAfter = wait
	return err
}
