package keyring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

const (
	// drain is how long a version that was replaced still serves requests that
	// began with it, so that a rotation loses none. It is as long as the daemon
	// itself waits for requests when it stops.
	drain = 10 * time.Second
	// retrySettle is how long the background waits for a TPM or a disk that is gone.
	retrySettle = 5 * time.Second
	// retryLoad is how long a version that couldn't be loaded isn't tried again: a
	// bot that knocks on a broken key must not keep the TPM from the others.
	retryLoad = time.Second
)

// errStale: the config changed while a version was being loaded for it.
var errStale = errors.New("the config has changed meanwhile")

// settle makes the wanted version live. Where that fails, err says why, and the
// one before it stays live, or is loaded: live is nil only if none can sign.
func (r *Ring) settle(ctx context.Context, k *key) (live *version, err error) {
	if err := k.lock(ctx); err != nil {
		return nil, err
	}
	defer k.unlock()
	return r.settleBusy(ctx, k)
}

// settleBusy is settle for who has locked the key.
func (r *Ring) settleBusy(ctx context.Context, k *key) (*version, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	for {
		p := r.planFor(k)
		if p.err != nil || p.settled {
			return p.live, p.err
		}
		if r.trialWanted(&p) {
			tried, err := r.tryFirst(ctx, k, &p)
			switch {
			case errors.Is(err, errStale):
				continue
			case tried:
				return p.live, err
			}
		}
		v, err := r.bring(ctx, k, p.spec, p.wanted)
		switch {
		case errors.Is(err, errStale):
			continue
		case err != nil && ctx.Err() != nil: // says nothing of the version
			return p.live, err
		}
		r.note(k, err)
		if err == nil || p.live != nil || p.active == 0 || p.active == p.wanted {
			return cmp.Or(v, p.live), err
		}
		v, second := r.bring(ctx, k, p.spec, p.active)
		if second != nil {
			r.log.Warn("the version before can't sign either", "key", k.name, "version", p.active, "error", second)
		}
		return v, err
	}
}

// plan is what settle is to do.
type plan struct {
	spec           *Spec
	wanted, active int
	live           *version
	settled        bool  // live is the wanted version
	err            error // why nothing can be done
}

func (r *Ring) planFor(k *key) plan {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p := plan{spec: k.spec, wanted: k.wantedLocked(), active: k.activeLocked(), live: k.live.Load()}
	switch {
	case r.ctx.Err() != nil:
		p.err = errStopping()
	case k.spec == nil:
		p.err = errUnknown(k.name)
	case k.held(true) != nil: // a suspended or expired key isn't loaded
		p.err = k.held(true)
	case p.live != nil && p.live.number == p.wanted:
		p.settled = true
	case k.problem != nil && r.now().Sub(k.failedAt).Abs() < retryLoad:
		p.err = k.problem
	}
	return p
}

// note keeps why the wanted version isn't live.
func (r *Ring) note(k *key, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k.problem = nil
	if err != nil {
		k.problem, k.failedAt = fault.From(err), r.now()
		r.log.Warn("a key's version can't sign", event.Key, event.KeyUnusable, "key", k.name, "error", err)
	}
}

// bring loads version n and makes it live.
func (r *Ring) bring(ctx context.Context, k *key, spec *Spec, n int) (*version, error) {
	r.mu.RLock()
	err := k.unusableLocked(n)
	r.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	v, err := r.load(ctx, k, spec, n)
	if err != nil {
		return nil, err
	}
	if err := r.switchTo(k, v, spec); err != nil {
		v.end(fault.From(err))
		return nil, err
	}
	return v, nil
}

// switchTo makes a loaded version live: first on disk, then in force.
func (r *Ring) switchTo(k *key, v *version, spec *Spec) error {
	err := r.activate(k, v.number)
	if err == nil {
		err = r.publish(k, v, spec)
	}
	if err == nil {
		r.live(k.name)
	}
	return err
}

