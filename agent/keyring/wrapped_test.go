package keyring

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/agent/wrap"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// importer is an SSH key of a person who wraps.
type importer struct{ ssh.Signer }

func newImporter(t *testing.T) importer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	return importer{signer}
}

func (i importer) public() []byte { return ssh.MarshalAuthorizedKey(i.PublicKey()) }

// wraps makes a blob of a credential for the key of a spec and the TPM of d.
func (i importer) wraps(t *testing.T, d *tpm.Device, s Spec, at time.Time, text []byte, change ...func(*wrap.Request)) *wrap.Blob {
	t.Helper()
	key, err := d.StorageKey(t.Context())
	must(t, err)
	given, err := credential.Parse(text)
	must(t, err)
	defer given.Wipe()
	r := &wrap.Request{
		Key: s.Name, Host: wrap.NewHost("alpha", s.Environment, key), Target: key, Created: at,
		Importer: wrap.Importer{Name: "alice", Fingerprint: ssh.FingerprintSHA256(i.PublicKey())},
		Binding: wrap.Binding{
			Venue: s.Venue, Environment: s.Environment, Algorithm: s.Algorithm, Protection: s.Protection, SecretEncoding: s.SecretEncoding,
			Hosts: slices.Sorted(slices.Values(s.Hosts)), CA: s.CA, Template: s.Template,
		},
	}
	for _, c := range change {
		c(r)
	}
	draft, err := wrap.New(r, given)
	must(t, err)
	signed, err := draft.Text()
	must(t, err)
	signature, err := sshsig.Sign(bytes.NewReader(signed), i, sshsig.HashSHA512, wrap.Namespace)
	must(t, err)
	data, err := draft.Finish(sshsig.Armor(signature))
	must(t, err)
	b, err := wrap.Parse(data)
	must(t, err)
	return b
}

// Every algorithm at both levels comes from elsewhere as it would from here.
func TestWrappedAlgorithms(t *testing.T) {
	p, alice := newPlace(t), newImporter(t)
	for _, c := range []struct {
		algorithm, protection string
		fields                map[string]string
	}{
		{HMACSHA256, Sealed, map[string]string{"secret": "s"}},
		{Ed25519, Sealed, map[string]string{"private_key": pemOfKey(t, ed25519Key())}},
		{None, Sealed, map[string]string{}},
		{HMACSHA256, Resident, map[string]string{"secret": "s"}},
		{HMACSHA512, Resident, map[string]string{"secret": strings.Repeat("s", 200)}},
		{RSASHA256, Resident, map[string]string{"private_key": pemOfKey(t, rsaKey())}},
		{ES256, Resident, map[string]string{"secret": pemOfKey(t, p256Key())}},
	} {
		t.Run(c.protection+" "+c.algorithm, func(t *testing.T) {
			spec := with(hmacSpec(c.protection+"-"+c.algorithm), func(s *Spec) { s.Algorithm, s.Protection, s.Passphrase = c.algorithm, c.protection, true })
			c.fields["api_key"], c.fields["passphrase"] = "id", "open sesame"
			r := p.open(spec)
			if len(r.Importers()) == 0 {
				must(t, r.EnrollImporter("alice", alice.public()))
			}
			n, err := r.ImportWrapped(t.Context(), spec.Name, alice.wraps(t, p.device, spec, p.clock.Now(), credentialJSON(t, c.fields)), false)
			if n != 1 || err != nil {
				t.Fatalf("version %d, %v", n, err)
			}
			r.Close()
			r = p.open(spec)
			defer r.Close()
			u := mustUse(t, r, spec.Name)
			var a Access
			if err := u.Access(&a); err != nil || string(a.APIKey) != "id" || string(a.Passphrase) != "open sesame" {
				t.Fatalf("got %q, %q, %v", a.APIKey, a.Passphrase, err)
			}
			if i := infoOf(t, r, spec.Name); i.Versions[0].Origin != OriginRemote || i.State != string(Active) {
				t.Errorf("%+v", i)
			}
			if c.algorithm == None {
				return
			}
			signature, err := u.Sign(t.Context(), nil, []byte("message"))
			must(t, err)
			if h, isHMAC := credential.HMACHashes[c.algorithm]; isHMAC {
				if !bytes.Equal(signature, hmacOf(h, c.fields["secret"], "message")) {
					t.Error("another HMAC")
				}
				return
			}
			_, public, err := r.PublicPEM(spec.Name, 0)
			must(t, err)
			verify(t, public, []byte("message"), signature)
		})
	}
}

