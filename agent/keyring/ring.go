// Package keyring holds the keys that sign: their versions and states, the sealed
// store on disk, and what of it is loaded. Nobody outside sees a secret: a Use
// signs, or says why it may not.
//
// A credential is sealed to the TPM when it is imported and unsealed into guarded
// memory when it is first used (protection "sealed"), or it signs inside the TPM
// ("resident", "generated"). The manifest says which versions exist and which one
// signs; the config says which one is wanted; settle brings the two together.
//
// What takes a right away (Suspend, Revoke) is in force before it is written, and
// stays in force when it can't be. What gives one (an import, a switch of
// versions) is written first.
package keyring

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// Options are what a Ring takes from its surroundings. The zero value is of use.
type Options struct {
	FS  FS               // faults of the disk, for tests
	Log *slog.Logger     // nil: none
	Now func() time.Time // nil: the system's clock
	// Switched is told, once it is written, which version of a key signs from now on.
	Switched func(key string, version int)
	// Time is what keys expire by; nil: Now. Where the clock was set back, it isn't.
	Time func() time.Time
	// LastUse is when a key was used last before this process; nil: never.
	LastUse func(name string) time.Time
	Try     Try // has a version tried with its venue before it takes over; nil: none is
	// MakeRoom is called when the disk has no space for what takes a right away, which is
	// written again then.
	MakeRoom func()
	// Live is told that a version was loaded, or may sign again. It must not block.
	Live func(key string)
}

// Ring is all keys of one state folder. Its methods may be called from many goroutines.
type Ring struct {
	store  *store
	device atomic.Pointer[tpm.Device]
	log    *slog.Logger
	now    func() time.Time
	time   func() time.Time

	lastUse func(name string) time.Time
	try     Try
	live    func(key string)
	room    func()

	switched func(key string, version int)
	recovery atomic.Pointer[[]age.Recipient]

	reading sync.Mutex  // held while the manifest is read and proved
	saving  sync.Mutex  // held while it is written, and while the TPM follows
	holding sync.Mutex  // held while the stops are written; taken after saving
	unsaved atomic.Bool // a write of either is to be tried again, or what the TPM is to end

	parenting sync.Mutex // held while a parent is made

	// Set when the manifest is proved, then guarded by saving.
	anchor   *anchor
	number   uint64        // of the manifest that was written last, or tried to be
	tried    *manifest     // that one
	followed atomic.Uint64 // the number that the TPM has counted to

	stopped *stops // what is on disk; nil: not known. Guarded by holding

	ctx   context.Context // of what goes on in the background
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu       sync.RWMutex // never held while waiting for disk or TPM
	keys     map[string]*key
	unusable error     // why the manifest isn't proved; nil: it is
	triedAt  time.Time // when that was found; zero: it wasn't tried
	written  *manifest // what is on disk; nil: not known

	importers map[string]Importer // who may sign wrapped credentials
	taken     map[string]taken    // the newest wrapped credential of each key

	epoch   *hostEpoch // nil: there is none yet
	refused *hostEpoch // the one that the TPM was seen to have ended

	found *stops             // on disk at Open; nil: nobody knows what is suspended, so all is
	round context.CancelFunc // ends the settling that the last Apply started
}

// Open reads the manifest under dir, and nothing else. It fails where the folder
// is open to others; a manifest that can't be used is what every key then answers,
// until it can. Before anything signs it is proved with the TPM. device may be nil:
// then keys answer TPM_UNAVAILABLE until SetTPM.
func Open(dir string, device *tpm.Device, o Options) (*Ring, error) {
	s, err := openStore(dir, o.FS)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Switched == nil {
		o.Switched = func(string, int) {}
	}
	if o.Time == nil {
		o.Time = o.Now
	}
	if o.LastUse == nil {
		o.LastUse = func(string) time.Time { return time.Time{} }
	}
	if o.MakeRoom == nil {
		o.MakeRoom = func() {}
	}
	if o.Live == nil {
		o.Live = func(string) {}
	}
	r := &Ring{
		store: s, log: o.Log, now: o.Now, time: o.Time, lastUse: o.LastUse, switched: o.Switched, try: o.Try, live: o.Live, room: o.MakeRoom,
		keys: make(map[string]*key),
	}
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.device.Store(device)
	r.readStops()
	if _, _, err := r.readState(); err != nil {
		r.unusable, r.triedAt = err, r.now() // it is what every key answers
		r.log.Error("no key can sign", event.Key, event.StoreUnusable, "error", err)
		return r, nil
	}
	r.unusable = fault.New(fault.TPMUnavailable, "the keys are not proved yet")
	return r, nil
}

// keyLocked finds or makes the key.
func (r *Ring) keyLocked(name string) *key {
	k := r.keys[name]
	if k == nil {
		k = newKey(name, r.time)
		if r.found == nil {
			k.hold.Store(int32(suspended))
		}
		r.keys[name] = k
	}
	return k
}

