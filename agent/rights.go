package agent

import (
	"fmt"
	"sync"
	"time"

	"github.com/sealsign/sealsign/agent/keyring"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

const (
	// What couldn't be read is read again after rightsRetry, then after twice as long, up to rightsSeldom.
	rightsRetry, rightsSeldom = 5 * time.Second, 10 * time.Minute
	// rightsRefused is how long a venue isn't asked again that didn't take the key: many failures lock an account.
	rightsRefused = 6 * time.Hour
	// expirySoon is when doctor begins to warn of a key's end at the venue.
	expirySoon = 14 * 24 * time.Hour
)

// switches are the keys of which another version signs now.
type switches struct {
	mu    sync.Mutex
	names map[string]bool
	wake  chan struct{} // has room for one
}

func newSwitches() *switches {
	return &switches{names: make(map[string]bool), wake: make(chan struct{}, 1)}
}

// add never blocks.
func (s *switches) add(name string) {
	s.mu.Lock()
	s.names[name] = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *switches) take() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.names
	s.names = make(map[string]bool)
	return taken
}

// reading is a key whose rights are to be read.
type reading struct {
	due   time.Time
	pause time.Duration // after the next failure
}

// readRights reads in the background what each version may do at its venue, once
// it signs. No answer waits for it.
func (a *Agent) readRights() {
	waiting := make(map[string]*reading)
	for {
		pause := rightsSeldom
		for name := range a.switches.take() {
			waiting[name] = &reading{pause: rightsRetry}
		}
		for name, r := range waiting {
			if left := time.Until(r.due); left > 0 {
				pause = min(pause, left)
				continue
			}
			if !a.readRightsOf(name, r) {
				delete(waiting, name)
				continue
			}
			pause = min(pause, time.Until(r.due))
		}
		select {
		case <-a.ctx.Done():
			return
		case <-a.switches.wake:
		case <-time.After(max(pause, 0)):
		}
	}
}

// readRightsOf reads the rights of a key's version, if that isn't done. It is true
// where it is to be done again at r.due.
func (a *Agent) readRightsOf(name string, r *reading) bool {
	k := a.setup.Load().keys[name]
	if k == nil || k.probe == keyring.ProbeOff || !k.venue.TellsRights(k.environment) || a.ring.RightsUnknown(name) == 0 {
		return false
	}
	version, rights, err := a.probe(a.ctx, name, nil)
	if err == nil && rights != nil {
		err = a.ring.KeepRights(a.ctx, name, version, rights)
	}
	if err == nil || a.ctx.Err() != nil {
		return false
	}
	why := fault.From(err)
	a.ring.RightsFailed(name, why)
	a.logger.Warn("the rights of a key at its venue could not be read", "key", name, "error", why)
	r.due, r.pause = time.Now().Add(r.pause), min(2*r.pause, rightsSeldom)
	if why.Reason == fault.KeyTrialFailed {
		r.due = time.Now().Add(rightsRefused)
	}
	return true
}

// warnOfRights tells the log what an operator should know of a key.
func (a *Agent) warnOfRights(name string, version int, rights *keyring.Rights) {
	var d diagnosis
	a.examineRights(&d, name, rights)
	for _, f := range d {
		if f.Level != Fine {
			a.logger.Warn("a key's rights at its venue", "key", name, "version", version, "warning", f.What, "next", f.Next)
		}
	}
}

// examineRightsOf does so for doctor, for the version that signs.
func (a *Agent) examineRightsOf(d *diagnosis, info *keyring.Info) {
	if info.RightsProblem != "" {
		d.add("keys", Warning, "what "+info.Name+" may do at its venue is not known: "+info.RightsProblem, "it is read again by itself")
	}
	for _, v := range info.Versions {
		if v.Version == info.Active && v.Rights != nil && info.Venue != "" {
			a.examineRights(d, info.Name, v.Rights)
		}
	}
}

// examineRights says what is wrong with what a key may do at its venue: more than
// this agent needs, from anywhere, or not for long.
func (a *Agent) examineRights(d *diagnosis, name string, rights *keyring.Rights) {
	s := a.setup.Load()
	if yes(rights.Withdraw) && !s.mayWithdraw(name) {
		d.add("keys", Warning, name+" can withdraw at its venue, and no role may",
			"take the permission from the key at the venue, or make one without it and import that: sealsign key import "+name)
	}
	if rights.IPList != nil && !*rights.IPList {
		d.add("keys", Warning, name+" is good at its venue from every address", "limit the key to this host's address at the venue")
	}
	if rights.Expires.IsZero() {
		return
	}
	level, next := Fine, ""
	if rights.Expires.Sub(a.now()) < expirySoon {
		level, next = Warning, "make another key at the venue, then: sealsign key import "+name
	}
	d.add("keys", level, fmt.Sprintf("%s ends at its venue on %s", name, rights.Expires.UTC().Format(time.DateOnly)), next)
}

// mayWithdraw tells whether a role lets anyone withdraw with the key.
func (s *setup) mayWithdraw(key string) bool {
	for _, role := range s.config.Roles {
		if role.Keys[key] && role.Allow[venue.Withdraw] {
			return true
		}
	}
	return false
}

func yes(answer *bool) bool { return answer != nil && *answer }