// endorsed has a maker vouch for the TPM that has this endorsement key.
func endorsed(t *testing.T, key crypto.PublicKey) func(*wrap.Request) {
	t.Helper()
	maker, makers := tpmtest.NewMaker(t), wrap.NewMakers()
	must(t, makers.Add(maker.Roots()))
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: maker.Certify(key, nil)})
	return func(r *wrap.Request) {
		var err error
		r.Host.Endorsement = []string{string(certificate)}
		r.Endorsed, err = r.Host.EndorsedBy(makers)
		must(t, err)
	}
}

// What is endorsed opens in the TPM that has the endorsement key. Elsewhere it is refused
// and leaves nothing behind, though the sealing key is the right one.
func TestWrappedEndorsed(t *testing.T) {
	o, alice := tpmtest.Simulator(t), newImporter(t)
	key, theirs := tpmtest.EndorsementKey(t, o, tpmtest.P256), tpmtest.EndorsementKey(t, tpmtest.Swtpm(t), tpmtest.P256)
	p := &place{t: t, dir: newDir(t), device: openTPM(t, o), clock: &clock{now: time.Now()}}
	specs := []Spec{hmacSpec(Sealed), with(hmacSpec(Resident), func(s *Spec) { s.Protection = Resident })}
	r := p.open(specs...)
	must(t, r.EnrollImporter("alice", alice.public()))
	for _, spec := range specs {
		other := alice.wraps(t, p.device, spec, p.clock.Now().Add(time.Second), hmacCredential("id"), endorsed(t, theirs))
		_, err := r.ImportWrapped(t.Context(), spec.Name, other, false)
		refused(t, err, fault.WrappedMismatch, "without --endorsed-by")
		b := alice.wraps(t, p.device, spec, p.clock.Now(), hmacCredential("id"), endorsed(t, key))
		if n, err := r.ImportWrapped(t.Context(), spec.Name, b, false); n != 1 || err != nil {
			t.Fatalf("%s: version %d, %v", spec.Name, n, err)
		}
		if _, err := mustUse(t, r, spec.Name).Sign(t.Context(), nil, []byte("message")); err != nil {
			t.Error(err)
		}
	}
}