// Used tells whether there are keys in the store, proved or not.
func (r *Ring) Used() bool {
	entries, err := os.ReadDir(r.store.keys())
	return err != nil && !errors.Is(err, fs.ErrNotExist) || len(entries) > 0
}

// SetTPM replaces the TPM: one that was missing at Open has come.
func (r *Ring) SetTPM(device *tpm.Device) {
	r.device.Store(device)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.triedAt = time.Time{} // what was missing may be there now
}

// Unlock has keys that PCRs locked tried again at once: other values were approved.
func (r *Ring) Unlock() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.keys {
		if k.problem != nil && k.problem.Reason == fault.KeyLocked {
			k.problem = nil
		}
	}
}

// tpm is the TPM, or why there is none.
func (r *Ring) tpm() (*tpm.Device, error) {
	device := r.device.Load()
	if device == nil {
		return nil, fault.New(fault.TPMUnavailable, "the TPM is not there, or not the one that this state belongs to").WithHint("sealsign doctor says which, and what to do")
	}
	return device, device.Healthy()
}

// Close ends every Use and wipes what is loaded. The Ring is of no use afterwards.
func (r *Ring) Close() {
	if r.unsaved.Swap(false) {
		_ = errors.Join(r.save(), r.saveStops(), r.finishEpoch(r.ctx)) // the last try of many
	}
	r.stop()
	r.mu.Lock()
	var loaded []*version
	for _, k := range r.keys {
		loaded = append(loaded, k.unloadLocked(0)...)
	}
	r.mu.Unlock()
	endAll(loaded, errStopping())
	r.tasks.Wait()
	r.saving.Lock()
	defer r.saving.Unlock()
	r.holding.Lock()
	defer r.holding.Unlock()
	r.reading.Lock() // who proves the manifest ends first, and nobody begins
	defer r.reading.Unlock()
	if r.anchor != nil {
		r.anchor.wipe()
	}
}

func errStopping() *fault.Error { return fault.New(fault.AgentUnavailable, "the agent is stopping") }

// Apply takes over a config. A key whose entry stayed the same isn't touched. One
// that is no longer named is unloaded, and so is one whose version was sealed for
// other hosts than are now named. Versions switch in the background, the old one
// signing until the new one is loaded and written down.
func (r *Ring) Apply(specs []Spec) {
	ends, unsettled := r.apply(specs)
	for _, e := range ends {
		endAll(e.versions, e.why)
	}
	r.background(unsettled)
}

// ending is what Apply takes out of use.
type ending struct {
	versions []*version
	why      *fault.Error
}

func (r *Ring) apply(specs []Spec) (ends []ending, unsettled []*key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	named := make(map[string]bool, len(specs))
	for _, spec := range specs {
		named[spec.Name] = true
		k := r.keyLocked(spec.Name)
		if k.spec == nil || !k.spec.equal(&spec) {
			spec.Hosts = slices.Clone(spec.Hosts)
			if e, ended := k.specLocked(&spec); ended {
				ends = append(ends, e)
			}
		}
		if len(k.versions) > 0 && k.wantedLocked() != k.activeLocked() {
			unsettled = append(unsettled, k)
		}
	}
	for name, k := range r.keys {
		if k.spec != nil && !named[name] {
			k.spec, k.problem = nil, nil
			ends = append(ends, ending{k.unloadLocked(0), errUnknown(name)})
		}
	}
	return ends, unsettled
}

// specLocked gives the key another entry of the config, and takes out of use what
// was sealed for another.
func (k *key) specLocked(spec *Spec) (ending, bool) {
	k.spec, k.problem = spec, nil
	k.expire(spec.Expires)
	superseded := k.dropTrialLocked()
	if err := k.expired(); err != nil {
		return ending{append(k.unloadLocked(0), superseded...), fault.From(err)}, true
	}
	if live := k.live.Load(); live != nil {
		if err := live.meta.bound(spec); err != nil {
			k.problem = fault.From(err)
			return ending{append(k.unloadLocked(0), superseded...), k.problem}, true
		}
	}
	return ending{superseded, errSuperseded()}, superseded != nil
}

// unloadLocked takes a loaded version out of use, or all if n is 0. The caller ends them.
func (k *key) unloadLocked(n int) (gone []*version) {
	k.loaded = slices.DeleteFunc(k.loaded, func(v *version) bool {
		if n != 0 && v.number != n {
			return false
		}
		k.live.CompareAndSwap(v, nil)
		gone = append(gone, v)
		return true
	})
	return gone
}

func endAll(versions []*version, why *fault.Error) {
	for _, v := range versions {
		v.end(why)
	}
}

// configured finds a key that the config names.
func (r *Ring) configured(name string) (*key, *Spec, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k := r.keys[name]
	if k == nil || k.spec == nil {
		return nil, nil, errUnknown(name)
	}
	return k, k.spec, nil
}

func errUnknown(name string) *fault.Error {
	return fault.New(fault.KeyUnknown, "the config has no key %s", name).WithHint("add [keys.%s] to the config; sealsign key list shows what there is", name)
}
