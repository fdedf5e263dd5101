package keyring

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"

	"github.com/sealsign/sealsign/internal/fault"
)

// Recovered is what `store recover` made of one key: the versions that are
// pending now, and those that stay revoked.
type Recovered struct {
	Name             string
	Pending, Revoked []int
}

// Recover accepts a state folder that isn't the newest of this host's: one from a
// backup, or one whose TPM was cleared or replaced. Nobody knows which of its
// versions were revoked since, so all of them become pending, and sign only once
// the config names them, and importers are to be enrolled again; what it says is
// revoked stays so. It refuses where there is nothing to recover, where a newer
// sealsign wrote the state, with STORE_UNAVAILABLE where the disk doesn't take it, and
// TPM_UNAVAILABLE. What another TPM sealed can't be opened any more, and is to be
// imported again.
func (r *Ring) Recover(ctx context.Context) ([]Recovered, error) {
	switch err := r.usable(); {
	case err == nil:
		return nil, fault.New(fault.BadRequest, "the store is in order: there is nothing to recover").
			WithHint("sealsign status")
	case !errors.Is(err, fault.StoreUntrusted) || errors.Is(err, errNewer):
		return nil, err
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	r.reading.Lock()
	defer r.reading.Unlock()
	device, err := r.tpm()
	if err != nil {
		return nil, err
	}
	found, err := r.versionsFound()
	if err != nil {
		return nil, err
	}
	if err := r.adoptEpoch(ctx, device, found); err != nil {
		return nil, err
	}
	if err := r.beginStore(ctx, device, nil); err != nil {
		return nil, err
	}
	recovered := r.takeOver(found)
	if err := r.writeManifest(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unusable = nil
	return recovered, nil
}

// versionsFound is every version that has a file, or that the manifest names,
// proved or not.
func (r *Ring) versionsFound() (map[string]map[int]State, error) {
	found := make(map[string]map[int]State)
	if m, _, err := r.store.readManifest(); err == nil && m != nil {
		found = m.Keys
	}
	folders, err := os.ReadDir(r.store.keys())
	if err != nil {
		return nil, storeFault("listing keys", err)
	}
	for _, folder := range folders {
		name := folder.Name()
		if checkName(name) != nil {
			continue
		}
		numbers, err := r.store.numbers(name)
		if err != nil {
			return nil, err
		}
		if found[name] == nil {
			found[name] = make(map[int]State)
		}
		for _, n := range numbers {
			if found[name][n] == "" {
				found[name][n] = unchosen
			}
		}
	}
	return found, nil
}

// takeOver makes what was found what memory says.
func (r *Ring) takeOver(found map[string]map[int]State) (recovered []Recovered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, versions := range found {
		k := r.keyLocked(name)
		for n, state := range versions {
			switch {
			case k.versions[n] == Revoked:
				versions[n] = Revoked
			case state != Revoked && state != unregistered:
				versions[n] = unchosen
			}
		}
		k.versions, k.problem = versions, nil
	}
	r.importers = nil // nobody knows who enrolled them
	r.written = nil   // the anchor is another one
	for _, name := range slices.Sorted(maps.Keys(found)) {
		one := Recovered{Name: name}
		for _, n := range slices.Sorted(maps.Keys(found[name])) {
			if found[name][n] == Revoked {
				one.Revoked = append(one.Revoked, n)
			} else {
				one.Pending = append(one.Pending, n)
			}
		}
		recovered = append(recovered, one)
	}
	return recovered
}
