package keyring

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// A sealed version opens with the PCRs that it was sealed to, and with no others. So
// that an update of firmware, boot loader or kernel doesn't lock it, it is sealed again:
// before the update also to the values that the PCRs will have, after it to those alone.
//
// It is sealed under the parent in force, which an earlier sealsign's had none of.
//
// What is sealed is the key-encryption key, and it stays the same one: credential and
// metadata stay as they are to the byte. A copy of the file as it was opens as it did.

// Resealed is what came of sealing one version again.
type Resealed struct {
	Key       string
	Version   int
	PCRs      []int // that it is bound to now, ascending; empty: none
	Predicted bool  // it opens with the predicted values too
	Problem   *fault.Error
}

// Reseal seals the stored versions of a key again, or of all keys if name is empty: to
// the PCRs that the config names, as they are now and, with predicted, as they will be;
// PCRs that predicted doesn't name stay as they are. What was predicted before is
// forgotten. A version that can't be sealed again stays as it was, and says why:
// KEY_LOCKED where it doesn't open, KEY_UNSUPPORTED where it isn't a sealed one, which all
// keys together leave out. The error is one of the TPM or the disk, and ends it.
func (r *Ring) Reseal(ctx context.Context, name string, predicted tpm.PCRs) (all []Resealed, err error) {
	keys, err := r.named(name)
	if err != nil {
		return nil, err
	}
	if err := r.usable(); err != nil {
		return nil, err
	}
	device, err := r.tpm()
	if err != nil {
		return nil, err
	}
	to, err := sealTo(ctx, device, predicted)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		some, err := r.resealKey(ctx, device, k, to)
		if name == "" {
			some = slices.DeleteFunc(some, func(one Resealed) bool { return one.Problem != nil && errors.Is(one.Problem, errNotSealed) })
		}
		if all = append(all, some...); err != nil {
			return all, err
		}
	}
	if name != "" && len(all) == 0 {
		r.mu.RLock()
		defer r.mu.RUnlock()
		return nil, keys[0].unusableLocked(keys[0].wantedLocked())
	}
	return all, nil
}

// errNotSealed: no policy of the version's TPM key can be changed.
var errNotSealed = errors.New("not a sealed version")

// sealTo gives the values to seal to: those of now, and of the predicted ones where
// these are others.
func sealTo(ctx context.Context, device *tpm.Device, predicted tpm.PCRs) ([]tpm.PCRs, error) {
	now, err := device.BoundPCRs(ctx)
	if err != nil {
		return nil, err
	}
	later := maps.Clone(now) // nil where nothing is bound: then predicted names none of them
	for _, pcr := range slices.Sorted(maps.Keys(predicted)) {
		if _, bound := now[pcr]; !bound {
			return nil, fault.New(fault.BadRequest, "nothing is bound to PCR %d: tpm.pcrs doesn't name it", pcr).
				WithHint("sealsign doctor --pcr-values prints those that it names")
		}
		later[pcr] = predicted[pcr]
	}
	if maps.Equal(now, later) {
		return []tpm.PCRs{now}, nil
	}
	return []tpm.PCRs{now, later}, nil
}

// resealKey seals the versions of one key again.
func (r *Ring) resealKey(ctx context.Context, device *tpm.Device, k *key, to []tpm.PCRs) (all []Resealed, err error) {
	if err := k.lock(ctx); err != nil {
		return nil, err
	}
	defer k.unlock()
	r.mu.RLock()
	versions := maps.Clone(k.versions)
	locked := k.problem != nil && k.problem.Reason == fault.KeyLocked
	r.mu.RUnlock()
	for _, n := range slices.Sorted(maps.Keys(versions)) {
		if versions[n] == Revoked {
			continue
		}
		one := Resealed{Key: k.name, Version: n}
		f, err := r.reseal(ctx, device, k.name, n, to)
		switch {
		case err == nil:
			one.PCRs, one.Predicted = f.pcrs(), len(f.keks) > 1
		case fault.From(err).Reason.Class() == fault.Unavailable:
			refusal := *fault.From(err)
			refusal.Message = fmt.Sprintf("version %d of key %s was not sealed again: %s", n, k.name, refusal.Message)
			return all, &refusal
		default:
			one.Problem = fault.From(err)
		}
		all = append(all, one)
	}
	if locked { // what a request found before may be so no more
		r.note(k, nil)
		_, _ = r.settleBusy(ctx, k) // it is noted at the key
	}
	return all, nil
}

