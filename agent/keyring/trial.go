package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
)

// What the config can say of trials (Spec.Probe). Empty is ProbeOff.
const (
	ProbeOff      = "off"      // none
	ProbeAuto     = "auto"     // where another version signs meanwhile; a venue that can't be asked stops no switch
	ProbeRequired = "required" // always; only a venue that takes a version lets it sign
)

const (
	// trialTime is how long a trial may take in all.
	trialTime = 10 * time.Second
	// importWait is how long an import waits to tell what came of its trial.
	importWait = 2 * time.Second
	// A required trial that the venue didn't answer is made again after firstRetry,
	// then after twice as long, up to lastRetry.
	firstRetry, lastRetry = time.Second, time.Minute
)

// errTrying: nothing is wrong with the version; its trial goes on.
var errTrying = errors.New("a trial goes on")

// Try has a version sign a read that harms nothing, and asks the venue to answer
// it. nil: the venue takes the version; KEY_TRIAL_FAILED: it doesn't; any other
// error: it couldn't be asked. Rights are nil where the answer doesn't tell them.
type Try func(ctx context.Context, name string, use *Use) (*Rights, error)

// trial is how the venue is asked whether it takes a version, before that signs
// anything else. One that has ended without a switch stays, so that nobody asks again.
type trial struct {
	spec   *Spec
	number int
	// candidate is the version while the trial goes on. It is ended by whatever ends
	// a loaded version, and by an edit; either ends the trial.
	candidate *version
	done      chan struct{} // closed when it has ended

	// Guarded by Ring.mu.

	verdict *fault.Error  // why it wasn't switched to; nil: the trial goes on
	pause   time.Duration // until it may be made again; 0: not before something changes
	again   bool          // it may be made again now
}

// why is why the version doesn't sign.
func (t *trial) why(k *key) *fault.Error {
	if t.verdict != nil {
		return t.verdict
	}
	going := fault.New(fault.KeyPending, "version %d of key %s is being tried with the venue", t.number, k.name).
		WithHint("it takes at most %d seconds: sealsign key show %s", trialTime/time.Second, k.name).Because(errTrying)
	going.RetryAfter = time.Second
	return going
}

// trialLocked is the trial of version n that goes on, or whose end still counts.
func (k *key) trialLocked(n int) *trial {
	t := k.trial
	if t == nil || t.spec != k.spec || t.number != n || t.again || t.verdict == nil && t.candidate.ended.Load() != nil {
		return nil
	}
	return t
}

// dropTrialLocked forgets the trial. The caller ends the version, if there is one.
func (k *key) dropTrialLocked() []*version {
	t := k.trial
	k.trial = nil
	if t == nil || t.verdict != nil {
		return nil
	}
	k.loaded = slices.DeleteFunc(k.loaded, func(v *version) bool { return v == t.candidate })
	return []*version{t.candidate}
}

// lostLocked tells whether v was being tried and has been taken out of use.
func (k *key) lostLocked(v *version) bool {
	return k.trial != nil && k.trial.candidate == v && !slices.Contains(k.loaded, v)
}

func errSuperseded() *fault.Error {
	return fault.New(fault.KeyRetired, "the config has changed, and another version is wanted")
}

// trialWanted tells whether the wanted version is to be tried before it signs.
func (r *Ring) trialWanted(p *plan) bool {
	return r.try != nil && p.wanted != p.active &&
		(p.spec.Probe == ProbeRequired || p.spec.Probe == ProbeAuto && p.active != 0)
}

// tryFirst has the wanted version tried, the one before it signing meanwhile. It
// doesn't wait for the venue: err says that the trial goes on, or what came of it.
// It is false where there is to be none, since nothing signs that could go on.
func (r *Ring) tryFirst(ctx context.Context, k *key, p *plan) (tried bool, err error) {
	if p.live == nil && p.active != 0 {
		if p.live, err = r.bring(ctx, k, p.spec, p.active); errors.Is(err, errStale) {
			return true, err
		}
	}
	if p.live == nil && p.spec.Probe != ProbeRequired {
		return false, nil
	}
	r.mu.RLock()
	t, unusable := k.trialLocked(p.wanted), k.unusableLocked(p.wanted)
	r.mu.RUnlock()
	if t != nil {
		return true, r.standing(k, t)
	}
	var v *version
	if err = unusable; err == nil {
		v, err = r.load(ctx, k, p.spec, p.wanted)
	}
	if err == nil {
		return true, r.startTrial(k, p.spec, v)
	}
	if ctx.Err() == nil { // else it says nothing of the version
		r.note(k, err)
	}
	return true, err
}

func (r *Ring) standing(k *key, t *trial) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return t.why(k)
}

