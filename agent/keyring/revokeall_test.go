package keyring

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// everyProtection is a key of each, as specs and by what imports it.
func everyProtection() []Spec {
	return []Spec{
		hmacSpec("sealed"),
		with(hmacSpec("resident"), func(s *Spec) { s.Protection = Resident }),
		with(hmacSpec("generated"), func(s *Spec) { s.Algorithm, s.Protection = ES256, Generated }),
	}
}

func importEvery(t *testing.T, r *Ring) {
	t.Helper()
	mustImport(t, r, "sealed", "alpha")
	mustImport(t, r, "resident", "beta")
	_, _, err := r.Generate(t.Context(), "generated")
	must(t, err)
	_, err = r.Import(t.Context(), "generated", []byte(`{"api_key":"id"}`))
	must(t, err)
}

// opensNothing fails unless the TPM refuses each version in a copy of a state folder,
// whatever the manifest says.
func opensNothing(t *testing.T, device *tpm.Device, dir string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "keys/*/*.tpm"))
	must(t, err)
	if len(paths) == 0 {
		t.Fatal("there is no version in the copy")
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		must(t, err)
		f, err := splitVersion(data)
		must(t, err)
		if _, err := f.open(t.Context(), device); !errors.Is(err, tpm.ErrEpochEnded) {
			t.Errorf("%s: the TPM opens it: %v", path, err)
		}
		if f.object == nil {
			continue
		}
		if _, err := device.Load(t.Context(), f.object, make([]byte, tpm.AuthSize)); !errors.Is(err, tpm.ErrEpochEnded) {
			t.Errorf("%s: the TPM loads its key: %v", path, err)
		}
	}
}

// After revoke --all a copy of the whole state folder, put back by root, opens nothing.
func TestRevokeAllEndsEveryCopy(t *testing.T) {
	for what, options := range map[string]func(testing.TB) tpm.Options{"simulator": tpmtest.Simulator, "swtpm": tpmtest.Swtpm} {
		t.Run(what, func(t *testing.T) {
			p := &place{t: t, dir: newDir(t), device: openTPM(t, options(t)), clock: newPlaceClock()}
			r := p.open(everyProtection()...)
			importEvery(t, r)
			uses := []*Use{mustUse(t, r, "sealed"), mustUse(t, r, "resident"), mustUse(t, r, "generated")}
			copied := p.image()
			outside, err := r.RevokeAll(t.Context())
			must(t, err)
			must(t, r.Anchored())
			if len(outside) > 0 {
				t.Errorf("outside of the epoch: %v", outside)
			}
			for i, u := range uses {
				if _, err := u.Sign(t.Context(), nil, []byte("m")); !errors.Is(err, fault.KeyRevoked) {
					t.Errorf("use %d: %v", i, err)
				}
				useRefused(t, r, u.version.key.name, fault.KeyRevoked, "import a new one")
				if got := files(t, p, u.version.key.name); len(got) != 0 {
					t.Errorf("files %v", got)
				}
			}
			opensNothing(t, p.device, copied)
			mustImport(t, r, "sealed", "gamma")
			signsWith(t, r, "sealed", "gamma")
			r.Close()

			p.restore(copied)
			r = p.open(everyProtection()...)
			useRefused(t, r, "sealed", fault.StoreUntrusted, "")
			_, err = r.Recover(t.Context())
			must(t, err)
			r.Apply([]Spec{with(hmacSpec("sealed"), func(s *Spec) { s.Version = 1 })})
			useRefused(t, r, "sealed", fault.KeyRevoked, "import")
			opensNothing(t, p.device, p.dir)
			mustImport(t, r, "sealed", "delta")
			r.Apply([]Spec{hmacSpec("sealed")})
			signsWith(t, r, "sealed", "delta")
			_, err = r.RevokeAll(t.Context())
			must(t, err)
			useRefused(t, r, "sealed", fault.KeyRevoked, "")
		})
	}
}