// What isn't for this host, this config and this moment, by someone enrolled, is refused.
func TestWrappedRefusals(t *testing.T) {
	p, alice, mallory := newPlace(t), newImporter(t), newImporter(t)
	spec, text := hmacSpec("main"), hmacCredential("alpha")
	r := p.open(spec, hmacSpec("other"))
	must(t, r.EnrollImporter("alice", alice.public()))
	must(t, r.EnrollImporter("mallory", mallory.public()))
	must(t, r.RemoveImporter("mallory"))
	now := p.clock.Now()
	elsewhere := openTPM(t, tpmtest.Swtpm(t))
	binding := func(change func(*wrap.Binding)) func(*wrap.Request) {
		return func(r *wrap.Request) { change(&r.Binding) }
	}
	for name, c := range map[string]struct {
		blob   *wrap.Blob
		reason fault.Reason
		says   string
	}{
		"an unknown signer":       {newImporter(t).wraps(t, p.device, spec, now, text), fault.ImporterUnknown, "no importer"},
		"a removed signer":        {mallory.wraps(t, p.device, spec, now, text), fault.ImporterUnknown, "no importer"},
		"another host's":          {alice.wraps(t, elsewhere, spec, now, text), fault.WrappedMismatch, "another host: alpha"},
		"another environment's":   {alice.wraps(t, p.device, with(spec, func(s *Spec) { s.Environment = "testnet" }), now, text), fault.WrappedMismatch, "environment"},
		"another key's":           {alice.wraps(t, p.device, hmacSpec("other"), now, text), fault.WrappedMismatch, `"other"`},
		"of another venue":        {alice.wraps(t, p.device, spec, now, text, binding(func(b *wrap.Binding) { b.Venue = "bybit" })), fault.WrappedMismatch, "venue"},
		"for other hosts":         {alice.wraps(t, p.device, spec, now, text, binding(func(b *wrap.Binding) { b.Hosts = []string{"evil.example"} })), fault.WrappedMismatch, "hosts"},
		"of another algorithm":    {alice.wraps(t, p.device, spec, now, text, binding(func(b *wrap.Binding) { b.Algorithm = HMACSHA512 })), fault.WrappedMismatch, "algorithm"},
		"of another protection":   {alice.wraps(t, p.device, spec, now, text, binding(func(b *wrap.Binding) { b.Protection = Resident })), fault.WrappedMismatch, "protection"},
		"of another encoding":     {alice.wraps(t, p.device, spec, now, hmacCredential("YQ=="), binding(func(b *wrap.Binding) { b.SecretEncoding = "base64" })), fault.WrappedMismatch, "secret encoding"},
		"for another CA":          {alice.wraps(t, p.device, spec, now, text, binding(func(b *wrap.Binding) { b.CA = "00" })), fault.WrappedMismatch, "CA"},
		"with another template":   {alice.wraps(t, p.device, spec, now, text, binding(func(b *wrap.Binding) { b.Template = "{body}" })), fault.WrappedMismatch, "template"},
		"made in the future":      {alice.wraps(t, p.device, spec, now.Add(6*time.Minute), text), fault.ClockSkew, "not come yet"},
		"with a passphrase more":  {alice.wraps(t, p.device, spec, now, []byte(`{"api_key":"k","secret":"s","passphrase":"p"}`)), fault.BadRequest, "takes none"},
		"of a key that isn't one": {alice.wraps(t, p.device, hmacSpec("nobodys"), now, text), fault.KeyUnknown, "no key nobodys"},
	} {
		key := "main"
		if c.reason == fault.KeyUnknown {
			key = "nobodys"
		}
		_, err := r.ImportWrapped(t.Context(), key, c.blob, false)
		if f, ok := errors.AsType[*fault.Error](err); !ok || f.Reason != c.reason || !strings.Contains(f.Message, c.says) || f.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i := infoOf(t, r, "main"); len(i.Versions) != 0 {
		t.Errorf("there are versions: %+v", i)
	}
	n, err := r.ImportWrapped(t.Context(), "main", alice.wraps(t, p.device, spec, now.Add(time.Second), text), false) // within the tolerance
	if n != 1 || err != nil {
		t.Errorf("version %d, %v", n, err)
	}
}

// Neither the same again nor an older one is taken, after a restart, a revocation and a
// recovery too; another key isn't held up by it.
func TestWrappedReplays(t *testing.T) {
	p, alice := newPlace(t), newImporter(t)
	spec := hmacSpec("main")
	r := p.open(spec, hmacSpec("other"))
	must(t, r.EnrollImporter("alice", alice.public()))
	old := alice.wraps(t, p.device, spec, p.clock.Now(), hmacCredential("old"))
	taken := alice.wraps(t, p.device, spec, p.clock.Now().Add(time.Second), hmacCredential("new"))
	same := alice.wraps(t, p.device, spec, p.clock.Now().Add(time.Second), hmacCredential("same"))
	_, err := r.ImportWrapped(t.Context(), "main", taken, false)
	must(t, err)
	check := func(when string) {
		t.Helper()
		for what, b := range map[string]*wrap.Blob{"taken already": taken, "a newer one of main": old, "a newer one": same} {
			_, err := r.ImportWrapped(t.Context(), "main", b, false)
			if !errors.Is(err, fault.WrappedReplayed) || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: %v, want %q", when, err, what)
			}
		}
	}
	check("at once")
	r.Close()
	r = p.open(spec, hmacSpec("other"))
	check("after a restart")
	must(t, r.Revoke("main", 0))
	check("after a revocation")
	_, err = r.ImportWrapped(t.Context(), "other", alice.wraps(t, p.device, hmacSpec("other"), p.clock.Now(), hmacCredential("o")), false)
	must(t, err)
	signsWith(t, r, "other", "o")
	p.clock.add(time.Minute)
	n, err := r.ImportWrapped(t.Context(), "main", alice.wraps(t, p.device, spec, p.clock.Now(), hmacCredential("newer")), false)
	if n != 2 || err != nil {
		t.Fatalf("version %d, %v", n, err)
	}
	signsWith(t, r, "main", "newer")
	r.Close()
	must(t, os.Remove(filepath.Join(p.dir, "anchor.json")))
	r = p.open(spec, hmacSpec("other"))
	_, err = r.Recover(t.Context())
	must(t, err)
	if len(r.Importers()) != 0 {
		t.Error("importers of a manifest that isn't trusted may import")
	}
	must(t, r.EnrollImporter("alice", alice.public()))
	check("after a recovery")
}

// A blob whose version could not be written may come again.
func TestWrappedOnAFullDisk(t *testing.T) {
	p, alice := newPlace(t), newImporter(t)
	full := false
	p.fs.Rename = func(from, to string) error {
		if full && filepath.Base(to) == manifestName {
			return syscall.ENOSPC
		}
		return syscall.Rename(from, to)
	}
	spec := hmacSpec("main")
	r := p.open(spec)
	must(t, r.EnrollImporter("alice", alice.public()))
	b := alice.wraps(t, p.device, spec, p.clock.Now(), hmacCredential("alpha"))
	full = true
	_, err := r.ImportWrapped(t.Context(), "main", b, false)
	refused(t, err, fault.StoreUnavailable, "free space")
	refused(t, r.EnrollImporter("bob", newImporter(t).public()), fault.StoreUnavailable, "free space")
	if _, enrolled := r.Importers()["bob"]; enrolled {
		t.Error("bob is enrolled all the same")
	}
	full = false
	_, err = r.ImportWrapped(t.Context(), "main", b, false)
	must(t, err)
	signsWith(t, r, "main", "alpha")
}

