package keyring

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
)

// image is a copy of the state folder.
func (p *place) image() string {
	p.t.Helper()
	to := filepath.Join(p.t.TempDir(), "image")
	must(p.t, os.CopyFS(to, os.DirFS(p.dir)))
	return to
}

// restore puts an image in the state folder's place.
func (p *place) restore(from string) {
	p.t.Helper()
	p.dir = newDir(p.t)
	must(p.t, os.CopyFS(p.dir, os.DirFS(from)))
	must(p.t, filepath.Walk(p.dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	}))
}

// What an older image of the disk would undo is not undone by it.
func TestAnOlderStoreIsRefused(t *testing.T) {
	for what, change := range map[string]func(*testing.T, *Ring){
		"an import":  func(t *testing.T, r *Ring) { mustImport(t, r, "main", "gamma") },
		"a revoke":   func(t *testing.T, r *Ring) { must(t, r.Revoke("main", 2)) },
		"all of one": func(t *testing.T, r *Ring) { must(t, r.Revoke("main", 0)) },
		"a switch": func(t *testing.T, r *Ring) {
			r.Apply([]Spec{with(hmacSpec("main"), func(s *Spec) { s.Version = 1 })})
			_, err := r.settle(t.Context(), r.keys["main"])
			must(t, err)
		},
		"another key's": func(t *testing.T, r *Ring) { mustImport(t, r, "other", "gamma") },
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace(t)
			r := p.open(hmacSpec("main"), hmacSpec("other"))
			mustImport(t, r, "main", "alpha")
			mustImport(t, r, "main", "beta")
			r.Close()
			old := p.image()
			r = p.open(hmacSpec("main"), hmacSpec("other"))
			change(t, r)
			must(t, r.Anchored())
			r.Close()

			p.restore(old)
			r = p.open(hmacSpec("main"), hmacSpec("other"))
			useRefused(t, r, "main", fault.StoreUntrusted, "sealsign store recover")
			if i := infoOf(t, r, "main"); i.State != "untrusted" || !strings.Contains(i.Problem, "an older state was put back") {
				t.Errorf("got %+v", i)
			}
			_, err := r.Import(t.Context(), "main", hmacCredential("delta"))
			refused(t, err, fault.StoreUntrusted, "")
		})
	}
}

// Parts of an older image are refused like the whole of it.
func TestPartsOfAnOlderStoreAreRefused(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "main", "beta")
	r.Close()
	old := p.image()
	r = p.open(hmacSpec("main"))
	must(t, r.Revoke("main", 2))
	r.Close()
	whole := p.image()
	back := func(name string) {
		data, err := os.ReadFile(filepath.Join(old, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(p.dir, name), data, 0o600))
	}
	t.Run("a revoked version's file", func(t *testing.T) {
		back("keys/main/2.tpm")
		useRefused(t, p.open(hmacSpec("main")), "main", fault.KeyRevoked, "")
	})
	t.Run("the manifest", func(t *testing.T) {
		p.restore(whole)
		back("manifest.json")
		useRefused(t, p.open(hmacSpec("main")), "main", fault.StoreUntrusted, "")
	})
	t.Run("no anchor", func(t *testing.T) {
		p.restore(whole)
		must(t, os.Remove(filepath.Join(p.dir, "anchor.json")))
		useRefused(t, p.open(hmacSpec("main")), "main", fault.StoreUntrusted, "")
	})
	t.Run("no manifest and no anchor", func(t *testing.T) {
		p.restore(whole)
		must(t, os.Remove(filepath.Join(p.dir, "anchor.json")))
		must(t, os.Remove(filepath.Join(p.dir, "manifest.json")))
		useRefused(t, p.open(hmacSpec("main")), "main", fault.StoreUntrusted, "")
	})
	t.Run("another host's", func(t *testing.T) {
		other := &place{t: t, dir: newDir(t), device: p.device, clock: p.clock}
		foreign := other.open(hmacSpec("main"))
		mustImport(t, foreign, "main", "gamma")
		foreign.Close()
		p.restore(whole)
		data, err := os.ReadFile(filepath.Join(other.dir, "manifest.json"))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(p.dir, "manifest.json"), data, 0o600))
		useRefused(t, p.open(hmacSpec("main")), "main", fault.StoreUntrusted, "")
	})
	t.Run("and the whole is taken", func(t *testing.T) {
		p.restore(whole)
		useRefused(t, p.open(hmacSpec("main")), "main", fault.KeyRevoked, "")
	})
}

// A suspension changes no version, and wears out no counter.
func TestOnlyChangesOfVersionsAreCounted(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	before := r.number
	must(t, r.Suspend("main", false))
	must(t, r.Resume("main"))
	r.Close()
	r = p.open(hmacSpec("main"))
	signsWith(t, r, "main", "alpha")
	if r.number != before {
		t.Errorf("the manifest went from number %d to %d", before, r.number)
	}
	value, err := p.device.ReadCounter(t.Context(), r.anchor.index, r.anchor.auth.Bytes())
	must(t, err)
	if value != before {
		t.Errorf("the TPM counted to %d, the manifest is number %d", value, before)
	}
}

