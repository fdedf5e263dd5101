package keyring

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/sealsign/sealsign/internal/fault"
)

// Suspend keeps a key from signing, or all keys if name is empty; with cancels,
// requests that only cancel still pass. It needs no TPM. Nothing signs once it has
// returned, even when it returns STORE_UNAVAILABLE: then the suspension doesn't
// outlive a restart yet, and is written as soon as the disk allows. What is loaded is wiped. A
// suspension is never loosened to a cancel-only one.
func (r *Ring) Suspend(name string, cancels bool) error {
	keys, err := r.named(name)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if cancels {
			k.hold.CompareAndSwap(int32(running), int32(cancelOnly))
		} else {
			k.hold.Store(int32(suspended))
		}
	}
	if !cancels {
		for _, k := range keys {
			r.unload(k, fault.From(k.held(false)))
		}
	}
	return r.persist("suspended", "would sign again", name)
}

// Resume lets a key sign again, or all keys if name is empty, once that is written.
func (r *Ring) Resume(name string) error {
	keys, err := r.named(name)
	if err != nil {
		return err
	}
	if err := r.saveStops(keys...); err != nil {
		return err
	}
	for _, k := range keys {
		k.hold.Store(int32(running))
		r.live(k.name)
	}
	return r.saveStops() // a suspension that came meanwhile isn't in the file any more
}

// Revoke ends a version for good, or all there are if n is 0, and deletes its
// file. Like Suspend it is in force when it returns, whatever it returns.
func (r *Ring) Revoke(name string, n int) error {
	keys, err := r.named(name)
	if err != nil {
		return err
	}
	k := keys[0]
	revoked, err := r.revoke(k, n)
	if err != nil {
		return err
	}
	_ = r.saveStops() // at once: the manifest may wait for the TPM
	_ = r.save()      // what it can't write, the stops hold
	saved := r.persist("revoked", "could sign again", name)
	// The file goes even if the manifest couldn't be written, since a version
	// without one can't sign either. It may make the room that the disk lacked.
	if err := r.removeFiles(k, revoked, n == 0); err != nil {
		return errors.Join(saved, err)
	}
	if saved != nil {
		_ = r.save()
		saved = r.persist("revoked", "could sign again", name)
	}
	return saved
}

// revoke puts a revocation in force and tells which versions it is of.
func (r *Ring) revoke(k *key, n int) (revoked []int, err error) {
	r.mu.Lock()
	if len(k.versions) == 0 || n != 0 && k.versions[n] == "" {
		defer r.mu.Unlock()
		if r.written == nil && r.unusable != nil { // nobody knows what there is
			return nil, r.unusable
		}
		return nil, k.unusableLocked(n)
	}
	for number := range k.versions {
		if n == 0 || number == n {
			k.versions[number] = Revoked
			revoked = append(revoked, number)
		}
	}
	k.problem = nil
	why := fault.From(k.unusableLocked(revoked[0]))
	gone := k.unloadLocked(n)
	r.mu.Unlock()
	endAll(gone, why)
	return revoked, nil
}

// removeFiles deletes the files of what is revoked; all, also those that interrupted
// imports left, if everything was. An import that came meanwhile keeps its own.
func (r *Ring) removeFiles(k *key, numbers []int, all bool) error {
	_ = k.lock(context.Background()) // who has the key now ends within the TPM's deadlines
	defer k.unlock()
	if all {
		onDisk, err := r.store.numbers(k.name)
		if err != nil {
			return err
		}
		r.mu.RLock()
		numbers = slices.DeleteFunc(onDisk, func(n int) bool { return k.versions[n] != Revoked && k.versions[n] != "" })
		r.mu.RUnlock()
	}
	for _, n := range numbers {
		if err := r.store.remove(k.name, n); err != nil {
			return err
		}
	}
	return nil
}

// Rebind accepts the config's hosts, CA and template for the versions that were sealed
// with others. It fails where the wanted version can't be rebound: another venue,
// environment, algorithm, secret encoding or protection needs another import.
func (r *Ring) Rebind(ctx context.Context, name string) error {
	c, err := r.change(ctx, name)
	if err != nil {
		return err
	}
	defer c.key.unlock()
	r.mu.RLock()
	wanted, versions := c.key.wantedLocked(), maps.Clone(c.key.versions)
	err = c.key.unusableLocked(wanted)
	r.mu.RUnlock()
	for _, n := range slices.Sorted(maps.Keys(versions)) {
		if versions[n] == Revoked {
			continue
		}
		failed := c.rebind(ctx, n)
		if failed == nil {
			continue
		}
		r.log.Warn("a version can't be rebound", "key", name, "version", n, "error", failed)
		if n == wanted {
			err = failed
		}
	}
	if err != nil || c.key.held(true) != nil {
		return err
	}
	r.mu.Lock()
	c.key.problem = nil
	superseded := c.key.dropTrialLocked() // what the venue refused may be mended there
	r.mu.Unlock()
	endAll(superseded, errSuperseded())
	if _, err = r.settleBusy(ctx, c.key); errors.Is(err, errTrying) {
		return nil
	}
	return err
}

// rebind encrypts one version anew, with the config's metadata, under the same key: what
// PCRs open it, predicted ones too, stays as it is.
func (c *change) rebind(ctx context.Context, n int) error {
	f, err := c.ring.readVersion(c.key.name, n)
	if err != nil {
		return err
	}
	if f.meta.bound(c.spec) == nil {
		return nil
	}
	kept, kek, err := f.openBoth(ctx, c.device)
	if err != nil {
		return err
	}
	defer kek.Release()
	defer kept.Wipe()
	if err := f.meta.reimport(c.spec); err != nil {
		return err
	}
	f.meta.bind(c.spec)
	if err := f.encryptAgain(kept, kek.Bytes()); err != nil {
		return err
	}
	if err := c.ring.writeVersion(f); err != nil {
		return err
	}
	c.ring.mu.Lock()
	defer c.ring.mu.Unlock()
	c.key.metas[n] = &f.meta
	return nil
}

// named finds a key that the config or the manifest has, or all.
func (r *Ring) named(name string) ([]*key, error) {
	if name == "" {
		return r.sorted(), nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if k := r.keys[name]; k != nil {
		return []*key{k}, nil
	}
	return nil, errUnknown(name)
}

// sorted is all keys by name.
func (r *Ring) sorted() []*key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.SortedFunc(maps.Values(r.keys), func(a, b *key) int { return strings.Compare(a.name, b.name) })
}

// unload ends all versions that are loaded.
func (r *Ring) unload(k *key, why *fault.Error) {
	r.mu.Lock()
	gone := k.unloadLocked(0)
	r.mu.Unlock()
	endAll(gone, why)
}

// persist writes what is in force already.
func (r *Ring) persist(done, after, name string) error {
	err := r.saveStops()
	if err == nil {
		return nil
	}
	what := "key " + name
	if name == "" {
		what = "every key"
	}
	return fault.New(fault.StoreUnavailable, "%s is %s now, and after a restart it %s: the disk did not take it", what, done, after).
		WithHint("it is tried again every few seconds; until it is written, don't restart the daemon").Because(err)
}