// While the TPM is gone, what is revoked is so at once and over restarts, and the TPM is
// told when it is back: by the process that revoked, or by one after it.
func TestRevokeAllWhileTheTPMIsGone(t *testing.T) {
	for what, restart := range map[string]bool{"and it comes back": false, "and to another process": true} {
		t.Run(what, func(t *testing.T) {
			software := tpmtest.StartSwtpm(t, "unix")
			p := newPlace(t)
			p.device = openTPM(t, software.Options())
			r := p.open(everyProtection()...)
			importEvery(t, r)
			copied := p.image()
			software.Kill()
			_, err := r.RevokeAll(t.Context())
			refused(t, err, fault.TPMUnavailable, "tried again")
			if !strings.Contains(err.Error(), "every version of every key is revoked") {
				t.Errorf("got %v", err)
			}
			refused(t, r.Ended(), fault.TPMUnavailable, "tried again")
			useRefused(t, r, "sealed", fault.KeyRevoked, "")
			if restart {
				r.Close()
				r = p.open(everyProtection()...)
				useRefused(t, r, "sealed", fault.TPMUnavailable, "")
			}
			software.Start()
			eventually(t, "the epoch has ended", func() bool {
				p.clock.add(retryLoad)
				return r.Proved() == nil && r.Anchored() == nil
			})
			useRefused(t, r, "sealed", fault.KeyRevoked, "")
			opensNothing(t, p.device, copied)
			mustImport(t, r, "sealed", "gamma")
			signsWith(t, r, "sealed", "gamma")
			must(t, r.Anchored())
		})
	}
}

// A TPM that comes to the process that has revoked is told, too.
func TestRevokeAllAndThenTheTPMComes(t *testing.T) {
	p := newPlace(t)
	r := p.open(everyProtection()...)
	importEvery(t, r)
	r.Close()
	copied, device := p.image(), p.device
	p.device = nil
	r = p.open(everyProtection()...)
	_, err := r.RevokeAll(t.Context())
	refused(t, err, fault.TPMUnavailable, "")
	r.SetTPM(device)
	p.clock.add(retryLoad)
	must(t, r.Anchored())
	opensNothing(t, device, copied)
}

// And so is one that was never there in this process.
func TestRevokeAllBeforeTheTPMHasCome(t *testing.T) {
	p := newPlace(t)
	r := p.open(everyProtection()...)
	importEvery(t, r)
	r.Close()
	copied, device := p.image(), p.device
	p.device = nil
	r = p.open(everyProtection()...)
	_, err := r.RevokeAll(t.Context())
	refused(t, err, fault.TPMUnavailable, "")
	r.Close()
	if all, err := r.store.readStops(); err != nil || all.Ended == 0 || len(all.Revoked) != 3 {
		t.Errorf("the stops have %+v, %v", all, err)
	}
	p.device = device
	r = p.open(everyProtection()...)
	useRefused(t, r, "sealed", fault.KeyRevoked, "")
	must(t, r.Anchored())
	opensNothing(t, device, copied)
	must(t, r.Suspend("sealed", false)) // writes the stops anew
	if all, err := r.store.readStops(); err != nil || all.Ended != 0 || len(all.Revoked) != 0 {
		t.Errorf("the manifest has them, and the stops still say %+v, %v", all, err)
	}
}

func TestRevokeAllOnAFullDisk(t *testing.T) {
	p := newPlace(t)
	var disk full
	p.fs = disk.fs()
	r := p.open(everyProtection()...)
	importEvery(t, r)
	copied := p.image()
	disk.set.Store(true)
	_, err := r.RevokeAll(t.Context())
	refused(t, err, fault.StoreUnavailable, "don't restart")
	useRefused(t, r, "sealed", fault.KeyRevoked, "")
	opensNothing(t, p.device, copied) // the TPM doesn't wait for the disk
	disk.set.Store(false)
	r.Close()
	r = p.open(everyProtection()...)
	useRefused(t, r, "sealed", fault.KeyRevoked, "import a new one")
}

// An older stops file, put back, ends no epoch that came after it.
func TestOldStopsEndNothing(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	epoch := r.epoch.parent.Epoch()
	_, err := r.RevokeAll(t.Context())
	must(t, err)
	mustImport(t, r, "main", "beta")
	r.Close()
	must(t, r.store.writeStops(&stops{Format: stateFormat, Ended: epoch, Revoked: map[string][]int{"main": {1}}}))
	r = p.open(hmacSpec("main"))
	signsWith(t, r, "main", "beta")
	must(t, r.Ended())
}