// load unseals a version.
func (r *Ring) load(ctx context.Context, k *key, spec *Spec, n int) (*version, error) {
	f, err := r.readVersion(k.name, n)
	if err != nil {
		return nil, err
	}
	device, err := r.tpm()
	if err != nil {
		return nil, err
	}
	c, err := f.open(ctx, device) // before the metadata is believed
	if err != nil {
		return nil, err
	}
	defer c.Wipe()
	if err := f.meta.bound(spec); err != nil {
		return nil, err
	}
	v, err := newVersion(k, &f.meta, c)
	if err != nil {
		return nil, err
	}
	if err := v.arm(ctx, device, f, c); err != nil {
		v.end(fault.From(err))
		return nil, err
	}
	return v, nil
}

// arm adds what signs.
func (v *version) arm(ctx context.Context, device *tpm.Device, f *versionFile, c *credential.Credential) (err error) {
	if f.object != nil {
		v.object, err = f.loadObject(ctx, device, c)
		return err
	}
	m, err := newMaterial(f.meta.Algorithm, f.meta.SecretEncoding, c)
	if err == nil {
		v.material = m
	}
	return err
}

// readVersion reads a version's file.
func (r *Ring) readVersion(name string, n int) (*versionFile, error) {
	data, err := r.store.read(r.store.version(name, n), maxVersionFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damaged(name, n, errors.New("it is missing"))
	}
	if _, unread := errors.AsType[*fs.PathError](err); unread { // says nothing of what is in it
		return nil, storeFault(fmt.Sprintf("reading version %d of key %s", n, name), err)
	}
	if err != nil {
		return nil, damaged(name, n, err)
	}
	f, err := parseVersion(name, n, data)
	if err != nil {
		return nil, err
	}
	f.offline = r.store.offline(name, n)
	return f, nil
}

// writeVersion puts a version's file in place.
func (r *Ring) writeVersion(f *versionFile) error {
	data, err := f.encode()
	if err != nil {
		return err
	}
	return r.store.write(r.store.version(f.meta.Name, f.meta.Version), data)
}

// activate writes down that n signs from now on.
func (r *Ring) activate(k *key, n int) error {
	r.mu.Lock()
	before, old := k.versions[n], k.activeLocked()
	if before == Active || before == Revoked { // publish refuses what was revoked meanwhile
		r.mu.Unlock()
		return nil
	}
	if old != 0 {
		k.versions[old] = Retired
	}
	k.versions[n] = Active
	r.mu.Unlock()
	err := r.save()
	r.mu.Lock()
	if err == nil && k.versions[n] == Active {
		r.mu.Unlock()
		r.log.Info("a key's version was switched", event.Key, event.KeySwitched, "key", k.name, "from", old, "to", n)
		r.switched(k.name, n)
		return nil
	}
	if k.versions[n] == Active { // else it was revoked meanwhile
		k.versions[n] = before
	}
	if old != 0 && k.versions[old] == Retired { // it signs on, after a restart too
		k.versions[old] = Active
	}
	revoked := k.unusableLocked(n)
	r.mu.Unlock()
	if err == nil {
		_ = r.save() // what it can't write is tried again
	}
	return cmp.Or(err, revoked)
}

// publish makes v live, unless what it was loaded for has changed.
func (r *Ring) publish(k *key, v *version, spec *Spec) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ctx.Err() != nil:
		return errStopping()
	case k.held(true) != nil:
		return k.held(true)
	case k.versions[v.number] != Active:
		return k.unusableLocked(v.number)
	case k.spec != spec:
		return errStale
	case k.lostLocked(v):
		return errSuperseded()
	}
	if k.trial != nil && k.trial.candidate == v {
		k.trial = nil
	}
	old := k.live.Swap(v)
	if !slices.Contains(k.loaded, v) { // else it was tried
		k.loaded = append(k.loaded, v)
	}
	k.metas[v.number] = v.meta
	if old != nil {
		old.drained = r.now().Add(drain)
		time.AfterFunc(drain, func() { r.retire(old, v.number) })
	}
	return nil
}

