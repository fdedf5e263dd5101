package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/fault"
)

func TestSuspendStopsUsesThatAreHeldAndOutlivesARestart(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"), hmacSpec("other"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "other", "beta")
	u, other := mustUse(t, r, "main"), mustUse(t, r, "other")
	must(t, r.Suspend("main", false))

	_, err := u.Sign(t.Context(), nil, nil)
	refused(t, err, fault.KeySuspended, "sealsign key resume main")
	refused(t, u.Valid(), fault.KeySuspended, "")
	refused(t, u.Access(new(Access)), fault.KeySuspended, "")
	must(t, other.Valid())
	if u.version.memory.Bytes() != nil || u.version.material.(*midstates).memory.Bytes() != nil {
		t.Error("what was loaded isn't wiped")
	}
	_, err = r.Use(t.Context(), "main", true)
	refused(t, err, fault.KeySuspended, "")
	if i := infoOf(t, r, "main"); i.State != "suspended" || i.Active != 1 {
		t.Errorf("got %+v", i)
	}
	r.Close()

	r = p.open(hmacSpec("main"))
	useRefused(t, r, "main", fault.KeySuspended, "")
	mustImport(t, r, "main", "gamma")
	useRefused(t, r, "main", fault.KeySuspended, "")
	must(t, r.Resume("main"))
	signsWith(t, r, "main", "gamma")
	refused(t, u.Valid(), fault.KeySuspended, "") // what was ended stays so
}

func TestCancelOnlyLetsCancelsPass(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	trade := mustUse(t, r, "main")
	must(t, r.Suspend("main", true))
	refused(t, trade.Valid(), fault.KeySuspended, "")
	for range 2 {
		useRefused(t, r, "main", fault.KeySuspended, "sealsign key resume main")
		cancel, err := r.Use(t.Context(), "main", true)
		must(t, err)
		_, err = cancel.Sign(t.Context(), nil, nil)
		must(t, err)
		r.Close()
		r = p.open(hmacSpec("main"))
	}
	must(t, r.Suspend("main", false))
	must(t, r.Suspend("main", true)) // loosens nothing
	_, err := r.Use(t.Context(), "main", true)
	refused(t, err, fault.KeySuspended, "")
}

func TestSuspendAllAndResumeAll(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("a"), hmacSpec("b"), hmacSpec("empty"))
	mustImport(t, r, "a", "alpha")
	mustImport(t, r, "b", "beta")
	must(t, r.Suspend("", false))
	r.Close()
	r = p.open(hmacSpec("a"), hmacSpec("b"), hmacSpec("empty"))
	for _, name := range []string{"a", "b", "empty"} {
		useRefused(t, r, name, fault.KeySuspended, "")
	}
	must(t, r.Resume("a"))
	signsWith(t, r, "a", "alpha")
	useRefused(t, r, "b", fault.KeySuspended, "")
	must(t, r.Resume(""))
	signsWith(t, r, "b", "beta")
	refused(t, r.Suspend("nobody", false), fault.KeyUnknown, "")
}

// Once Suspend has returned, no signature is made, by whoever holds a Use.
func TestSuspendAgainstSign(t *testing.T) {
	for _, protection := range []string{Sealed, Resident} {
		t.Run(protection, func(t *testing.T) {
			p := newPlace(t)
			r := p.open(with(hmacSpec("main"), func(s *Spec) { s.Protection = protection }))
			mustImport(t, r, "main", "alpha")
			for range 20 {
				var over atomic.Bool
				var signers sync.WaitGroup
				for range 3 {
					u := mustUse(t, r, "main")
					signers.Go(func() {
						for {
							late := over.Load()
							_, err := u.Sign(t.Context(), nil, []byte("message"))
							if err == nil && late {
								t.Error("a signature was made after Suspend had returned")
							}
							if err != nil {
								if !errors.Is(err, fault.KeySuspended) {
									t.Errorf("got %v", err)
								}
								return
							}
						}
					})
				}
				must(t, r.Suspend("main", false))
				over.Store(true)
				signers.Wait()
				must(t, r.Resume("main"))
			}
		})
	}
}

// A version that is being loaded while its key is suspended or revoked doesn't become live.
func TestSuspendAndRevokeAgainstLoading(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	for i := range 20 {
		must(t, r.Suspend("main", false)) // unloads it
		must(t, r.Resume("main"))
		var loaders sync.WaitGroup
		for range 3 {
			loaders.Go(func() { _, _ = r.Use(t.Context(), "main", false) })
		}
		if i < 19 {
			must(t, r.Suspend("main", false))
		} else {
			must(t, r.Revoke("main", 1))
		}
		loaders.Wait()
		if r.keys["main"].live.Load() != nil {
			t.Fatal("a version is live")
		}
		must(t, r.Resume("main"))
	}
	useRefused(t, r, "main", fault.KeyRevoked, "")
}

