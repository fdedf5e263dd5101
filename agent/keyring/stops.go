package keyring

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
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

// stops is what takes rights away and can't wait for a TPM: suspensions, and the
// revocations that no manifest has yet. It holds whatever the manifest says, and
// is not authenticated: who can change it can't gain by it more than by putting an
// older copy in its place, which brings back no version that a manifest revoked.
type stops struct {
	Format  int              `json:"format"`
	Keys    map[string]hold  `json:"keys,omitempty"`
	Revoked map[string][]int `json:"revoked,omitempty"`
	// Ended is the host epoch that has ended, where no manifest says so yet.
	Ended uint64 `json:"ended_epoch,omitempty"`
}

// same tells whether two say the same.
func (a *stops) same(b *stops) bool { return reflect.DeepEqual(a, b) }

func (s *store) stops() string { return filepath.Join(s.dir, "stops.json") }

func parseStops(data []byte) (*stops, error) {
	all := new(stops)
	if err := decodeState(data, all); err != nil {
		return nil, err
	}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(all.Keys)), slices.Collect(maps.Keys(all.Revoked))) {
		if checkName(name) != nil {
			return nil, errors.New("it names a key that can't be")
		}
	}
	return all, nil
}

func (s *store) readStops() (*stops, error) {
	data, err := s.read(s.stops(), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return new(stops), nil
	}
	if err != nil {
		return nil, storeFault("reading the suspensions", err)
	}
	all, err := parseStops(data)
	if err != nil {
		return nil, fault.New(fault.StoreUntrusted, "%s can't be used: %v", s.stops(), err).Because(err)
	}
	return all, nil
}

func (s *store) writeStops(all *stops) error {
	data, err := json.Marshal(all)
	if err != nil {
		return fault.New(fault.InternalError, "the suspensions can't be written").Because(err)
	}
	return s.write(s.stops(), append(data, '\n'))
}

// stopsLocked is what is to be in the file.
func (r *Ring) stopsLocked() *stops {
	all := &stops{Format: stateFormat, Keys: map[string]hold{}, Revoked: map[string][]int{}}
	for name, k := range r.keys {
		if h := hold(k.hold.Load()); h != running {
			all.Keys[name] = h
		}
		for n, state := range k.versions {
			if state == Revoked && !r.written.revoked(name, n) {
				all.Revoked[name] = append(all.Revoked[name], n)
			}
		}
		slices.Sort(all.Revoked[name]) // it compares equal, then
	}
	if ended := r.epoch.ended(); ended != r.written.ended() {
		all.Ended = ended
	}
	return all
}

// readStops puts the suspensions in force. It is called once: from then on memory
// knows better. Where the file can't be read, every key counts as suspended.
func (r *Ring) readStops() {
	all, err := r.store.readStops()
	if err != nil {
		r.log.Error("nobody knows which keys are suspended, so all are: sealsign key resume NAME", event.Key, event.KeySuspended, "error", err)
		return
	}
	r.found = all
	for name, h := range all.Keys {
		r.keyLocked(name).hold.Store(int32(h))
	}
}

// takeStopsLocked puts the revocations in force that no manifest has yet.
func (r *Ring) takeStopsLocked() {
	if r.found == nil {
		return
	}
	for name, numbers := range r.found.Revoked {
		k := r.keyLocked(name)
		for _, n := range numbers {
			if k.versions[n] != "" {
				k.versions[n] = Revoked
			}
		}
	}
	if r.epoch != nil && r.epoch.parent.Epoch() == r.found.Ended {
		r.endLocked()
	}
}