// What an earlier sealsign sealed under the storage root key works on, and RevokeAll
// tells that the TPM opens it still.
func TestVersionsOutsideTheEpoch(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"), hmacSpec("other"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "other", "beta")
	f, err := r.readVersion("main", 1)
	must(t, err)
	c, err := f.open(t.Context(), p.device)
	must(t, err)
	old, err := seal(t.Context(), p.device, nil, f.meta, nil, c)
	must(t, err)
	old.sealed.Format = 1
	data, err := old.encode()
	must(t, err)
	r.Close()
	edited(t, p, "main", 1, func([]byte) []byte { return data })
	r = p.open(hmacSpec("main"), hmacSpec("other"))
	signsWith(t, r, "main", "alpha")
	whole := p.image()
	outside, err := r.RevokeAll(t.Context())
	must(t, err)
	if !slices.Equal(outside, []string{"main 1"}) {
		t.Errorf("outside of the epoch: %v", outside)
	}
	r.Close()

	p.restore(whole)
	r = p.open(with(hmacSpec("main"), func(s *Spec) { s.Version = 1 }))
	_, err = r.Recover(t.Context())
	must(t, err)
	signsWith(t, r, "main", "alpha") // which is why it is told
	_, err = r.Reseal(t.Context(), "main", nil)
	must(t, err)
	if outside, err = r.RevokeAll(t.Context()); err != nil || len(outside) > 0 {
		t.Errorf("sealed again, outside of the epoch: %v, %v", outside, err)
	}
	r.Close()

	p.restore(whole)
	r = p.open(hmacSpec("main"))
	_, err = r.RevokeAll(t.Context())
	refused(t, err, fault.StoreUntrusted, "venue")
	if !strings.Contains(fault.From(err).Message, "main 1") { // a refusal is all that its caller sees
		t.Errorf("it doesn't tell what the TPM opens still: %v", err)
	}
}

// hooked is a TPM that something happens to as it gets a command.
type hooked struct {
	tpm.Transport
	before func(tpm2.TPMCC)
}

func (h hooked) Send(command []byte) ([]byte, error) {
	h.before(tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])))
	return h.Transport.Send(command)
}

// Everything is revoked while the next parent is being made: that doesn't take back the
// end of the epoch before it.
func TestRevokeAllAgainstANewParent(t *testing.T) {
	o, creating := tpmtest.Simulator(t), func() {}
	plain := o.Dial
	o.Dial = func() (tpm.Transport, error) {
		transport, err := plain()
		return hooked{transport, func(code tpm2.TPMCC) {
			if code == tpm2.TPMCCCreate {
				creating()
			}
		}}, err
	}
	p := &place{t: t, dir: newDir(t), device: openTPM(t, o), clock: newPlaceClock()}
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	copied, before := p.image(), r.epoch
	r.epoch = nil // the manifest's was lost
	creating = func() {
		r.mu.Lock()
		r.epoch = before
		r.mu.Unlock()
		r.revokeAll()
		creating = func() {}
	}
	mustImport(t, r, "main", "beta")
	signsWith(t, r, "main", "beta")
	opensNothing(t, p.device, copied)
}

// Nor does what is being sealed again meanwhile: it isn't carried over into the next epoch.
func TestRevokeAllAgainstAReseal(t *testing.T) {
	o, unsealing := tpmtest.Simulator(t), func() {}
	plain := o.Dial
	o.Dial = func() (tpm.Transport, error) {
		transport, err := plain()
		return hooked{transport, func(code tpm2.TPMCC) {
			if code == tpm2.TPMCCUnseal {
				unsealing()
			}
		}}, err
	}
	p := &place{t: t, dir: newDir(t), device: openTPM(t, o), clock: newPlaceClock()}
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	unsealing = func() {
		r.revokeAll()
		unsealing = func() {}
	}
	_, err := r.Reseal(t.Context(), "main", nil)
	must(t, err)
	copied := p.image()
	must(t, r.save())
	must(t, r.Anchored())
	opensNothing(t, p.device, copied)
}