// What came by the inbox never is the wanted one until the config names it.
func TestInboxVersionsWait(t *testing.T) {
	p, alice := newPlace(t), newImporter(t)
	spec := hmacSpec("main")
	r := p.open(spec)
	must(t, r.EnrollImporter("alice", alice.public()))
	by := func(secret string) int {
		t.Helper()
		p.clock.add(time.Minute)
		n, err := r.ImportWrapped(t.Context(), "main", alice.wraps(t, p.device, spec, p.clock.Now(), hmacCredential(secret)), true)
		must(t, err)
		return n
	}
	by("first")
	useRefused(t, r, "main", fault.KeyPending, "set version")
	mustImport(t, r, "main", "operator")
	by("third")
	r.Close()
	r = p.open(spec)
	signsWith(t, r, "main", "operator")
	if i := infoOf(t, r, "main"); i.Wanted != 2 || i.Versions[0].State != Pending || i.Versions[2].State != Pending {
		t.Errorf("%+v", i)
	}
	r.Apply([]Spec{with(spec, func(s *Spec) { s.Version = 3 })})
	eventually(t, "the named version signs", func() bool { return infoOf(t, r, "main").Active == 3 })
	signsWith(t, r, "main", "third")
}

func TestImporters(t *testing.T) {
	p := newPlace(t)
	r := p.open()
	alice := newImporter(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	weak, err := ssh.NewPublicKey(small.Public())
	must(t, err)
	for name, text := range map[string]string{
		"noise": "noise", "a private key": "-----BEGIN OPENSSH PRIVATE KEY-----\n", "two keys": string(alice.public()) + string(newImporter(t).public()),
		"with options": `command="x" ` + string(alice.public()), "weak": string(ssh.MarshalAuthorizedKey(weak)), "large": strings.Repeat("x", maxPublicKey+1),
	} {
		if err := r.EnrollImporter("alice", []byte(text)); !errors.Is(err, fault.BadRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "../up", "a b"} {
		refused(t, r.EnrollImporter(name, alice.public()), fault.BadRequest, "a name has")
	}
	must(t, r.EnrollImporter("alice", alice.public()))
	refused(t, r.EnrollImporter("alice", newImporter(t).public()), fault.BadRequest, "importer remove alice")
	refused(t, r.EnrollImporter("other", alice.public()), fault.BadRequest, "importer list")
	r.Close()
	r = p.open()
	eventually(t, "the store is proved", func() bool { return r.Proved() == nil })
	if got := r.Importers()["alice"]; got.Fingerprint() != ssh.FingerprintSHA256(alice.PublicKey()) || got.EnrolledAt.IsZero() {
		t.Errorf("after a restart: %+v", got)
	}
	must(t, r.RemoveImporter("alice"))
	refused(t, r.RemoveImporter("alice"), fault.ImporterUnknown, "importer list")
}

// An importer who is removed while the TPM is away is none when it comes, nor after that.
// Where the manifest can't be read, nobody is said to be none.
func TestAnImporterIsRemovedWithoutTheTPM(t *testing.T) {
	p := newPlace(t)
	r := p.open()
	alice := newImporter(t)
	must(t, r.EnrollImporter("alice", alice.public()))
	must(t, r.EnrollImporter("bob", newImporter(t).public()))
	r.Close()
	device := p.device
	p.device = nil
	r = p.open()
	refused(t, r.RemoveImporter("alice"), fault.StoreUnavailable, "tried again")
	r.SetTPM(device)
	p.clock.add(retryLoad)
	must(t, r.Anchored())
	r.Close()
	p.device = device
	for _, r := range []*Ring{r, p.open()} {
		if got := slices.Collect(maps.Keys(r.Importers())); !slices.Equal(got, []string{"bob"}) {
			t.Errorf("enrolled are %v", got)
		}
	}

	must(t, os.Remove(r.store.manifest()))
	must(t, os.Mkdir(r.store.key("main"), 0o700))
	refused(t, p.open().RemoveImporter("bob"), fault.StoreUntrusted, "store recover")
}

// A manifest whose importers can't be is refused, and the first format, which had
// none, is read.
func TestManifestsImporters(t *testing.T) {
	m := &manifest{Format: stateFormat, Importers: map[string]Importer{"alice": {PublicKey: "noise"}}}
	if err := m.check(); err == nil {
		t.Error("an importer without a key is taken")
	}
	text, err := json.Marshal(&manifest{Format: stateFormat, Keys: map[string]map[int]State{}})
	must(t, err)
	if bytes.Contains(text, []byte("importers")) || bytes.Contains(text, []byte("taken")) {
		t.Errorf("a manifest without importers says %s", text)
	}
}
