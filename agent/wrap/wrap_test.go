package wrap_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func refused(t *testing.T, err error, reason fault.Reason, words string) {
	t.Helper()
	if !errors.Is(err, reason) || !strings.Contains(err.Error(), words) {
		t.Fatalf("got %v, want %s with %q", err, reason, words)
	}
}

func open(t testing.TB) *tpm.Device { return opened(t, tpmtest.Swtpm(t)) }

func opened(t testing.TB, o tpm.Options) *tpm.Device {
	t.Helper()
	d := must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// document is what the host of d would print.
func document(t testing.TB, d *tpm.Device, certificates ...[]byte) []byte {
	t.Helper()
	h := wrap.NewHost("alpha", "production", must[*tpm.StorageKey](t)(d.StorageKey(t.Context())))
	attestor, _, err := d.Attestor(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	h.TPM = wrap.Chip{Manufacturer: "IBM", Firmware: "1.2", Software: true}
	for _, der := range certificates {
		h.Endorsement = append(h.Endorsement, certificate(der))
	}
	der := must[[]byte](t)(x509.MarshalPKIXPublicKey(attestor.Public()))
	h.CheckpointKey = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	h.Attestation = must[*tpm.Certification](t)(attestor.CertifyStorageKey(t.Context(), must[[]byte](t)(h.Qualifying())))
	return must[[]byte](t)(json.MarshalIndent(h, "", "  "))
}

func signer(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return must[ssh.Signer](t)(ssh.NewSignerFromKey(key))
}

func request(t testing.TB, d *tpm.Device, by ssh.Signer) *wrap.Request {
	t.Helper()
	host, key, err := wrap.ParseHost(document(t, d))
	if err != nil {
		t.Fatal(err)
	}
	return &wrap.Request{
		Key: "main", Host: host, Target: key, Created: time.Now(),
		Importer: importer(by),
		Binding: wrap.Binding{
			Venue: "binance", Environment: "production", Algorithm: "hmac-sha256", Protection: "sealed", SecretEncoding: "raw", Hosts: []string{"api.binance.com"},
		},
	}
}

func importer(by ssh.Signer) wrap.Importer {
	return wrap.Importer{Name: "alice", Fingerprint: ssh.FingerprintSHA256(by.PublicKey())}
}

func given(t testing.TB) *credential.Credential {
	t.Helper()
	return must[*credential.Credential](t)(credential.Parse([]byte(`{"api_key":"id","secret":"FAKE-secret"}`)))
}

// blob is a signed one.
func blob(t testing.TB, r *wrap.Request, by ssh.Signer) []byte {
	t.Helper()
	draft := must[*wrap.Draft](t)(wrap.New(r, given(t)))
	s := must[*sshsig.Signature](t)(sshsig.Sign(bytes.NewReader(must[[]byte](t)(draft.Text())), by, sshsig.HashSHA512, wrap.Namespace))
	return must[[]byte](t)(draft.Finish(sshsig.Armor(s)))
}

func TestWrapAndOpen(t *testing.T) {
	d, alice := open(t), signer(t)
	r := request(t, d, alice)
	data := blob(t, r, alice)
	if bytes.Contains(data, []byte("FAKE")) {
		t.Fatal("the secret is in it")
	}
	b := must[*wrap.Blob](t)(wrap.Parse(data))
	if b.Header.Key != "main" || b.Header.Target != r.Host.Name || b.Header.TargetHost != "alpha" || !b.Header.Created.Equal(r.Created) || b.Object != nil {
		t.Errorf("%+v", b.Header)
	}
	kek := make([]byte, credential.KEKSize)
	must[int](t)(d.Unseal(t.Context(), must[*tpm.KeyFile](t)(d.Import(t.Context(), b.KEK)), kek))
	c := must[*credential.Credential](t)(b.Open(kek))
	if string(c.Secret) != "FAKE-secret" || string(c.APIKey) != "id" {
		t.Errorf("%q, %q", c.APIKey, c.Secret)
	}
	kek[0] ^= 1
	_, err := b.Open(kek)
	refused(t, err, fault.WrappedInvalid, "doesn't open it")
}

// Every changed byte of a blob is refused, and so are other lengths.
func TestChangedBlobs(t *testing.T) {
	d, alice := open(t), signer(t)
	data := blob(t, request(t, d, alice), alice)
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1 << (i % 8)
		if _, err := wrap.Parse(changed); !errors.Is(err, fault.WrappedInvalid) {
			t.Fatalf("byte %d may be changed: %v", i, err)
		}
	}
	for _, other := range [][]byte{nil, data[:len(data)-1], append(bytes.Clone(data), '\n'), append([]byte("\n"), data...), make([]byte, wrap.MaxBlob+1)} {
		_, err := wrap.Parse(other)
		refused(t, err, fault.WrappedInvalid, "isn't taken")
	}
}

func TestSignatures(t *testing.T) {
	d, alice, mallory := open(t), signer(t), signer(t)
	r := request(t, d, alice)
	draft := must[*wrap.Draft](t)(wrap.New(r, given(t)))
	text := must[[]byte](t)(draft.Text())
	by := func(by ssh.Signer, text []byte, namespace string) []byte {
		return sshsig.Armor(must[*sshsig.Signature](t)(sshsig.Sign(bytes.NewReader(text), by, sshsig.HashSHA256, namespace)))
	}
	_, err := draft.Finish(by(alice, text, "git"))
	refused(t, err, fault.WrappedInvalid, `made for "git"`)
	_, err = draft.Finish(by(mallory, text, wrap.Namespace))
	refused(t, err, fault.WrappedInvalid, "another key has signed it than it says")
	_, err = draft.Finish(by(alice, text[1:], wrap.Namespace))
	refused(t, err, fault.WrappedInvalid, "its signature is wrong")
	_, err = draft.Finish([]byte("no signature"))
	refused(t, err, fault.BadRequest, "can't be read")

	padded := must[*sshsig.Signature](t)(sshsig.Sign(bytes.NewReader(text), alice, sshsig.HashSHA256, wrap.Namespace))
	padded.Signature.Rest = []byte("more")
	_, err = draft.Finish(sshsig.Armor(padded))
	refused(t, err, fault.WrappedInvalid, "its signature is wrong")

	other := signer(t)
	signed := blob(t, r, alice)
	cut := bytes.Index(signed, []byte("-----BEGIN SSH SIG"))
	resigned := append(bytes.Clone(signed[:cut]), by(other, signed[:cut], wrap.Namespace)...)
	_, err = wrap.Parse(resigned)
	refused(t, err, fault.WrappedInvalid, "another key has signed it than it says")
}

// ssh-keygen signs with every kind of key that it makes without a device, and anybody
// can verify with it what was signed.
func TestStockSSHKeygen(t *testing.T) {
	d, dir := open(t), t.TempDir()
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		key := filepath.Join(dir, kind)
		run(t, nil, "-q", "-t", kind, "-N", "", "-f", key)
		public, _, _, _, err := ssh.ParseAuthorizedKey(must[[]byte](t)(os.ReadFile(key + ".pub")))
		if err != nil {
			t.Fatal(err)
		}
		r := request(t, d, signer(t))
		r.Importer.Fingerprint = ssh.FingerprintSHA256(public)
		draft := must[*wrap.Draft](t)(wrap.New(r, given(t)))
		signature := run(t, must[[]byte](t)(draft.Text()), "-q", "-Y", "sign", "-n", wrap.Namespace, "-f", key)
		data := must[[]byte](t)(draft.Finish(signature))
		b := must[*wrap.Blob](t)(wrap.Parse(data))
		if !bytes.Equal(b.Signer.Marshal(), public.Marshal()) {
			t.Error("another signer")
		}
		at := bytes.Index(data, []byte("-----BEGIN SSH SIG"))
		for name, content := range map[string][]byte{"sig": data[at:], "allowed": append([]byte("alice "), ssh.MarshalAuthorizedKey(public)...)} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		run(t, data[:at], "-Y", "verify", "-n", wrap.Namespace, "-I", "alice", "-f", filepath.Join(dir, "allowed"), "-s", filepath.Join(dir, "sig"))
	}
}

