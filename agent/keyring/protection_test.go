package keyring

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

func TestEveryAlgorithmAtEveryLevel(t *testing.T) {
	p := newPlace(t)
	for _, c := range []struct {
		algorithm, protection string
		fields                map[string]string
	}{
		{HMACSHA256, Sealed, map[string]string{"secret": "s"}},
		{HMACSHA384, Sealed, map[string]string{"secret": "s"}},
		{HMACSHA512, Sealed, map[string]string{"secret": "s"}},
		{RSASHA256, Sealed, map[string]string{"private_key": pemOfKey(t, rsaKey())}},
		{ES256, Sealed, map[string]string{"secret": pemOfKey(t, p256Key())}},
		{Ed25519, Sealed, map[string]string{"private_key": pemOfKey(t, ed25519Key())}},
		{HMACSHA256, Resident, map[string]string{"secret": "s"}},
		{HMACSHA384, Resident, map[string]string{"secret": "s"}},
		{HMACSHA512, Resident, map[string]string{"secret": "s"}},
		{RSASHA256, Resident, map[string]string{"private_key": pemOfKey(t, rsaKey())}},
		{ES256, Resident, map[string]string{"private_key": pemOfKey(t, p256Key())}},
	} {
		t.Run(c.protection+" "+c.algorithm, func(t *testing.T) {
			spec := with(hmacSpec(c.protection+"-"+c.algorithm), func(s *Spec) {
				s.Algorithm, s.Protection, s.Passphrase = c.algorithm, c.protection, true
			})
			r := p.open(spec)
			c.fields["api_key"], c.fields["passphrase"] = "id", "open sesame"
			if _, err := r.Import(t.Context(), spec.Name, credentialJSON(t, c.fields)); err != nil {
				t.Fatal(err)
			}
			r.Close()
			r = p.open(spec)
			u := mustUse(t, r, spec.Name)
			var a Access
			if err := u.Access(&a); err != nil || string(a.APIKey) != "id" || string(a.Passphrase) != "open sesame" {
				t.Fatalf("got %q, %q, %v", a.APIKey, a.Passphrase, err)
			}
			message := bytes.Repeat([]byte("m"), 3000) // more than one command of the TPM takes
			prefix := []byte("kept:")
			signature, err := u.Sign(t.Context(), prefix, message)
			if err != nil || !bytes.HasPrefix(signature, prefix) {
				t.Fatalf("%q, %v", signature, err)
			}
			signature = signature[len(prefix):]
			_, public, err := r.PublicPEM(spec.Name, 0)
			if h, isHMAC := credential.HMACHashes[c.algorithm]; isHMAC {
				refused(t, err, fault.KeyUnsupported, "")
				if !bytes.Equal(signature, hmacOf(h, "s", string(message))) {
					t.Fatal("another HMAC")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			verify(t, public, message, signature)
		})
	}
}

func TestStaticHeaderHasAnAPIKeyAlone(t *testing.T) {
	spec := with(hmacSpec("static"), func(s *Spec) { s.Algorithm = None })
	r := newPlace(t).open(spec)
	if _, err := r.Import(t.Context(), "static", []byte(`{"api_key":"id"}`)); err != nil {
		t.Fatal(err)
	}
	u := mustUse(t, r, "static")
	var a Access
	if err := u.Access(&a); err != nil || string(a.APIKey) != "id" {
		t.Fatal(a, err)
	}
	if _, err := u.Sign(t.Context(), nil, nil); err == nil {
		t.Fatal("it signs")
	}
	_, err := r.Import(t.Context(), "static", hmacCredential("s"))
	refused(t, err, fault.BadRequest, "")
}

func TestGeneratedKeyIsCompletedByItsAPIKey(t *testing.T) {
	for _, algorithm := range []string{RSASHA256, ES256} {
		t.Run(algorithm, func(t *testing.T) {
			p := newPlace(t)
			spec := with(hmacSpec("gen"), func(s *Spec) { s.Algorithm, s.Protection = algorithm, Generated })
			r := p.open(spec)
			useRefused(t, r, "gen", fault.KeyEmpty, "sealsign key generate gen")
			_, err := r.Import(t.Context(), "gen", []byte(`{"api_key":"id"}`))
			refused(t, err, fault.KeyEmpty, "generate")

			n, public, err := r.Generate(t.Context(), "gen")
			if err != nil || n != 1 {
				t.Fatal(n, err)
			}
			useRefused(t, r, "gen", fault.KeyPending, "sealsign key import gen")
			if i := infoOf(t, r, "gen"); i.State != "pending" || i.Active != 0 || i.Versions[0].State != Pending || i.Versions[0].Origin != OriginGenerated {
				t.Fatalf("got %+v", i)
			}
			_, err = r.Import(t.Context(), "gen", hmacCredential("s"))
			refused(t, err, fault.BadRequest, "")

			r.Close()
			r = p.open(spec)
			if n, err := r.Import(t.Context(), "gen", []byte(`{"api_key":"id"}`)); err != nil || n != 1 {
				t.Fatal(n, err)
			}
			if n, shown, err := r.PublicPEM("gen", 0); n != 1 || err != nil || !bytes.Equal(shown, public) {
				t.Fatal("another public key", err)
			}
			signature, err := mustUse(t, r, "gen").Sign(t.Context(), nil, []byte("message"))
			if err != nil {
				t.Fatal(err)
			}
			verify(t, public, []byte("message"), signature)
		})
	}
}

func TestGeneratingTheNextVersionLeavesTheActiveOne(t *testing.T) {
	spec := with(hmacSpec("gen"), func(s *Spec) { s.Algorithm, s.Protection = ES256, Generated })
	r := newPlace(t).open(spec)
	for range 2 {
		if _, _, err := r.Generate(t.Context(), "gen"); err != nil {
			t.Fatal(err)
		}
		if n, err := r.Import(t.Context(), "gen", []byte(`{"api_key":"id"}`)); err != nil {
			t.Fatal(n, err)
		}
	}
	if _, _, err := r.Generate(t.Context(), "gen"); err != nil {
		t.Fatal(err)
	}
	if u := mustUse(t, r, "gen"); u.Version() != 2 {
		t.Fatalf("version %d signs", u.Version())
	}
	if err := r.Revoke("gen", 3); err != nil { // its API key never came
		t.Fatal(err)
	}
	if u := mustUse(t, r, "gen"); u.Version() != 2 {
		t.Fatalf("version %d signs", u.Version())
	}
}

func TestWhatCannotBeIsRefusedWithWhatCan(t *testing.T) {
	r := newPlace(t).open()
	for _, c := range []struct{ algorithm, protection, hint string }{
		{Ed25519, Resident, `protection = "sealed"`},
		{None, Resident, `protection = "sealed"`},
		{HMACSHA256, Generated, `protection = "sealed"`},
		{Ed25519, Generated, `protection = "sealed"`},
		{HMACSHA256, "encrypted", `"sealed", "resident" or "generated"`},
		{"md5", Sealed, ""},
	} {
		spec := with(hmacSpec("k"), func(s *Spec) { s.Algorithm, s.Protection = c.algorithm, c.protection })
		r.Apply([]Spec{spec})
		_, err := r.Import(t.Context(), "k", hmacCredential("s"))
		refused(t, err, fault.KeyUnsupported, c.hint)
		if i := infoOf(t, r, "k"); i.State != "unsupported" || !strings.Contains(i.Next, c.hint) {
			t.Errorf("%s %s: %+v", c.protection, c.algorithm, i)
		}
	}
	spec := hmacSpec("k")
	spec.Protection = Resident
	refused(t, spec.possibleWith([]string{tpm.CanRSA2048}), fault.KeyUnsupported, "it can do rsa-2048")
	_, _, err := newPlaceRing(t, spec).Generate(t.Context(), "k")
	refused(t, err, fault.KeyUnsupported, "sealsign key import k")
}

func TestLargeKeyForATPMWithoutIt(t *testing.T) {
	large, err := rsa.GenerateKey(rand.Reader, 3072)
	must(t, err)
	spec := with(hmacSpec("main"), func(s *Spec) { s.Algorithm, s.Protection = RSASHA256, Resident })
	r := newPlace(t).open(spec)
	credential := map[string]string{"api_key": "id", "private_key": pemOfKey(t, large)}
	_, err = r.Import(t.Context(), "main", credentialJSON(t, credential))
	refused(t, err, fault.KeyUnsupported, "it can do")
	spec.Protection = Sealed
	r.Apply([]Spec{spec})
	_, err = r.Import(t.Context(), "main", credentialJSON(t, credential))
	must(t, err)
}