func (r *Ring) reseal(ctx context.Context, device *tpm.Device, name string, n int, to []tpm.PCRs) (*versionFile, error) {
	f, err := r.readVersion(name, n)
	if err != nil {
		return nil, err
	}
	if f.meta.Protection != Sealed {
		return nil, fault.New(fault.KeyUnsupported, "version %d of key %s is %s: the TPM gives its key no other policy than it was made with", n, name, f.meta.Protection).
			WithHint("only versions with protection = %q are bound to PCRs", Sealed).Because(errNotSealed)
	}
	epoch, err := r.inForce(ctx, device) // before it is opened, so that a revocation meanwhile ends this one
	if err != nil {
		return nil, err
	}
	c, kek, err := f.openBoth(ctx, device) // nothing is sealed again that isn't as it was
	if err != nil {
		return nil, err
	}
	defer kek.Release()
	c.Wipe()
	f.keks = nil
	for _, values := range to {
		once, err := device.SealTo(ctx, epoch.parent, kek.Bytes(), values)
		if err != nil {
			return nil, err
		}
		f.keks = append(f.keks, once)
	}
	return f, r.writeVersion(f)
}

// Binding is how a stored version is bound to PCRs.
type Binding struct {
	Key     string
	Version int
	PCRs    []int        // ascending; empty: none
	Updated bool         // what was predicted has come, and the values before it open it too
	Locked  *fault.Error // KEY_LOCKED, with the PCRs that keep it from opening; nil: none does
}

// Bindings tells how the sealed versions that are stored are bound to PCRs, which have
// these values. What can't be read is left out.
func (r *Ring) Bindings(now tpm.PCRs) (all []Binding) {
	for _, k := range r.sorted() {
		r.mu.RLock()
		versions := maps.Clone(k.versions)
		r.mu.RUnlock()
		for _, n := range slices.Sorted(maps.Keys(versions)) {
			if versions[n] == Revoked {
				continue
			}
			f, err := r.readVersion(k.name, n)
			if err != nil || f.meta.Protection != Sealed {
				continue
			}
			b := Binding{Key: k.name, Version: n, PCRs: f.pcrs()}
			at, moved := f.match(now)
			if moved != nil {
				b.Locked = f.locked(moved)
			}
			b.Updated = moved == nil && at > 0
			all = append(all, b)
		}
	}
	return all
}

// pcrs are those that the file is bound to, ascending.
func (f *versionFile) pcrs() (all []int) {
	for _, kek := range f.keks {
		all = append(all, kek.PCRs()...)
	}
	return slices.Compact(slices.Sorted(slices.Values(all)))
}

// match finds the seal that opens with these values. Where none does, moved are the
// PCRs that keep the nearest one from it.
func (f *versionFile) match(now tpm.PCRs) (at int, moved []int) {
	for i, kek := range f.keks {
		m := kek.Moved(now)
		if m == nil {
			return i, nil
		}
		if i == 0 || len(m) < len(moved) {
			at, moved = i, m
		}
	}
	return at, moved
}

// locked says which PCRs keep the version from opening, and the way out. There is no
// other than an import: while the version is locked nothing can prove that a credential
// is the one in it, nor what venue and hosts that was for.
func (f *versionFile) locked(moved []int) *fault.Error {
	again := "sealsign key import " + f.meta.Name
	if _, err := os.Stat(f.offline); err == nil {
		again = fmt.Sprintf("sudo age -d -i KEY_FILE %s | sudo %s", f.offline, again)
	}
	return fault.New(fault.KeyLocked, "version %d of key %s was sealed to other values of %s", f.meta.Version, f.meta.Name, tpm.PCRNames(moved)).
		WithHint("if the change was yours (firmware, boot loader, kernel), import the credential again: %s", again)
}

// encryptAgain encrypts the credential with the metadata as it is now, under the key
// that it was encrypted under.
func (f *versionFile) encryptAgain(c *credential.Credential, kek []byte) error {
	raw, err := f.meta.encode()
	if err != nil {
		return err
	}
	sealed, err := c.SealUnder(kek, raw)
	if err != nil {
		return err
	}
	f.sealed = sealedPart{Format: stateFormat, Metadata: raw, Sealed: *sealed}
	return nil
}
