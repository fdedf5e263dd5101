package keyring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sealsign/sealsign/internal/fault"
)

// RevokeAll ends every version of every key for good, and has the TPM refuse what was
// sealed until now: a copy of the state folder opens nothing on this host any more, for
// root neither. Like Revoke it is in force when it returns, whatever it returns. With
// TPM_UNAVAILABLE the TPM refuses later: it is told as soon as it is there. Outside are
// versions ("main 1") that an earlier sealsign sealed, which the TPM opens still.
// STORE_UNTRUSTED: what there is was revoked, and nobody knows what there was.
func (r *Ring) RevokeAll(ctx context.Context) (outside []string, err error) {
	r.revokeAll()
	_ = r.save() // what it can't write, the stops hold
	saved := r.persist("revoked", "could sign again", "")
	ended, untrusted := r.end(ctx)
	var removed error
	if ended == nil || untrusted == nil { // else there is nothing else to find the epoch in
		outside, removed = r.removeAll()
	}
	if saved != nil { // the files that are gone may have made the room that the disk lacked
		_ = r.save()
		saved = r.persist("revoked", "could sign again", "")
	}
	if ended != nil {
		why := fault.From(ended)
		ended = fault.New(why.Reason, "every version of every key is revoked, and the TPM has not ended the host epoch: %s", why.Message).
			WithHint("%s", errEnding().Hint).Because(ended)
	}
	err = errors.Join(untrusted, saved, ended, removed)
	if err != nil && len(outside) > 0 { // whose files are gone: it can't be told again
		refusal := *fault.From(err)
		refusal.Message += "; delete the API keys of these at the venues, which an earlier sealsign sealed: " + strings.Join(outside, ", ")
		err = refusal.Because(err)
	}
	return outside, err
}

// end has the TPM end the epoch. A manifest that isn't to be trusted may name another
// one, or none: then those are ended that the version files hang on.
func (r *Ring) end(ctx context.Context) (ended, untrusted error) {
	ended, unproved := r.finishEpoch(ctx), r.Proved()
	if !errors.Is(unproved, fault.StoreUntrusted) {
		return cmp.Or(ended, unproved), nil
	}
	untrusted = fault.New(fault.StoreUntrusted, "what is known of the keys is revoked, and copies of others may open: %s", fault.From(unproved).Message).
		WithHint("delete every key at its venue, and find out who changed the state folder; then: sealsign store recover").Because(unproved)
	found, err := r.versionsFound()
	if err != nil {
		return errors.Join(ended, err), untrusted
	}
	device, err := r.tpm()
	if err != nil {
		return errors.Join(ended, err), untrusted
	}
	parents, err := r.parentsOf(found)
	for _, e := range parents {
		ended = errors.Join(ended, device.EndEpoch(ctx, e.parent))
	}
	return errors.Join(ended, err), untrusted
}

// revokeAll puts the revocation in force in memory.
func (r *Ring) revokeAll() {
	r.mu.Lock()
	r.endLocked()
	var ends []ending
	for _, k := range r.keys {
		if len(k.versions) == 0 {
			continue
		}
		for n := range k.versions {
			k.versions[n] = Revoked
		}
		k.problem = nil
		gone := append(k.unloadLocked(0), k.dropTrialLocked()...)
		ends = append(ends, ending{gone, fault.From(k.unusableLocked(slices.Max(slices.Collect(maps.Keys(k.versions)))))})
	}
	r.mu.Unlock()
	for _, e := range ends {
		endAll(e.versions, e.why)
	}
}

// removeAll deletes the files of what is revoked, and tells which of them the TPM opens
// still. A key whose files can't be deleted stops no other.
func (r *Ring) removeAll() (outside []string, err error) {
	for _, k := range r.sorted() {
		numbers, listed := r.store.numbers(k.name)
		for _, n := range numbers {
			if f, err := r.readVersion(k.name, n); err == nil && f.parent() == nil {
				outside = append(outside, fmt.Sprintf("%s %d", k.name, n))
			}
		}
		err = errors.Join(err, listed, r.removeFiles(k, nil, true))
	}
	return outside, err
}
