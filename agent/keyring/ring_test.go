package keyring

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
)

func TestImportedKeySignsAndOutlivesARestart(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	useRefused(t, r, "main", fault.KeyEmpty, "sealsign key import main")
	useRefused(t, r, "other", fault.KeyUnknown, "[keys.other]")

	credential := hmacCredential("alpha")
	if n, err := r.Import(t.Context(), "main", credential); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if len(bytes.Trim(credential, "\x00")) != 0 {
		t.Fatal("Import leaves the credential in its argument")
	}
	signsWith(t, r, "main", "alpha")
	r.Close()
	useRefused(t, r, "main", fault.AgentUnavailable, "")

	signsWith(t, p.open(hmacSpec("main")), "main", "alpha")
}

func TestNewestImportSignsWhereTheConfigNamesNoVersion(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	old := mustUse(t, r, "main")
	if n := mustImport(t, r, "main", "beta"); n != 2 {
		t.Fatalf("the second import is version %d", n)
	}
	signsWith(t, r, "main", "beta")
	if _, err := old.Sign(t.Context(), nil, nil); err != nil || old.Version() != 1 {
		t.Fatalf("a request that began with version 1 is lost: %v", err)
	}
	i := infoOf(t, r, "main")
	if i.State != "active" || i.Wanted != 2 || i.Active != 2 || i.Problem != "" {
		t.Errorf("got %+v", i)
	}
	want := []VersionInfo{
		{Version: 1, State: Retired, ImportedAt: p.clock.Now(), Origin: OriginImported, DrainsUntil: p.clock.Now().Add(drain)},
		{Version: 2, State: Active, ImportedAt: p.clock.Now(), Origin: OriginImported},
	}
	if !slices.Equal(i.Versions, want) {
		t.Errorf("versions %v, want %v", i.Versions, want)
	}
}

func TestReplacedVersionEndsAfterItsDrain(t *testing.T) {
	r := newPlace(t).open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	old := mustUse(t, r, "main")
	mustImport(t, r, "main", "beta")
	r.retire(old.version, 2)
	_, err := old.Sign(t.Context(), nil, nil)
	refused(t, err, fault.KeyRetired, "again")
	signsWith(t, r, "main", "beta")
}

func TestConfigSwitchesVersions(t *testing.T) {
	p := newPlace(t)
	one := with(hmacSpec("main"), func(s *Spec) { s.Version = 1 })
	r := p.open(one)
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "main", "beta")
	signsWith(t, r, "main", "alpha")
	if i := infoOf(t, r, "main"); i.Wanted != 1 || i.Active != 1 || i.Versions[1].State != Pending {
		t.Fatalf("got %+v", i)
	}
	for _, step := range []struct {
		version int
		secret  string
	}{{2, "beta"}, {1, "alpha"}, {0, "beta"}} {
		r.Apply([]Spec{with(one, func(s *Spec) { s.Version = step.version })})
		eventually(t, fmt.Sprintf("version = %d", step.version), func() bool { i := infoOf(t, r, "main"); return i.Active == i.Wanted })
		signsWith(t, r, "main", step.secret)
	}
}

func TestVersionThatIsMissingLeavesTheOldOneSigning(t *testing.T) {
	p := newPlace(t)
	three := with(hmacSpec("main"), func(s *Spec) { s.Version = 3 })
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "main", "beta")
	r.Apply([]Spec{three})
	check := func(r *Ring) {
		t.Helper()
		i := infoOf(t, r, "main")
		if i.State != "active" || i.Wanted != 3 || i.Active != 2 ||
			i.Problem != "version 3 of key main has not been imported" || i.Next != "sealsign key import main" || i.Reason != fault.KeyEmpty {
			t.Fatalf("got %+v", i)
		}
		signsWith(t, r, "main", "beta")
	}
	check(r)
	r.Close()
	r = p.open(three)
	check(r)
	mustImport(t, r, "main", "gamma")
	signsWith(t, r, "main", "gamma")
}

func TestSwitchWhileTheDaemonWasDown(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "main", "beta")
	r.Close()
	r = p.open(with(hmacSpec("main"), func(s *Spec) { s.Version = 1 }))
	signsWith(t, r, "main", "alpha")
	if i := infoOf(t, r, "main"); i.Active != 1 || i.Versions[1].State != Retired {
		t.Fatalf("got %+v", i)
	}
}

func TestKeyThatLeavesTheConfigStopsSigning(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"), hmacSpec("other"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "other", "beta")
	gone, stays := mustUse(t, r, "main"), mustUse(t, r, "other")
	r.Apply([]Spec{hmacSpec("other")})
	refused(t, gone.Valid(), fault.KeyUnknown, "")
	if err := stays.Valid(); err != nil {
		t.Fatalf("a key whose entry stayed the same was touched: %v", err)
	}
	useRefused(t, r, "main", fault.KeyUnknown, "")
	if i := infoOf(t, r, "main"); i.State != "unconfigured" {
		t.Fatalf("got %+v", i)
	}
	r.Apply([]Spec{hmacSpec("main"), hmacSpec("other")})
	signsWith(t, r, "main", "alpha")
}

func TestPassphraseIsTakenWhereTheVenueHasOne(t *testing.T) {
	r := newPlace(t).open(hmacSpec("without"), with(hmacSpec("with"), func(s *Spec) { s.Passphrase = true }))
	_, err := r.Import(t.Context(), "with", hmacCredential("alpha"))
	refused(t, err, fault.BadRequest, "passphrase")
	_, err = r.Import(t.Context(), "without", []byte(`{"api_key":"k","secret":"s","passphrase":"p"}`))
	refused(t, err, fault.BadRequest, "")
	_, err = r.Import(t.Context(), "with", []byte(`{"api_key":"k","secret":"s","passphrase":"p"}`))
	must(t, err)
	u, access := mustUse(t, r, "with"), new(Access)
	must(t, u.Access(access))
	kept := access.Passphrase
	access.Wipe()
	if u.Algorithm() != HMACSHA256 || kept[0] != 0 || len(access.APIKey) != 0 || len(access.Passphrase) != 0 {
		t.Errorf("%s, %q, %+v", u.Algorithm(), kept, access)
	}
}

func TestDigestFollowsTheManifest(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	seen := map[string]string{r.Digest(): "empty"}
	for what, change := range map[string]func() error{
		"import":  func() error { _, err := r.Import(t.Context(), "main", hmacCredential("alpha")); return err },
		"suspend": func() error { return r.Suspend("main", false) },
	} {
		must(t, change())
		if before, known := seen[r.Digest()]; known {
			t.Errorf("%s gives the digest of %s", what, before)
		}
		seen[r.Digest()] = what
	}
	digest := r.Digest()
	r.Close()
	if again := p.open(hmacSpec("main")).Digest(); again != digest {
		t.Error("a restart changes the digest")
	}
}
