package agent

import (
	"fmt"
	"time"

	"github.com/sealsign/sealsign/agent/keyring"
)

// ending tells what is to come of a key, and what is overdue.
func (a *Agent) ending(k *keyring.Info) (d diagnosis) {
	s := &k.Schedule
	rotate := "sealsign key rotate " + k.Name
	switch s.Rotation {
	case keyring.RotationDue:
		d.add("keys", Warning, fmt.Sprintf("the rotation of %s is due since %s", k.Name, rfc3339(s.RotationDue)), rotate)
	case keyring.RotationSoon:
		d.add("keys", Warning, fmt.Sprintf("the rotation of %s is due at %s", k.Name, rfc3339(s.RotationDue)), rotate)
	}
	if left := s.Expires.Sub(a.time()); !s.Expires.IsZero() && left > 0 && left <= keyring.Week {
		d.add("keys", Warning, fmt.Sprintf("%s expires at %s, and signs nothing from then on", k.Name, rfc3339(s.Expires)),
			fmt.Sprintf("%s, and set a later expires under [keys.%s]", rotate, k.Name))
	}
	return d
}

// idle tells that nobody uses a key.
func idle(k *keyring.Info) (d diagnosis) {
	if since := k.Schedule.IdleSince; !since.IsZero() {
		d.add("keys", Warning, fmt.Sprintf("%s is not in use since %s", k.Name, rfc3339(since)),
			fmt.Sprintf("if nobody needs it, delete it at %s, then: sealsign key revoke %s", k.Venue, k.Name))
	}
	return d
}

func rfc3339(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// examineTime looks at what keys expire by.
func (a *Agent) examineTime(d *diagnosis) {
	const next = "timedatectl status, chronyc tracking"
	now, seen := a.now(), a.ledger.Seen()
	switch ahead := seen.Sub(now); {
	case ahead > maxCorrection:
		d.add("clock", Problem, fmt.Sprintf("this host's clock is %v behind the latest time that it ever had, %s, by which keys expire", ahead.Round(time.Second), rfc3339(seen)),
			next+"; if it is right now, and was ahead before: sealsign store recover --time")
	case -ahead > keepTimeEvery && len(a.setup.Load().ends) > 0:
		d.add("clock", Warning, "neither the kernel nor a venue vouches for this host's clock: keys expire by it, and if it is set back they sign again",
			next+"; sealsign.service lets the daemon ask the kernel only with the drop-in clock.conf")
	}
}