func files(t *testing.T, p *place, name string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(p.dir, "keys", name))
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRevokeIsForGood(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "main", "beta")
	u := mustUse(t, r, "main")
	must(t, r.Revoke("main", 2))
	refused(t, u.Valid(), fault.KeyRevoked, "sealsign key import main")
	useRefused(t, r, "main", fault.KeyRevoked, "") // version 1 doesn't come back by itself
	if i := infoOf(t, r, "main"); i.State != "revoked" || i.Active != 0 || i.Versions[1].State != Revoked {
		t.Errorf("got %+v", i)
	}
	if got := files(t, p, "main"); !slices.Equal(got, []string{"1.tpm"}) {
		t.Fatalf("files %v", got)
	}
	refused(t, r.Revoke("main", 7), fault.KeyEmpty, "")
	r.Close()

	r = p.open(with(hmacSpec("main"), func(s *Spec) { s.Version = 1 }))
	signsWith(t, r, "main", "alpha")
	must(t, r.Revoke("main", 0))
	must(t, r.Revoke("main", 0)) // twice is once
	if got := files(t, p, "main"); len(got) != 0 {
		t.Fatalf("files %v", got)
	}
	r.Apply([]Spec{hmacSpec("main")})
	if n := mustImport(t, r, "main", "gamma"); n != 3 {
		t.Fatalf("the number %d was given again", n)
	}
	signsWith(t, r, "main", "gamma")
}

func TestRebind(t *testing.T) {
	for what, change := range map[string]func(*Spec){
		"hosts":    func(s *Spec) { s.Hosts = []string{"evil.example"} },
		"CA":       func(s *Spec) { s.CA = strings.Repeat("ab", 32) },
		"template": func(s *Spec) { s.Template = "{body}" },
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace(t)
			r := p.open(hmacSpec("main"))
			mustImport(t, r, "main", "alpha")
			mustImport(t, r, "main", "beta")
			u := mustUse(t, r, "main")
			changed := with(hmacSpec("main"), change)
			r.Apply([]Spec{changed})
			refused(t, u.Valid(), fault.KeyRebindRequired, "sealsign key rebind main")
			useRefused(t, r, "main", fault.KeyRebindRequired, "sealsign key rebind main")
			if i := infoOf(t, r, "main"); i.State != "rebind-required" || !strings.Contains(i.Problem, what) {
				t.Errorf("got %+v", i)
			}
			r.Close()
			r = p.open(changed) // a restart brings no other answer
			if i := infoOf(t, r, "main"); i.State != "rebind-required" {
				t.Errorf("got %+v", i)
			}
			useRefused(t, r, "main", fault.KeyRebindRequired, "")
			must(t, r.Rebind(t.Context(), "main"))
			signsWith(t, r, "main", "beta")
			r.Close()
			r = p.open(with(changed, func(s *Spec) { s.Version = 1 })) // rebound with the others
			signsWith(t, r, "main", "alpha")
			r.Apply([]Spec{hmacSpec("main")})
			useRefused(t, r, "main", fault.KeyRebindRequired, "")
		})
	}
}

func TestAnEditThatIsTakenBackNeedsNoRebind(t *testing.T) {
	r := newPlace(t).open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	r.Apply([]Spec{with(hmacSpec("main"), func(s *Spec) { s.Hosts = nil })})
	useRefused(t, r, "main", fault.KeyRebindRequired, "")
	r.Apply([]Spec{with(hmacSpec("main"), func(s *Spec) { slices.Reverse(s.Hosts) })}) // their order means nothing
	signsWith(t, r, "main", "alpha")
}

func TestWhatCannotBeRebound(t *testing.T) {
	for what, change := range map[string]func(*Spec){
		"venue":           func(s *Spec) { s.Venue = "okx" },
		"environment":     func(s *Spec) { s.Environment = "testnet" },
		"algorithm":       func(s *Spec) { s.Algorithm = HMACSHA512 },
		"protection":      func(s *Spec) { s.Protection = Resident },
		"secret encoding": func(s *Spec) { s.SecretEncoding = credential.Base64 },
	} {
		t.Run(what, func(t *testing.T) {
			r := newPlace(t).open(hmacSpec("main"))
			mustImport(t, r, "main", "alpha")
			r.Apply([]Spec{with(hmacSpec("main"), change)})
			useRefused(t, r, "main", fault.KeyRebindRequired, "sealsign key import main")
			err := r.Rebind(t.Context(), "main")
			refused(t, err, fault.KeyRebindRequired, "sealsign key import main")
			if !strings.Contains(err.Error(), what) {
				t.Errorf("%v doesn't say what", err)
			}
			r.Apply([]Spec{hmacSpec("main")})
			signsWith(t, r, "main", "alpha")
		})
	}
}