func run(t *testing.T, input []byte, args ...string) []byte {
	t.Helper()
	command := exec.Command("ssh-keygen", args...)
	command.Stdin, command.Stderr = bytes.NewReader(input), t.Output()
	output, err := command.Output()
	if err != nil {
		t.Fatalf("ssh-keygen %v: %v (apt-get install openssh-client)", args, err)
	}
	return output
}

func TestWhatIsNotWrapped(t *testing.T) {
	d, alice := open(t), signer(t)
	for _, c := range []struct {
		change func(*wrap.Request)
		reason fault.Reason
		words  string
	}{
		{func(r *wrap.Request) { r.Binding.Environment = "testnet" }, fault.WrappedMismatch, "belongs to testnet"},
		{func(r *wrap.Request) { r.Binding.Protection = "generated" }, fault.KeyUnsupported, "nothing to wrap"},
		{func(r *wrap.Request) { r.Binding.Algorithm = "rsa-sha256" }, fault.BadRequest, "no PEM"},
		{func(r *wrap.Request) { r.Binding.Algorithm = "none" }, fault.BadRequest, "all that algorithm none takes"},
	} {
		r := request(t, d, alice)
		c.change(r)
		_, err := wrap.New(r, given(t))
		refused(t, err, c.reason, c.words)
	}
}

