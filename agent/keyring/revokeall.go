package keyring

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sealsign/sealsign/internal/fault"
)

// RevokeAll ends every version of every key for good, and has the TPM refuse what was
// sealed until now: a copy of the state folder opens nothing on this host any more, for
// root neither. Like Revoke it is in force when it returns, whatever it returns. With
// TPM_UNAVAILABLE the TPM refuses later: it is told as soon as it is there. Outside are
// versions ("main 1") that an earlier sealsign sealed, which the TPM opens still.
func (r *Ring) RevokeAll(ctx context.Context) (outside []string, err error) {
	r.revokeAll()
	_ = r.save() // what it can't write, the stops hold
	saved := r.persist("revoked", "could sign again", "")
	ended := r.finishEpoch(ctx)
	outside, removed := r.removeAll()
	if saved != nil { // the files that are gone may have made the room that the disk lacked
		_ = r.save()
		saved = r.persist("revoked", "could sign again", "")
	}
	if ended != nil {
		why := fault.From(ended)
		ended = fault.New(why.Reason, "every version of every key is revoked, and the TPM has not ended the host epoch: %s", why.Message).
			WithHint("%s", errEnding().Hint).Because(ended)
	}
	return outside, errors.Join(saved, ended, removed)
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