// Where the manifest is lost or was changed, what it says is no reason to leave out what
// the files hang on, and nobody is told that all is revoked.
func TestRevokeAllOfAStoreThatIsNotTrusted(t *testing.T) {
	for what, spoil := range map[string]func(path string) error{
		"no manifest":          os.Remove,
		"no manifest any more": func(path string) error { return os.WriteFile(path, []byte("{}"), 0o600) },
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace(t)
			r := p.open(hmacSpec("main"))
			mustImport(t, r, "main", "alpha")
			r.Close()
			copied := p.image()
			must(t, spoil(filepath.Join(p.dir, manifestName)))
			r = p.open(hmacSpec("main"))
			_, err := r.RevokeAll(t.Context())
			refused(t, err, fault.StoreUntrusted, "venue")
			opensNothing(t, p.device, copied)
			if got := files(t, p, "main"); len(got) != 0 {
				t.Errorf("files %v", got)
			}
		})
	}
}

// The files stay while the TPM is gone: when it is back, they say what it has to end.
func TestRevokeAllOfAStoreThatIsNotTrustedWithoutATPM(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	r.Close()
	copied, device := p.image(), p.device
	must(t, os.Remove(filepath.Join(p.dir, manifestName)))
	p.device = nil
	r = p.open(hmacSpec("main"))
	_, err := r.RevokeAll(t.Context())
	refused(t, err, fault.StoreUntrusted, "venue")
	if !errors.Is(err, fault.TPMUnavailable) {
		t.Errorf("got %v", err)
	}
	r.SetTPM(device)
	_, err = r.RevokeAll(t.Context())
	refused(t, err, fault.StoreUntrusted, "venue")
	opensNothing(t, device, copied)
}

// An import that is under way while everything is revoked doesn't survive it.
func TestRevokeAllAgainstAnImport(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	c, err := r.change(t.Context(), "main")
	must(t, err)
	r.revokeAll()
	meta := metadata{Name: "main", Version: 2}
	refused(t, c.list(&meta, Pending), fault.KeyRevoked, "import it again")
	c.key.unlock()
	mustImport(t, r, "main", "beta")
	signsWith(t, r, "main", "beta")
}

// The parent that the manifest has is lost with the manifest, and found in the files.
func TestTheEpochIsFoundInTheFiles(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	epoch := r.epoch
	r.Close()
	must(t, os.Remove(filepath.Join(p.dir, manifestName)))
	copied := p.image()
	r = p.open(with(hmacSpec("main"), func(s *Spec) { s.Version = 1 }))
	_, err := r.Recover(t.Context())
	must(t, err)
	if !r.epoch.same(epoch) {
		t.Error("the epoch is another one")
	}
	signsWith(t, r, "main", "alpha")
	_, err = r.RevokeAll(t.Context())
	must(t, err)
	opensNothing(t, p.device, copied)
}

// A recovery doesn't take back the end of an epoch that the TPM is yet to be told of: not for
// another parent in it, as there is one after each change of the authority.
func TestTheEpochThatIsToEndIsNotAdopted(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	copied := p.image()
	other, err := p.device.NewParent(t.Context(), r.epoch.parent)
	must(t, err)
	r.epoch = newEpoch(other)
	r.revokeAll()
	found, err := r.versionsFound()
	must(t, err)
	must(t, r.adoptEpoch(t.Context(), p.device, found))
	must(t, r.Ended())
	opensNothing(t, p.device, copied)
}

// On another TPM there is another epoch, and what was made here ends nothing there.
func TestTheEpochOfAnotherTPM(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	r.Close()
	p.device = openTPM(t, tpmtest.Swtpm(t))
	own := &place{t: t, dir: newDir(t), device: p.device, clock: p.clock}
	resident := own.open(hmacSpec("main"))
	mustImport(t, resident, "main", "beta")
	r = p.open(hmacSpec("main"))
	_, err := r.Recover(t.Context())
	must(t, err)
	_, err = r.RevokeAll(t.Context())
	must(t, err)
	mustImport(t, r, "main", "gamma")
	signsWith(t, r, "main", "gamma")
	_, err = r.RevokeAll(t.Context())
	must(t, err)
	must(t, resident.Suspend("main", false)) // wipes it
	must(t, resident.Resume("main"))
	signsWith(t, resident, "main", "beta")
}
