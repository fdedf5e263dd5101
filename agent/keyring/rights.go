package keyring

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// Rights are what the venue said that a version may do there. They are told to
// operators and decide nothing, so their file needs neither MAC nor counter.
type Rights struct {
	Withdraw *bool     `json:"withdraw,omitempty"` // move funds out; nil: the venue doesn't say
	IPList   *bool     `json:"ip_list,omitempty"`  // only from listed addresses; nil: the venue doesn't say
	Expires  time.Time `json:"expires,omitzero"`   // zero: never, or the venue doesn't say
	ReadAt   time.Time `json:"read_at"`
}

// rightsFile is keys/NAME/rights.json.
type rightsFile struct {
	Format   int             `json:"format"`
	Versions map[int]*Rights `json:"versions"`
}

const (
	rightsName = "rights.json"
	maxRights  = 1 << 20 // ten thousand versions
)

func (s *store) rights(name string) string { return filepath.Join(s.key(name), rightsName) }

// readRights reads what is known of a key's rights, once. A file that can't be used
// is as good as none: the rights are read anew at the venue.
func (r *Ring) readRights(k *key) {
	r.mu.RLock()
	known := k.rights != nil
	r.mu.RUnlock()
	if known {
		return
	}
	var file rightsFile
	data, err := r.store.read(r.store.rights(k.name), maxRights)
	if err == nil {
		err = decodeState(data, &file)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("the rights of a key can't be read from the disk", "key", k.name, "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if k.rights == nil {
		k.rights = make(map[int]*Rights)
		maps.Copy(k.rights, file.Versions)
	}
}

// KeepRights keeps what the venue said of a version.
func (r *Ring) KeepRights(ctx context.Context, name string, number int, rights *Rights) error {
	k, _, err := r.configured(name)
	if err != nil {
		return err
	}
	if err := k.lock(ctx); err != nil {
		return err
	}
	defer k.unlock()
	r.keepRights(k, number, rights)
	return nil
}

// keepRights is KeepRights for who has locked the key. What the disk doesn't take
// is read again after the next start.
func (r *Ring) keepRights(k *key, number int, rights *Rights) {
	r.readRights(k)
	r.mu.Lock()
	kept := *rights
	kept.ReadAt = r.now().UTC()
	k.rights[number], k.unread = &kept, nil
	maps.DeleteFunc(k.rights, func(n int, _ *Rights) bool { return k.versions[n] == Revoked || k.versions[n] == "" })
	data, err := json.Marshal(rightsFile{Format: stateFormat, Versions: k.rights})
	r.mu.Unlock()
	if err == nil {
		err = r.store.write(r.store.rights(k.name), append(data, '\n'))
	}
	if err != nil {
		r.log.Warn("the rights of a key can't be kept", "key", k.name, "error", err)
	}
}

// RightsFailed keeps why the rights of a key's version could not be read.
func (r *Ring) RightsFailed(name string, why *fault.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.keys[name]; k != nil {
		k.unread = why
	}
}

// RightsUnknown tells which version signs, if what the venue lets it do isn't known;
// 0 otherwise, and while the key is suspended or expired, since nobody can ask then.
func (r *Ring) RightsUnknown(name string) int {
	k, _, err := r.configured(name)
	if err != nil {
		return 0
	}
	r.readRights(k)
	r.mu.RLock()
	defer r.mu.RUnlock()
	live := k.live.Load()
	if live == nil || k.held(false) != nil || k.rights[live.number] != nil {
		return 0
	}
	return live.number
}
