package keyring

import (
	"encoding/pem"
	"maps"
	"slices"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// Info is what an operator sees of a key.
type Info struct {
	Name        string
	Venue       string // from the config, like the next three
	Environment string
	Algorithm   string
	Protection  string
	// State is active, pending, suspended, cancel-only, expired, empty, revoked, damaged,
	// locked, rebind-required, unsupported, untrusted, unavailable, or unconfigured for a key
	// of the store that the config doesn't name.
	State   string
	Wanted  int          // the version that the config asks for; 0: none
	Active  int          // the version that signs; 0: none
	Problem string       // why it can't sign, or why wanted and active differ
	Next    string       // the next step then
	Reason  fault.Reason // of the problem
	// RightsProblem is why the rights of the active version at its venue aren't known.
	RightsProblem string
	Versions      []VersionInfo
	Schedule      Schedule
}

// OfHost tells whether the problem is the TPM's or the store's, and so every key's.
func (i *Info) OfHost() bool {
	return slices.Contains([]fault.Reason{fault.TPMUnavailable, fault.StoreUnavailable, fault.StoreUntrusted}, i.Reason)
}

// VersionInfo is one version of a key.
type VersionInfo struct {
	Version    int
	State      State
	ImportedAt time.Time // zero: the version is revoked, or its file can't be read
	Origin     string    // OriginImported or OriginGenerated, or empty likewise
	Rights     *Rights   // at the venue; nil: not known
	// DrainsUntil is when a version that was replaced is wiped: until then it serves
	// requests that began with it. Zero: it isn't loaded, or signs.
	DrainsUntil time.Time
}

// List is every key of the config and of the store, by name. What it tells of
// versions that aren't loaded is as their files say, unproved.
func (r *Ring) List() []Info {
	keys := r.sorted()
	list := make([]Info, len(keys))
	for i, k := range keys {
		list[i] = r.info(k)
	}
	return list
}

// Known is what memory knows of the config's keys, by name, and why they aren't proved
// to be the newest state of this host. Neither the disk nor the TPM is asked, so that
// what List reads there may be missing.
func (r *Ring) Known() (keys []Info, unproved error) {
	for _, k := range r.sorted() {
		if i := r.known(k); i != nil {
			keys = append(keys, *i)
		}
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return keys, r.unusable
}

// known is nil for a key that the config doesn't name.
func (r *Ring) known(k *key) *Info {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if k.spec == nil {
		return nil
	}
	i := r.infoLocked(k, r.unusable, nil)
	return &i
}

// Info is one key of the list.
func (r *Ring) Info(name string) (Info, error) {
	keys, err := r.named(name)
	if err != nil || name == "" {
		return Info{}, errUnknown(name)
	}
	return r.info(keys[0]), nil
}

func (r *Ring) info(k *key) Info {
	unusable := r.usable()
	unread := r.readMetas(k)
	r.readRights(k)
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.infoLocked(k, unusable, unread)
}

// infoLocked is what is known of a key; unread are the versions whose files can't be read.
func (r *Ring) infoLocked(k *key, unusable error, unread map[int]*fault.Error) Info {
	i := Info{Name: k.name, Wanted: k.wantedLocked(), Active: k.activeLocked(), Schedule: r.scheduleLocked(k)}
	if live := k.live.Load(); live != nil {
		i.Active = live.number // a switch is in the manifest before it is in force
	}
	if s := k.spec; s != nil {
		i.Venue, i.Environment, i.Algorithm, i.Protection = s.Venue, s.Environment, s.Algorithm, s.Protection
	}
	for _, n := range slices.Sorted(maps.Keys(k.versions)) {
		v := VersionInfo{Version: n, State: k.versions[n].shown()}
		if meta := k.metas[n]; meta != nil && v.State != Revoked {
			v.ImportedAt, v.Origin, v.Rights = meta.ImportedAt, meta.Origin, k.rights[n]
		}
		i.Versions = append(i.Versions, v)
	}
	i.drainsLocked(k)
	if k.unread != nil && k.rights[i.Active] == nil {
		i.RightsProblem = k.unread.Message
	}
	problem := r.problemLocked(k, unusable, unread)
	i.State = k.stateLocked(problem)
	if problem != nil {
		i.Problem, i.Next, i.Reason = problem.Message, problem.Hint, problem.Reason
	}
	return i
}

// drainsLocked notes which versions are loaded that don't sign any more.
func (i *Info) drainsLocked(k *key) {
	for _, loaded := range k.loaded {
		for n := range i.Versions {
			if v := &i.Versions[n]; v.Version == loaded.number && v.Version != i.Active {
				v.DrainsUntil = loaded.drained
			}
		}
	}
}

// readMetas reads the metadata that isn't known yet, and tells which files can't
// be read.
func (r *Ring) readMetas(k *key) (unread map[int]*fault.Error) {
	r.mu.RLock()
	var unknown []int
	for n, state := range k.versions {
		if state != Revoked && k.metas[n] == nil {
			unknown = append(unknown, n)
		}
	}
	r.mu.RUnlock()
	for _, n := range unknown {
		f, err := r.readVersion(k.name, n)
		if err != nil {
			if unread == nil {
				unread = make(map[int]*fault.Error)
			}
			unread[n] = fault.From(err)
			continue
		}
		r.mu.Lock()
		if k.metas[n] == nil {
			k.metas[n] = &f.meta
		}
		r.mu.Unlock()
	}
	return unread
}

// problemLocked is why the wanted version isn't what signs, or wouldn't be if it
// were asked to.
func (r *Ring) problemLocked(k *key, unusable error, unread map[int]*fault.Error) *fault.Error {
	wanted := k.wantedLocked()
	live, expired := k.live.Load(), k.expired()
	err := unusable
	switch {
	case err != nil:
	case k.spec == nil:
		err = fault.New(fault.KeyUnknown, "the config has no key %s", k.name).
			WithHint("add [keys.%s] to the config, or: sealsign key revoke %s", k.name, k.name)
	case expired != nil:
		err = expired
	case live != nil && live.number == wanted:
	default:
		err = r.whyNotLocked(k, wanted, unread[wanted])
	}
	if err == nil {
		return nil
	}
	return fault.From(err)
}

// whyNotLocked is why version n couldn't be made live, without trying.
func (r *Ring) whyNotLocked(k *key, n int, unread *fault.Error) error {
	if err := k.spec.possible(); err != nil {
		return err
	}
	device, gone := r.tpm()
	if gone == nil {
		if err := k.spec.possibleWith(device.Info().Can); err != nil {
			return err
		}
	}
	if err := k.unusableLocked(n); err != nil {
		return err
	}
	if unread != nil {
		return unread
	}
	if t := k.trialLocked(n); t != nil {
		return t.why(k)
	}
	if k.problem != nil && k.problem.Reason != fault.TPMUnavailable {
		return k.problem // found by trying, where the file alone proves nothing
	}
	if meta := k.metas[n]; meta != nil {
		if err := meta.bound(k.spec); err != nil {
			return err
		}
	}
	return gone
}

// stateOf names the state of a key that can't sign for a reason.
var stateOf = map[fault.Reason]string{
	fault.KeyUnknown:        "unconfigured",
	fault.KeyEmpty:          "empty",
	fault.KeyPending:        string(Pending),
	fault.KeyTrialFailed:    string(Pending),
	fault.VenueUnreachable:  string(Pending),
	fault.KeyRevoked:        string(Revoked),
	fault.KeyExpired:        "expired",
	fault.KeyDamaged:        "damaged",
	fault.KeyLocked:         "locked",
	fault.KeyUnsupported:    "unsupported",
	fault.KeyRebindRequired: "rebind-required",
	fault.StoreUntrusted:    "untrusted",
}

// stateLocked is the key's state in one word. A key whose wanted version has a
// problem while another one signs is active.
func (k *key) stateLocked(problem *fault.Error) string {
	active := k.activeLocked()
	switch h := hold(k.hold.Load()); {
	case h != running:
		return holdNames[h]
	case problem != nil && problem.Reason == fault.KeyExpired:
		return stateOf[fault.KeyExpired]
	case problem == nil && active == 0:
		return string(Pending)
	case problem == nil, active != 0 && active != k.wantedLocked() && k.spec != nil:
		return string(Active)
	}
	if state := stateOf[problem.Reason]; state != "" {
		return state
	}
	return "unavailable"
}

// PublicPEM is the number and the public key of a version, or of the newest if n is
// 0, as PEM of its SubjectPublicKeyInfo.
func (r *Ring) PublicPEM(name string, n int) (int, []byte, error) {
	keys, err := r.named(name)
	if err != nil || name == "" {
		return 0, nil, errUnknown(name)
	}
	k := keys[0]
	r.mu.RLock()
	if n == 0 {
		for number, state := range k.versions {
			if state != Revoked {
				n = max(n, number)
			}
		}
	}
	state := k.versions[n]
	err = k.unusableLocked(n)
	r.mu.RUnlock()
	if err != nil && state != unregistered {
		return 0, nil, err
	}
	f, err := r.readVersion(name, n)
	if err != nil {
		return 0, nil, err
	}
	if f.meta.PublicKey == nil {
		return 0, nil, fault.New(fault.KeyUnsupported, "version %d of key %s has algorithm %s, which has no public key", n, name, f.meta.Algorithm)
	}
	return n, publicPEMOf(f.meta.PublicKey), nil
}

func publicPEMOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
