package keyring

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// State is where a version is in its life.
type State string

// The states of a version. All but Revoked can become Active.
const (
	Pending State = "pending" // imported, has not signed
	Active  State = "active"  // the one that signs
	Retired State = "retired" // has signed; an edit of "version" brings it back
	Revoked State = "revoked" // for good; its file is deleted

	// unregistered: generated, and waiting for the API key that the venue gives
	// for its public key. Shown as pending.
	unregistered State = "unregistered"
)

// hold is what keeps a whole key from signing.
type hold int32

const (
	running hold = iota
	cancelOnly
	suspended
)

var holdNames = []string{running: "", cancelOnly: "cancel-only", suspended: "suspended"}

func (h hold) MarshalText() ([]byte, error) { return []byte(holdNames[h]), nil }

func (h *hold) UnmarshalText(text []byte) error {
	for i, name := range holdNames {
		if name == string(text) {
			*h = hold(i)
			return nil
		}
	}
	return fmt.Errorf("there is no state %q of a key", text)
}

// manifest says which versions there are and which one signs. A version file that
// it doesn't name is none: an import that was interrupted left it.
type manifest struct {
	Format int                `json:"format"`
	Keys   map[string]*record `json:"keys"`
}

// record is one key of the manifest.
type record struct {
	State    hold          `json:"state,omitempty"`
	Versions map[int]State `json:"versions"`
}

func (m *manifest) check() error {
	for name, r := range m.Keys {
		if err := checkName(name); err != nil || r == nil {
			return errors.New("it names a key that can't be")
		}
		active := 0
		for n, state := range r.Versions {
			switch state {
			case Active:
				active++
			case Pending, Retired, Revoked, unregistered:
			default:
				return fmt.Errorf("version %d of key %s has a state that can't be", n, name)
			}
			if n < 1 || active > 1 {
				return fmt.Errorf("the versions of key %s can't be", name)
			}
		}
	}
	return nil
}

// readManifest reads the manifest, or begins it in an empty store.
func (s *store) readManifest() (*manifest, error) {
	data, err := s.read(s.manifest(), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return s.firstManifest()
	}
	if err != nil {
		return nil, storeFault("reading the manifest", err)
	}
	m := new(manifest)
	if err := decodeState(data, m); err != nil {
		return nil, s.manifestDamaged(err)
	}
	if err := m.check(); err != nil {
		return nil, s.manifestDamaged(err)
	}
	return m, nil
}

// firstManifest refuses to begin where there are keys: without the manifest
// nobody knows which of them were revoked.
func (s *store) firstManifest() (*manifest, error) {
	entries, err := os.ReadDir(s.keys())
	if err != nil {
		return nil, storeFault("listing keys", err)
	}
	if len(entries) > 0 {
		return nil, s.manifestDamaged(errors.New("it is missing, and there are keys"))
	}
	m := &manifest{Format: stateFormat, Keys: map[string]*record{}}
	return m, s.writeManifest(m)
}

func (s *store) writeManifest(m *manifest) error {
	data, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return fault.New(fault.InternalError, "the manifest can't be written").Because(err)
	}
	return s.write(s.manifest(), append(data, '\n'))
}

func (s *store) manifestDamaged(why error) error {
	return fault.New(fault.KeyDamaged, "the manifest of the keys can't be used: %v", why).
		WithHint("bring %s back from a backup of this host", s.manifest()).
		Because(why)
}

// retrySave is how long a manifest that couldn't be written waits.
const retrySave = 5 * time.Second

// save writes the manifest as it is in memory. After a failure it is tried again
// until the disk takes it, so that what is in force outlives a restart.
func (r *Ring) save() error {
	r.saving.Lock()
	defer r.saving.Unlock()
	err := r.usable()
	if err == nil {
		err = r.store.writeManifest(r.snapshot())
	}
	if err != nil {
		r.saveLater()
	}
	return err
}

func (r *Ring) saveLater() {
	if !r.unsaved.CompareAndSwap(false, true) {
		return
	}
	time.AfterFunc(retrySave, func() {
		if r.ctx.Err() != nil || !r.unsaved.CompareAndSwap(true, false) {
			return
		}
		if err := r.save(); err != nil {
			r.log.Error("the manifest of the keys isn't written yet", "error", err)
		}
	})
}

// snapshot is the manifest that memory stands for.
func (r *Ring) snapshot() *manifest {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m := &manifest{Format: stateFormat, Keys: make(map[string]*record, len(r.keys))}
	for name, k := range r.keys {
		state := hold(k.hold.Load())
		if len(k.versions) == 0 && state == running {
			continue
		}
		m.Keys[name] = &record{State: state, Versions: maps.Clone(k.versions)}
	}
	return m
}
