package keyring

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"

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
	// unchosen: it signs only once the config names it, be it the newest or not,
	// since no operator of this host has vouched for it: `store recover` found it, or
	// it came by the inbox. Shown as pending.
	unchosen State = "unchosen"
)

// shown is the state that an operator sees.
func (s State) shown() State {
	if s == unregistered || s == unchosen {
		return Pending
	}
	return s
}

// manifest says which versions there are and which one signs. A version file that
// it doesn't name is none: an import that was interrupted left it.
type manifest struct {
	Format int `json:"format"`
	// Number is another one for each content, and rises: see anchor.
	Number uint64                   `json:"number"`
	Keys   map[string]map[int]State `json:"keys"`
	// Importers may sign wrapped credentials, and Taken is the newest one of each key.
	Importers map[string]Importer `json:"importers,omitempty"`
	Taken     map[string]taken    `json:"taken,omitempty"`
	Epoch     *hostEpoch          `json:"epoch,omitempty"` // nil: nothing was made under a parent yet
}

// manifestFile is the manifest as it is on disk, with the MAC of its very bytes.
type manifestFile struct {
	Format   int             `json:"format"`
	Manifest json.RawMessage `json:"manifest"`
	MAC      []byte          `json:"mac"`
}

// same tells whether two manifests say the same, whatever their numbers.
func (m *manifest) same(other *manifest) bool {
	return other != nil && reflect.DeepEqual(m.Keys, other.Keys) && maps.Equal(m.Importers, other.Importers) &&
		maps.Equal(m.Taken, other.Taken) && m.Epoch.same(other.Epoch)
}

// revoked tells whether the manifest, which may be nil, has the version as revoked.
func (m *manifest) revoked(name string, n int) bool {
	return m != nil && m.Keys[name][n] == Revoked
}

// ended is the epoch that the manifest, which may be nil, has as ended; else 0.
func (m *manifest) ended() uint64 {
	if m == nil {
		return 0
	}
	return m.Epoch.ended()
}

func (m *manifest) check() error {
	if err := m.Epoch.check(); err != nil {
		return err
	}
	for name, i := range m.Importers {
		if _, err := i.key(); err != nil || checkName(name) != nil {
			return errors.New("it names an importer that can't be")
		}
	}
	for name, versions := range m.Keys {
		if err := checkName(name); err != nil {
			return errors.New("it names a key that can't be")
		}
		active := 0
		for n, state := range versions {
			switch state {
			case Active:
				active++
			case Pending, Retired, Revoked, unregistered, unchosen:
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

// parseManifest reads what writeManifest writes. What it gives is not proved:
// anchor.verify proves the file.
func parseManifest(data []byte) (*manifest, *manifestFile, error) {
	file, m := new(manifestFile), new(manifest)
	if err := decodeState(data, file); err != nil {
		return nil, nil, err
	}
	if err := decodeState(file.Manifest, m); err != nil {
		return nil, nil, err
	}
	return m, file, m.check()
}

// readManifest reads the manifest. A store that has none yet, and no keys, gives
// nil: it is to be begun. Where there are keys that is refused, since without the
// manifest nobody knows which of them were revoked.
func (s *store) readManifest() (*manifest, *manifestFile, error) {
	data, err := s.read(s.manifest(), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.folder(s.keys()); err != nil {
			return nil, nil, err
		}
		entries, err := os.ReadDir(s.keys())
		if err != nil {
			return nil, nil, storeFault("listing keys", err)
		}
		if len(entries) > 0 {
			return nil, nil, untrusted(errors.New("it is missing, and there are keys"))
		}
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, storeFault("reading the manifest", err)
	}
	m, file, err := parseManifest(data)
	if err != nil {
		return nil, nil, untrusted(err)
	}
	return m, file, nil
}

func (s *store) writeManifest(m *manifest, a *anchor) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fault.New(fault.InternalError, "the manifest can't be written").Because(err)
	}
	mac, err := a.sign(text)
	if err != nil {
		return err
	}
	data, err := json.Marshal(manifestFile{Format: stateFormat, Manifest: text, MAC: mac})
	if err != nil {
		return fault.New(fault.InternalError, "the manifest can't be written").Because(err)
	}
	return s.write(s.manifest(), append(data, '\n'))
}

// untrusted is what every key answers while the manifest is not the last one that
// this agent wrote with this TPM.
func untrusted(why error) *fault.Error {
	refusal := fault.New(fault.StoreUntrusted, "the manifest of the keys is not to be trusted: %v", why).Because(why)
	if errors.Is(why, errNewer) {
		return refusal.WithHint(newerHint)
	}
	return refusal.WithHint("if you restored the state folder or replaced the TPM: sealsign store recover; else find out who changed it")
}
