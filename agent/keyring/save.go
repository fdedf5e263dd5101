package keyring

import (
	"context"
	"errors"
	"maps"
	"syscall"
	"time"

	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

const (
	// retrySave is how long what couldn't be written waits.
	retrySave = 5 * time.Second
	// followWithin is how long the TPM may take to follow what was written. What it
	// didn't do by then is tried again, with a look first at what it did.
	followWithin = 5 * time.Second
)

// readState takes over what the disk says, unproved: it can be listed, and stopped,
// and not yet sign.
func (r *Ring) readState() (*manifest, *manifestFile, error) {
	m, file, err := r.store.readManifest()
	if err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m != nil {
		for name, versions := range m.Keys {
			k := r.keyLocked(name)
			before := k.versions
			k.versions = maps.Clone(versions)
			for n, state := range before { // revoked before the manifest could be proved
				if state == Revoked && k.versions[n] != "" {
					k.versions[n] = Revoked
				}
			}
		}
		ended := r.epoch.ended() // before the manifest could be proved
		importers := maps.Clone(m.Importers)
		if r.written != nil { // likewise
			maps.DeleteFunc(importers, func(name string, _ Importer) bool { _, kept := r.importers[name]; return !kept })
		}
		r.importers, r.taken, r.epoch = importers, maps.Clone(m.Taken), m.Epoch
		if r.epoch != nil && r.epoch.parent.Epoch() == ended {
			r.endLocked()
		}
		r.written = m
	}
	r.takeStopsLocked()
	return m, file, nil
}

// usable is nil once the manifest is proved to be the newest, or says why it isn't;
// that is looked at again from time to time. Until then nothing signs, and the
// manifest stays as it is.
func (r *Ring) usable() error {
	r.reading.Lock()
	defer r.reading.Unlock()
	if r.ctx.Err() != nil {
		return errStopping()
	}
	r.mu.RLock()
	err, triedAt := r.unusable, r.triedAt
	r.mu.RUnlock()
	if err == nil || !triedAt.IsZero() && r.now().Sub(triedAt).Abs() < retryLoad {
		return err
	}
	before := err
	err = r.prove(r.ctx)
	r.mu.Lock()
	r.unusable, r.triedAt = err, r.now()
	r.mu.Unlock()
	if err != nil && err.Error() != before.Error() {
		r.log.Error("no key can sign", event.Key, event.StoreUnusable, "error", err)
	}
	return err
}

// prove makes sure, with the TPM, that the manifest on disk is the newest, and
// begins one in an empty store.
func (r *Ring) prove(ctx context.Context) error {
	m, file, err := r.readState()
	if err != nil {
		return err
	}
	device, err := r.tpm()
	if err != nil {
		return err
	}
	f, err := r.store.readAnchor()
	if err != nil {
		return err
	}
	if f == nil && m != nil {
		return untrusted(errors.New("anchor.json is missing"))
	}
	if m == nil {
		err = r.beginStore(ctx, device, f)
	} else {
		err = r.proveNewest(ctx, device, f, m, file)
	}
	if err != nil {
		return err
	}
	return r.writeManifest(ctx)
}

func (r *Ring) proveNewest(ctx context.Context, device *tpm.Device, f *anchorFile, m *manifest, file *manifestFile) error {
	a, err := f.open(ctx, device)
	if err != nil {
		return err
	}
	if err := a.verify(ctx, device, m, file); err != nil {
		a.wipe()
		return err
	}
	r.tie(a, m.Number, m)
	return nil
}

// tie makes the anchor that the manifest is written with from now on. A try that failed
// after it may have left another.
func (r *Ring) tie(a *anchor, number uint64, tried *manifest) {
	if r.anchor != nil {
		r.anchor.wipe()
	}
	r.anchor, r.number, r.tried = a, number, tried
}

// beginStore makes the anchor of a manifest that has yet to be written: the one that
// an interrupted start left, or a new one where that is nil, or where another instance
// of this host has defined its NV index first.
func (r *Ring) beginStore(ctx context.Context, device *tpm.Device, left *anchorFile) error {
	if left != nil {
		err := r.beginAt(ctx, device, left)
		if err == nil || fault.From(err).Reason != fault.KeyDamaged {
			return err
		}
	}
	f, err := r.store.newAnchor(ctx, device)
	if err != nil {
		return err
	}
	return r.beginAt(ctx, device, f)
}

func (r *Ring) beginAt(ctx context.Context, device *tpm.Device, f *anchorFile) error {
	a, err := f.open(ctx, device)
	if err != nil {
		return err
	}
	counter, err := a.begin(ctx, device)
	if err != nil {
		a.wipe()
		return err
	}
	r.tie(a, counter-1, nil)
	return nil
}

// save writes the manifest as it is in memory. After a failure it is tried again
// until the disk takes it, so that what is in force outlives a restart.
func (r *Ring) save() error {
	r.saving.Lock()
	defer r.saving.Unlock()
	err := r.usable()
	if err == nil {
		err = r.writeManifest(r.ctx)
	}
	if err != nil {
		r.saveLater()
	}
	return err
}

// writeManifest writes what has changed, and has the TPM follow. A TPM that is gone
// doesn't undo what is on disk: it follows when it is back.
func (r *Ring) writeManifest(ctx context.Context) error {
	m := r.snapshot()
	if !m.same(r.written) {
		if !m.same(r.tried) { // a number is never given to two contents
			r.number++
		}
		m.Number, r.tried = r.number, m
		err := r.store.writeManifest(m, r.anchor)
		r.mu.Lock()
		r.written = m
		if err != nil { // which of two is on disk isn't known
			r.written = nil
		}
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	if err := r.follow(ctx); err != nil {
		r.log.Warn("the TPM hasn't counted the newest manifest yet, so that the one before could be put back", "error", err)
		r.saveLater()
		return nil
	}
	if err := r.finishEpoch(ctx); err != nil {
		r.log.Warn("the TPM hasn't ended the host epoch yet, so that what is revoked opens from a copy", "error", err)
	}
	return nil
}

// follow has the TPM's counter follow the manifest that is on disk.
func (r *Ring) follow(ctx context.Context) error {
	if r.followed.Load() == r.number {
		return nil
	}
	device, err := r.tpm()
	if err == nil {
		err = r.anchor.follow(ctx, device, r.number)
	}
	if err == nil {
		r.followed.Store(r.number)
	}
	return err
}

// saveStops writes what takes rights away, where that has changed, as it will be when
// the keys given are resumed. It waits for no TPM.
func (r *Ring) saveStops(resumed ...*key) error {
	r.holding.Lock()
	defer r.holding.Unlock()
	r.mu.RLock()
	all := r.stopsLocked()
	r.mu.RUnlock()
	for _, k := range resumed {
		delete(all.Keys, k.name)
	}
	if all.same(r.stopped) {
		return nil
	}
	r.stopped = nil
	err := r.store.writeStops(all)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		r.room()
		err = r.store.writeStops(all)
	}
	if err != nil {
		r.saveLater()
		return err
	}
	r.stopped = all
	return nil
}

// saveLater tries all that is unsaved again in a while.
func (r *Ring) saveLater() {
	if !r.unsaved.CompareAndSwap(false, true) {
		return
	}
	time.AfterFunc(retrySave, func() {
		if r.ctx.Err() != nil || !r.unsaved.CompareAndSwap(true, false) {
			return
		}
		if err := errors.Join(r.save(), r.saveStops(), r.finishEpoch(r.ctx)); err != nil {
			r.log.Error("the state of the keys isn't written yet", "error", err)
		}
	})
}

// snapshot is the manifest that memory stands for.
func (r *Ring) snapshot() *manifest {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m := &manifest{
		Format: stateFormat, Keys: make(map[string]map[int]State, len(r.keys)), Importers: maps.Clone(r.importers), Taken: maps.Clone(r.taken),
		Epoch: r.epoch,
	}
	for name, k := range r.keys {
		if len(k.versions) > 0 {
			m.Keys[name] = maps.Clone(k.versions)
		}
	}
	return m
}

// Proved is nil when the store is known to be the newest of this host, or says why
// it isn't.
func (r *Ring) Proved() error { return r.usable() }

// Anchored is nil when an older copy of the store can't take the place of this one,
// or says why it still can.
func (r *Ring) Anchored() error {
	if err := r.usable(); err != nil {
		return err
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	if r.followed.Load() != r.number {
		return fault.New(fault.TPMUnavailable, "the TPM has not counted the newest change of the keys yet").
			WithHint("it is tried again every few seconds; until then keep others from the state folder")
	}
	return r.Ended()
}

// Ended is nil unless the TPM is yet to refuse what RevokeAll revoked.
func (r *Ring) Ended() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.endingLocked() {
		return errEnding()
	}
	return nil
}

// Still runs do while nothing of the store is written but version files that nothing
// names yet.
func (r *Ring) Still(do func() error) error {
	r.saving.Lock()
	defer r.saving.Unlock()
	r.holding.Lock()
	defer r.holding.Unlock()
	return do()
}
