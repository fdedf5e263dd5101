package agent

import (
	"context"
	"sync"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

const (
	// maxCorrection is how far a timestamp is moved towards the venue's clock. A host that is
	// further off has a broken clock, which is to be mended and not hidden.
	maxCorrection = 2 * time.Second
	// clockEvery is how often the clock of a venue in use is read again.
	clockEvery = 10 * time.Minute
	// clockRetry is how soon it is read again when it couldn't be, or was too far off.
	clockRetry = 5 * time.Second
)

// venueTime reads a venue's clock: its time, and how exactly it tells it.
type venueTime func(context.Context) (at time.Time, precision time.Duration, err error)

// clocks keeps how far the host's clock is from those of the venues. A venue's
// clock is read in the background: a request never waits for it, and without
// it the host's is used.
type clocks struct {
	now    func() time.Time
	agreed func(time.Time) // told of a time that a venue says too; nil: nobody is
	mu     sync.Mutex
	known  map[string]*offset // by host
}

type offset struct {
	by        time.Duration // the venue's clock minus the host's
	precision time.Duration // by may be wrong by this much
	due       time.Time     // when to read it again
	reading   bool
}

// at gives the time to put on a request to host, or CLOCK_SKEW. A nil read
// means that the venue has no public clock.
func (c *clocks) at(host string, read venueTime) (time.Time, error) {
	now := c.now()
	if read == nil {
		return now, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.known[host]
	if o == nil {
		if c.known == nil {
			c.known = make(map[string]*offset)
		}
		o = new(offset)
		c.known[host] = o
	}
	if !o.reading && !now.Before(o.due) {
		o.reading = true
		go c.read(o, read)
	}
	switch {
	case o.by.Abs() <= o.precision: // no telling which of the two is right
		return now, nil
	case o.by.Abs()-o.precision > maxCorrection:
		return now, fault.New(fault.ClockSkew, "this host's clock and that of %s are %v apart", host, o.by.Abs().Round(time.Millisecond)).
			WithHint("set this host's clock: timedatectl status, chronyc tracking")
	}
	return now.Add(o.by), nil
}

func (c *clocks) read(o *offset, read venueTime) {
	ctx, cancel := context.WithTimeout(context.Background(), clockRetry)
	defer cancel()
	before := c.now()
	at, precision, err := read(ctx)
	took := c.now().Sub(before)

	c.mu.Lock()
	defer c.mu.Unlock()
	o.reading = false
	o.due = c.now().Add(clockRetry)
	if err != nil {
		return // what was known before stands
	}
	o.by = at.Sub(before.Add(took / 2))
	o.precision = took/2 + precision
	if o.by.Abs()-o.precision <= maxCorrection {
		o.due = c.now().Add(clockEvery)
		if c.agreed != nil {
			c.agreed(before)
		}
	}
}

// offsets tells how far each venue's clock is ahead of the host's, where it is known.
func (c *clocks) offsets() map[string]time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := make(map[string]time.Duration, len(c.known))
	for host, o := range c.known {
		if o.precision > 0 {
			known[host] = o.by
		}
	}
	return known
}
