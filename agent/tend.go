package agent

import (
	"context"
	"slices"
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/config"
	"github.com/sealsign/sealsign/internal/event"
)

const (
	// tendEvery is how often what survives of times is looked after.
	tendEvery = time.Minute
	// keepTimeEvery is how often the latest time is written down while nothing depends on it.
	keepTimeEvery = time.Hour
	// warnEvery is how often a key that is due is in the daemon's log.
	warnEvery = 24 * time.Hour
)

// time is what keys expire by: the latest time ever seen, so that a clock that is set
// back revives none.
//
// A time that is wrong and ahead would end keys for good, so that one is kept only if
// somebody vouches for it: the kernel, which calls its clock synchronised and stops
// doing so when anybody sets it, or a venue whose clock says the same within two
// seconds (see clocks). Where nobody does, the host's clock is still what counts, and
// is forgotten when it is put right. A venue alone moves nothing: it could end every
// key by telling a date of its choice. While a clock stands behind what was kept, time
// stands still: an expired key stays expired, another may last longer, and doctor
// tells it. Where the ledger can't be read, only the host's clock is known.
func (a *Agent) time() time.Time {
	now, seen := a.now(), a.ledger.Seen()
	if now.Before(seen) {
		return seen
	}
	return now
}

// synchronised tells whether the kernel calls the host's clock synchronised. Where it
// may not be asked, it isn't known to be.
func synchronised() bool {
	var clock unix.Timex // no modes: it is read
	_, err := unix.Adjtimex(&clock)
	return err == nil && clock.Status&unix.STA_UNSYNC == 0
}

// tendAll looks after times until the agent stops.
func (a *Agent) tendAll() {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for warned := (time.Time{}); ; {
		warned = a.tend(warned)
		select {
		case <-a.ctx.Done():
			a.keepUses()
			return
		case <-tick.C:
		}
	}
}

// tend keeps what is to survive, ends keys whose time is over, and warns of keys where the last time is long ago.
// It returns when it warned last.
func (a *Agent) tend(warned time.Time) time.Time {
	a.keepTime()
	a.keepUses()
	a.ring.Expire()
	if a.now().Sub(warned).Abs() < warnEvery {
		return warned
	}
	for name, k := range a.setup.Load().config.Keys {
		if k.MaxAge == 0 && k.Expires.IsZero() {
			continue
		}
		info, err := a.ring.Info(name)
		if err != nil {
			continue // the config was edited this moment
		}
		for _, f := range a.ending(&info) {
			a.logger.Warn("a key needs attention", event.Key, event.KeyDue, "key", name, "what", f.What, "next", f.Next)
		}
	}
	return a.now()
}

// keepTime notes the time where the kernel vouches for it, and writes down the latest:
// once an hour, and as soon as a key has ended by it. What can't be written is tried
// again, and told by the ledger.
func (a *Agent) keepTime() {
	if a.opts.Synchronised() {
		// Asked again: in between, the clock may have been set, and the reading be of before.
		if now := a.now(); a.opts.Synchronised() {
			a.ledger.Saw(now)
		}
	}
	kept := a.ledger.Kept()
	due := kept.Add(keepTimeEvery)
	if end, found := a.setup.Load().nextEnd(kept); found && end.Before(due) {
		due = end
	}
	if !a.ledger.Seen().Before(due) {
		_ = a.ledger.KeepTime()
	}
}

// keepUses hands the last use of each key to the ledger, which writes it once an hour.
func (a *Agent) keepUses() {
	a.ring.LastUses(func(name string, at time.Time) { _ = a.ledger.KeepUse(name, at) })
}

// ResetTime forgets the latest time ever seen, so that keys expire by the host's clock
// again: for one that was ahead while it was vouched for. It returns what it
// forgot; zero: nothing.
func (a *Agent) ResetTime(_ context.Context, who *caller.Caller) (forgotten time.Time, err error) {
	err = a.act(who, "time.reset", "", func() (int, error) {
		forgotten = a.ledger.Seen()
		return 0, a.ledger.ResetTime()
	})
	return forgotten, err
}

// endsOf lists when keys expire, in order.
func endsOf(keys map[string]*config.Key) (ends []time.Time) {
	for _, k := range keys {
		if !k.Expires.IsZero() {
			ends = append(ends, k.Expires)
		}
	}
	slices.SortFunc(ends, time.Time.Compare)
	return ends
}

// nextEnd is when the first key expires after a time.
func (s *setup) nextEnd(after time.Time) (end time.Time, found bool) {
	at := sort.Search(len(s.ends), func(i int) bool { return s.ends[i].After(after) })
	if at == len(s.ends) {
		return time.Time{}, false
	}
	return s.ends[at], true
}