// retire ends a version that was replaced some time ago.
func (r *Ring) retire(old *version, by int) {
	r.mu.Lock()
	k := old.key
	k.loaded = slices.DeleteFunc(k.loaded, func(v *version) bool { return v == old })
	r.mu.Unlock()
	old.end(fault.New(fault.KeyRetired, "version %d of key %s was replaced by version %d", old.number, k.name, by).
		WithHint("send the request again"))
}

// background settles keys, one after the other, and tries those again that wait
// for the TPM or the disk. It replaces what it did before.
func (r *Ring) background(keys []*key) {
	ctx, cancel := context.WithCancel(r.ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.round != nil {
		r.round()
	}
	r.round = cancel
	if len(keys) == 0 || r.ctx.Err() != nil {
		return
	}
	r.tasks.Go(func() {
		for {
			keys = slices.DeleteFunc(keys, func(k *key) bool {
				_, err := r.settle(ctx, k)
				return err == nil || fault.From(err).Reason.Class() != fault.Unavailable
			})
			if len(keys) == 0 {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(retrySettle):
			}
		}
	})
}

// Warm loads what the config names and isn't loaded, and cleans what was left by
// interrupted writes. It returns when all has been tried, when ctx is done, or at Close.
func (r *Ring) Warm(ctx context.Context) {
	for _, k := range r.sorted() {
		if ctx.Err() != nil || r.ctx.Err() != nil {
			return
		}
		if !r.rests(k) {
			r.warm(ctx, k)
		}
	}
}

// rests tells whether there is nothing to do for a key, so that an edit of one among
// thousands touches no other. One that couldn't be loaded is tried again when it is used,
// edited or settled, and here only where the TPM or the disk was the reason.
func (r *Ring) rests(k *key) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !k.cleaned {
		return false
	}
	live := k.live.Load()
	return k.spec == nil || len(k.versions) == 0 || live != nil && live.number == k.wantedLocked() ||
		k.problem != nil && k.problem.Reason.Class() != fault.Unavailable
}

// Settle is Warm for one key, or for all if name is empty, and awaits the trials
// that go on then. It returns when ctx is done at the latest.
func (r *Ring) Settle(ctx context.Context, name string) error {
	keys, err := r.named(name)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if ctx.Err() == nil {
			r.warm(ctx, k)
		}
	}
	for _, k := range keys {
		r.mu.RLock()
		wanted := k.wantedLocked()
		r.mu.RUnlock()
		_ = r.awaitTrial(ctx, k, wanted) // what came of it is noted at the key
	}
	return nil
}

func (r *Ring) warm(ctx context.Context, k *key) {
	if k.lock(ctx) != nil {
		return
	}
	defer k.unlock()
	_ = r.usable() // it is what the key answers
	err := r.clean(k)
	if err != nil {
		r.log.Warn("the files of a key can't be cleaned", "key", k.name, "error", err)
	}
	r.mu.Lock()
	k.cleaned = err == nil && r.unusable == nil
	idle := k.spec == nil || len(k.versions) == 0
	r.mu.Unlock()
	if !idle {
		_, _ = r.settleBusy(ctx, k) // it is noted at the key
	}
}

// clean deletes what interrupted writes and revocations left. A whole version
// that the manifest doesn't name is left alone: it never signs, its number isn't
// used again, and deleting credentials for want of an entry would be final.
func (r *Ring) clean(k *key) error {
	numbers, err := r.store.numbers(k.name)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		r.mu.RLock()
		state, listed := k.versions[n]
		usable := r.unusable == nil
		r.mu.RUnlock()
		switch {
		case usable && !listed:
			r.log.Warn("a version isn't in the manifest: its import was interrupted", "key", k.name, "version", n)
		case usable && state == Revoked:
			if err := r.store.remove(k.name, n); err != nil {
				return err
			}
		}
	}
	return nil
}