// A resident key's clear secret is in no part of the blob that the target decrypts.
func TestResidentLeavesNoSecret(t *testing.T) {
	d, alice := open(t), signer(t)
	curve := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	large := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	for algorithm, secret := range map[string]any{"hmac-sha256": nil, "hmac-sha512": nil, "es256": curve, "rsa-sha256": large} {
		r := request(t, d, alice)
		r.Binding.Algorithm, r.Binding.Protection = algorithm, "resident"
		c := given(t)
		if secret != nil {
			der := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(secret))
			text := must[[]byte](t)(json.Marshal(map[string]string{
				"api_key": "id", "private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
			}))
			c = must[*credential.Credential](t)(credential.Parse(text))
		}
		draft := must[*wrap.Draft](t)(wrap.New(r, c))
		s := must[*sshsig.Signature](t)(sshsig.Sign(bytes.NewReader(must[[]byte](t)(draft.Text())), alice, sshsig.HashSHA512, wrap.Namespace))
		b := must[*wrap.Blob](t)(wrap.Parse(must[[]byte](t)(draft.Finish(sshsig.Armor(s)))))
		kek := make([]byte, credential.KEKSize)
		must[int](t)(d.Unseal(t.Context(), must[*tpm.KeyFile](t)(d.Import(t.Context(), b.KEK)), kek))
		opened := must[*credential.Credential](t)(b.Open(kek))
		if b.Object == nil || opened.Secret != nil || opened.PrivateKey != nil || len(opened.Auth) != 2*tpm.AuthSize || string(opened.APIKey) != "id" {
			t.Errorf("%s: %q %q", algorithm, opened.APIKey, opened.Auth)
		}
	}
}

func TestHosts(t *testing.T) {
	good := document(t, open(t))
	if _, _, err := wrap.ParseHost(good); err != nil {
		t.Fatal(err)
	}
	other := document(t, open(t))
	part := func(document []byte, name string) []byte {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(document, &fields); err != nil {
			t.Fatal(err)
		}
		return fields[name]
	}
	for _, field := range []string{"host", "environment", "name", "sealing_key", "tpm", "checkpoint_key", "endorsement_certificates", "attestation", "format"} {
		replacement := map[string][]byte{
			"host": []byte(`"beta"`), "environment": []byte(`"testnet"`), "tpm": []byte(`{"manufacturer":"IFX","firmware":"1","software":false}`),
			"endorsement_certificates": []byte(`["x"]`), "format": []byte("2"),
		}[field]
		if replacement == nil {
			replacement = part(other, field)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(good, &fields); err != nil {
			t.Fatal(err)
		}
		fields[field] = replacement
		if _, _, err := wrap.ParseHost(must[[]byte](t)(json.Marshal(fields))); !errors.Is(err, fault.BadRequest) {
			t.Errorf("with another %s: %v", field, err)
		}
		delete(fields, field)
		if _, _, err := wrap.ParseHost(must[[]byte](t)(json.Marshal(fields))); err == nil {
			t.Errorf("without %s it is taken", field)
		}
	}
	for _, data := range [][]byte{nil, []byte("{}"), append(bytes.Clone(good), "{}"...), make([]byte, wrap.MaxHost+1)} {
		if _, _, err := wrap.ParseHost(data); !errors.Is(err, fault.BadRequest) {
			t.Errorf("%.20q: %v", data, err)
		}
	}
}

// What the formats' first versions wrote is read for good.
func TestFirstFormatsAreRead(t *testing.T) {
	for _, name := range []string{"sealed", "resident", "sealed-endorsed", "resident-endorsed"} {
		protection, _, endorsed := strings.Cut(name, "-")
		b := must[*wrap.Blob](t)(wrap.Parse(must[[]byte](t)(os.ReadFile("testdata/" + name + ".wrapped"))))
		if b.Header.Key != "main" || b.Header.Protection != protection || (b.KEK == nil) != endorsed {
			t.Errorf("%s: %+v", name, b.Header)
		}
		if endorsed {
			if err := b.Release(must[[]byte](t)(os.ReadFile("testdata/" + name + ".released"))); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if (b.Object != nil) != (protection == "resident") || b.KEK == nil {
			t.Errorf("%s has keys of another kind", name)
		}
	}
	if _, _, err := wrap.ParseHost(must[[]byte](t)(os.ReadFile("testdata/host.json"))); err != nil {
		t.Error(err)
	}
}

// FuzzBlob: nothing crashes the parser, and what it takes is what was signed.
func FuzzBlob(f *testing.F) {
	d, alice := open(f), signer(f)
	good := blob(f, request(f, d, alice), alice)
	f.Add(good)
	for _, name := range []string{"sealed", "resident", "sealed-endorsed", "resident-endorsed"} {
		f.Add(must[[]byte](f)(os.ReadFile("testdata/" + name + ".wrapped")))
	}
	f.Add(good[:len(good)/2])
	f.Add(bytes.ReplaceAll(good, []byte("TSS2"), []byte("SSH SIGNATURE")))
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := wrap.Parse(data); err == nil && ssh.FingerprintSHA256(b.Signer) != b.Header.Importer.Fingerprint {
			t.Fatal("another signer")
		}
	})
}

// FuzzHost: nothing crashes the parser.
func FuzzHost(f *testing.F) {
	f.Add(must[[]byte](f)(os.ReadFile("testdata/host.json")))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _, _ = wrap.ParseHost(data) })
}