// startTrial begins the trial of a loaded version, unless what it was loaded for
// has changed. The error says that it goes on.
func (r *Ring) startTrial(k *key, spec *Spec, v *version) error {
	t := &trial{spec: spec, number: v.number, candidate: v, done: make(chan struct{}), pause: firstRetry}
	ctx, abandon := context.WithTimeout(r.ctx, trialTime)
	v.abandon = abandon
	before, err := r.enterTrial(k, t)
	endAll(before, errSuperseded())
	if err != nil {
		v.end(fault.From(err))
		return err
	}
	r.tasks.Go(func() { r.conduct(ctx, k, t) })
	return t.why(k)
}

func (r *Ring) enterTrial(k *key, t *trial) (before []*version, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ctx.Err() != nil:
		return nil, errStopping()
	case k.held(true) != nil:
		return nil, k.held(true)
	case k.spec != t.spec:
		return nil, errStale
	}
	if err := k.unusableLocked(t.number); err != nil {
		return nil, err
	}
	if last := k.trial; last != nil && last.again && last.spec == t.spec && last.number == t.number {
		t.pause = min(2*last.pause, lastRetry)
	}
	before = k.dropTrialLocked()
	k.trial, k.problem = t, nil
	k.loaded = append(k.loaded, t.candidate)
	return before, nil
}

// conduct is the trial: the venue is asked, and its answer acted on. A required one
// that it didn't answer is made again in a while.
func (r *Ring) conduct(ctx context.Context, k *key, t *trial) {
	rights, err := r.try(ctx, k.name, &t.candidate.uses[0])
	t.candidate.abandon() // frees the deadline
	pause := r.conclude(k, t, rights, err)
	close(t.done)
	if pause == 0 {
		return
	}
	select {
	case <-r.ctx.Done():
		return
	case <-time.After(pause):
	}
	r.mu.Lock()
	due := k.trial == t
	t.again = true
	r.mu.Unlock()
	if due {
		_, _ = r.settle(r.ctx, k) // it is noted at the key
	}
}

// conclude switches to a version that stood its trial, or keeps the one before and
// why. It gives the time after which to try again; 0: not at all.
func (r *Ring) conclude(k *key, t *trial, rights *Rights, err error) time.Duration {
	v := t.candidate
	if stopping := k.lock(r.ctx); stopping != nil {
		v.end(errStopping())
		return 0
	}
	defer k.unlock()
	r.mu.RLock()
	overtaken := k.trial != t || k.lostLocked(v)
	r.mu.RUnlock()
	if overtaken || r.ctx.Err() != nil { // by an edit, a suspension, a revocation, the end
		v.end(errSuperseded())
		return 0
	}
	if err != nil && t.keepsBefore(fault.From(err)) {
		return r.keepBefore(k, t, fault.From(err))
	}
	if err != nil {
		r.log.Warn("a version takes over untried: the venue could not be asked", "key", k.name, "version", t.number, "error", err)
	}
	if rights != nil {
		r.keepRights(k, t.number, rights) // first, so that who is told of the switch doesn't read them again
	}
	if err := r.switchTo(k, v, t.spec); err != nil {
		return r.keepBefore(k, t, fault.From(err))
	}
	return 0
}

// keepsBefore tells whether the version before is kept after a trial that failed. A
// venue that can't be asked stops no switch; what keeps this agent from asking does,
// since it keeps it from all else too.
func (t *trial) keepsBefore(why *fault.Error) bool {
	class := why.Reason.Class()
	return t.spec.Probe == ProbeRequired || class == fault.KeyState || class == fault.Unavailable
}

// keepBefore ends a version that isn't switched to, and keeps why.
func (r *Ring) keepBefore(k *key, t *trial, why *fault.Error) time.Duration {
	verdict := *why
	r.mu.Lock()
	k.loaded = slices.DeleteFunc(k.loaded, func(v *version) bool { return v == t.candidate })
	if why.Reason == fault.KeyTrialFailed {
		t.pause = 0
	} else {
		verdict.Message = fmt.Sprintf("version %d of key %s can't take over yet: %s", t.number, k.name, why.Message)
		verdict.Hint = fmt.Sprintf("it is tried again by itself; to do without: probe = %q or %q under [keys.%s]", ProbeAuto, ProbeOff, k.name)
	}
	t.verdict = &verdict
	pause := t.pause
	r.mu.Unlock()
	t.candidate.end(&verdict)
	r.log.Warn("a version doesn't take over", event.Key, event.RotationRefused, "key", k.name, "version", t.number, "error", why)
	return pause
}

// awaitTrial gives a trial a moment, so that who imported the version hears what
// came of it.
func (r *Ring) awaitTrial(ctx context.Context, k *key, number int) error {
	r.mu.RLock()
	t := k.trialLocked(number)
	r.mu.RUnlock()
	if t == nil {
		return nil
	}
	select {
	case <-t.done:
	case <-ctx.Done():
	case <-time.After(importWait):
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if t.verdict == nil {
		return nil
	}
	return storedOnly(number, t.verdict)
}
