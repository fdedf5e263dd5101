package keyring

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// key is one name with its versions.
type key struct {
	name string
	// hold is what Suspend sets, before anything else, and what each signature reads.
	hold atomic.Int32
	// live is the loaded version that signs; nil: none is loaded.
	live atomic.Pointer[version]
	// busy has one place: for who imports, loads, switches or rewrites versions.
	busy chan struct{}
	aging

	// The rest is guarded by Ring.mu.

	spec     *Spec // replaced whole; nil: the config doesn't name the key
	versions map[int]State
	cleaned  bool              // nothing is left of interrupted writes
	loaded   []*version        // the live one, and those before it that end soon
	metas    map[int]*metadata // what is known of the files, for listing
	ended    bool              // it was told that the key has expired
	problem  *fault.Error      // why the wanted version isn't live
	failedAt time.Time         // when that was found
	trial    *trial            // of the wanted version with its venue
	rights   map[int]*Rights   // by version; nil: not read from the disk yet
	unread   *fault.Error      // why those of the live version aren't known
}

func newKey(name string, now func() time.Time) *key {
	return &key{name: name, aging: aging{time: now}, busy: make(chan struct{}, 1), versions: map[int]State{}, metas: map[int]*metadata{}}
}

// lock takes the key's place for changes.
func (k *key) lock(ctx context.Context) error {
	select {
	case k.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fault.New(fault.AgentUnavailable, "key %s is busy loading or importing", k.name).Because(ctx.Err())
	}
}

func (k *key) unlock() { <-k.busy }

// held refuses while the key is suspended, and once it has expired. A cancel passes a
// cancel-only suspension.
func (k *key) held(cancel bool) error {
	switch h := hold(k.hold.Load()); {
	case h == suspended:
		return fault.New(fault.KeySuspended, "key %s is suspended", k.name).WithHint("sealsign key resume %s", k.name)
	case h == cancelOnly && !cancel:
		return fault.New(fault.KeySuspended, "key %s is suspended for all but cancels", k.name).WithHint("sealsign key resume %s", k.name)
	}
	return k.expired()
}

// activeLocked is the version that the manifest says signs; 0: none.
func (k *key) activeLocked() int {
	for n, state := range k.versions {
		if state == Active {
			return n
		}
	}
	return 0
}

// wantedLocked is the version that the config asks for: the one it names, or the
// newest that an operator imported. A revoked one counts as long as none is
// active: revoking the newest must not bring back the one before it. Where versions
// wait for the config to name one, that is what is to be done, and not a new import: 0.
func (k *key) wantedLocked() int {
	if k.spec != nil && k.spec.Version != 0 {
		return k.spec.Version
	}
	active := k.activeLocked()
	newest := active
	for n, state := range k.versions {
		if n > newest && state != unregistered && state != unchosen && (state != Revoked || active == 0) {
			newest = n
		}
	}
	if k.versions[newest] == Revoked && k.choiceLocked() {
		return 0
	}
	return newest
}

// choiceLocked tells whether there are versions that sign once the config names one.
func (k *key) choiceLocked() bool {
	return slices.Contains(slices.Collect(maps.Values(k.versions)), unchosen)
}

// unusableLocked says why version n can't become live, as far as the manifest knows.
func (k *key) unusableLocked(n int) error {
	verb := "import"
	if k.spec != nil && k.spec.Protection == Generated {
		verb = "generate"
	}
	switch state, listed := k.versions[n]; {
	case len(k.versions) == 0:
		return fault.New(fault.KeyEmpty, "key %s has no version yet", k.name).WithHint("sealsign key %s %s", verb, k.name)
	case n == 0 && k.choiceLocked():
		return fault.New(fault.KeyPending, "key %s has only versions that sign once the config names one", k.name).
			WithHint("sealsign key show %s lists them; set version under [keys.%s]", k.name, k.name)
	case state == unregistered || n == 0: // every version there is waits for its API key
		return fault.New(fault.KeyPending, "key %s was generated, and has no API key yet", k.name).
			WithHint("register the public key (sealsign key public %s) at the venue, then give its API key: sealsign key import %s", k.name, k.name)
	case !listed:
		return fault.New(fault.KeyEmpty, "version %d of key %s has not been imported", n, k.name).WithHint("sealsign key %s %s", verb, k.name)
	case state == Revoked:
		return fault.New(fault.KeyRevoked, "version %d of key %s is revoked", n, k.name).
			WithHint("import a new one: sealsign key %s %s; or name another version in the config", verb, k.name)
	}
	return nil
}