// Two states on one TPM have counters of their own.
func TestTwoStatesOnOneTPM(t *testing.T) {
	p := newPlace(t)
	other := &place{t: t, dir: newDir(t), device: p.device, clock: p.clock}
	r, s := p.open(hmacSpec("main")), other.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, s, "main", "beta")
	mustImport(t, r, "main", "gamma")
	r.Close()
	s.Close()
	signsWith(t, p.open(hmacSpec("main")), "main", "gamma")
	signsWith(t, other.open(hmacSpec("main")), "main", "beta")
}

// While the TPM is gone a revocation is written all the same; when the TPM is back
// it counts, and an image from before is refused.
func TestRevokeWhileTheTPMIsGone(t *testing.T) {
	software := tpmtest.StartSwtpm(t, "unix")
	p := newPlace(t)
	p.device = openTPM(t, software.Options())
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	old := p.image()
	software.Kill()
	must(t, r.Revoke("main", 0))
	refused(t, r.Anchored(), fault.TPMUnavailable, "tried again")
	r.Close()

	t.Run("and it never comes back to this process", func(t *testing.T) {
		r := p.open(hmacSpec("main"))
		useRefused(t, r, "main", fault.TPMUnavailable, "")
		must(t, r.Suspend("main", false))
		r.Close()
		software.Start()
		eventually(t, "the TPM's return", func() bool { return p.device.Healthy() == nil })
		r = p.open(hmacSpec("main"))
		must(t, r.Resume("main"))
		useRefused(t, r, "main", fault.KeyRevoked, "")
		must(t, r.Anchored())
		r.Close()
	})
	p.restore(old)
	useRefused(t, p.open(hmacSpec("main")), "main", fault.StoreUntrusted, "")
}

// What can't be proved yet can be revoked.
func TestRevokeBeforeTheTPMHasCome(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"), hmacSpec("other"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "other", "beta")
	r.Close()
	device := p.device
	p.device = nil
	r = p.open(hmacSpec("main"), hmacSpec("other"))
	must(t, r.Revoke("main", 0))
	r.Close()
	p.device = device
	r = p.open(hmacSpec("main"), hmacSpec("other"))
	useRefused(t, r, "main", fault.KeyRevoked, "")
	signsWith(t, r, "other", "beta")
	must(t, r.Revoke("other", 0))
	r.Close()
	if all, err := r.store.readStops(); err != nil || len(all.Revoked) != 0 {
		t.Errorf("the manifest has them, and the stops still say %v, %v", all, err)
	}
}

// The power fails between the manifest and the counter: neither is the newest
// manifest refused, nor an older one taken once the counter has followed.
func TestPowerFailsBeforeTheCounter(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "main", "beta")
	old := p.image()
	r.mu.Lock()
	r.keys["main"].versions[2] = Revoked
	r.mu.Unlock()
	m := r.snapshot()
	m.Number = r.number + 1
	must(t, r.store.writeManifest(m, r.anchor))
	r.Close()

	r = p.open(hmacSpec("main"))
	useRefused(t, r, "main", fault.KeyRevoked, "")
	must(t, r.Anchored())
	r.Close()
	p.restore(old)
	useRefused(t, p.open(hmacSpec("main")), "main", fault.StoreUntrusted, "")
}

// Suspensions that can't be read hold for every key.
func TestStopsThatCannotBeRead(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"), hmacSpec("other"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "other", "beta")
	must(t, r.Suspend("other", false))
	r.Close()
	must(t, os.WriteFile(r.store.stops(), []byte("{"), 0o600))
	r = p.open(hmacSpec("main"), hmacSpec("other"))
	useRefused(t, r, "main", fault.KeySuspended, "resume")
	useRefused(t, r, "other", fault.KeySuspended, "resume")
	must(t, r.Resume("main"))
	r.Close()
	r = p.open(hmacSpec("main"), hmacSpec("other"))
	signsWith(t, r, "main", "alpha")
	useRefused(t, r, "other", fault.KeySuspended, "resume")
}

// Two instances of a host that begin at once may have picked the same NV index: the
// second one to define it picks another.
func TestTwoStoresThatBeginAtOnce(t *testing.T) {
	p := newPlace(t)
	first := p.dir
	late, err := openStore(newDir(t), FS{})
	must(t, err)
	_, err = late.newAnchor(t.Context(), p.device)
	must(t, err)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")

	p.dir = late.dir
	other := p.open(hmacSpec("main"))
	mustImport(t, other, "main", "beta")
	if r.anchor.index == other.anchor.index {
		t.Errorf("both have NV index %d", r.anchor.index)
	}
	r.Close()
	other.Close()
	for dir, secret := range map[string]string{first: "alpha", late.dir: "beta"} {
		p.dir = dir
		signsWith(t, p.open(hmacSpec("main")), "main", secret)
	}
}
