package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"slices"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// storageKey is what another machine knows of d.
func storageKey(t testing.TB, d *tpm.Device) *tpm.StorageKey {
	t.Helper()
	k := must[*tpm.StorageKey](t)(d.StorageKey(t.Context()))
	if !bytes.Equal(k.Name(), d.SRKName()) {
		t.Fatal("the sealing key has another Name than the Device says")
	}
	return must[*tpm.StorageKey](t)(tpm.ParseStorageKey(k.Public()))
}

// imported takes in what was wrapped, as it comes from elsewhere.
func imported(t testing.TB, d *tpm.Device, w *tpm.Wrapped) *tpm.KeyFile {
	t.Helper()
	w = must[*tpm.Wrapped](t)(tpm.ParseWrapped(w.Marshal()))
	return reparsed(t, must[*tpm.KeyFile](t)(d.Import(t.Context(), w)))
}

func testWrappedSecrets(t *testing.T, o tpm.Options) {
	d := open(t, o)
	k := storageKey(t, d)
	for _, size := range []int{1, 32, tpm.MaxSeal} {
		secret := random(t, size)
		f := imported(t, d, must[*tpm.Wrapped](t)(k.WrapSecret(secret)))
		if got, err := unseal(t, d, f); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("of %d bytes: %x, %v", size, got, err)
		}
	}
	for _, size := range []int{0, tpm.MaxSeal + 1} {
		_, err := k.WrapSecret(make([]byte, size))
		wants(t, err, fault.InternalError)
	}
}

func testWrappedHMAC(t *testing.T, o tpm.Options) {
	d := open(t, o)
	k, auth := storageKey(t, d), random(t, tpm.AuthSize)
	for _, h := range hmacs {
		if !slices.Contains(d.Info().Can, h.can) {
			w := must[*tpm.Wrapped](t)(k.WrapHMAC(h.hash, []byte("secret"), auth))
			_, err := d.Import(t.Context(), w)
			wants(t, err, fault.KeyUnsupported, h.can)
			continue
		}
		for _, size := range []int{1, 64, 200} {
			secret, message := random(t, size), random(t, 2000)
			f := imported(t, d, must[*tpm.Wrapped](t)(k.WrapHMAC(h.hash, secret, auth)))
			key := must[*tpm.Key](t)(d.Load(t.Context(), f, auth))
			if got, err := key.HMAC(t.Context(), message); err != nil || !bytes.Equal(got, mac(h.new, secret, message)) {
				t.Errorf("%s with a key of %d bytes: %x, %v", h.can, size, got, err)
			}
			if _, err := unseal(t, d, f); err == nil {
				t.Error("a wrapped key can be unsealed")
			}
			if err := key.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func testWrappedKeys(t *testing.T, o tpm.Options) {
	d := open(t, o)
	k, auth := storageKey(t, d), random(t, tpm.AuthSize)
	digest := sha256.Sum256([]byte("message"))

	ours := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	f := imported(t, d, must[*tpm.Wrapped](t)(k.WrapRSA(ours, auth)))
	key := must[*tpm.Key](t)(d.Load(t.Context(), f, auth))
	signature := must[[]byte](t)(key.Sign(t.Context(), digest[:]))
	if err := rsa.VerifyPKCS1v15(&ours.PublicKey, crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}

	curve := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	f = imported(t, d, must[*tpm.Wrapped](t)(k.WrapECDSA(curve, auth)))
	key = must[*tpm.Key](t)(d.Load(t.Context(), f, auth))
	raw := must[[]byte](t)(key.Sign(t.Context(), digest[:]))
	if !ecdsa.Verify(&curve.PublicKey, digest[:], new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])) {
		t.Error("the signature doesn't verify")
	}
	_, err := k.WrapECDSA(must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), auth)
	wants(t, err, fault.KeyUnsupported, "P-384")
}

// testWrappedChanged: the TPM itself, or the file's form, refuses every changed byte.
func testWrappedChanged(t *testing.T, o tpm.Options) {
	d := open(t, o)
	der := must[*tpm.Wrapped](t)(storageKey(t, d).WrapSecret(random(t, 32))).Marshal()
	for i := 0; i < len(der); i += 3 {
		changed := bytes.Clone(der)
		changed[i] ^= 1 << (i % 8)
		w, err := tpm.ParseWrapped(changed)
		if err == nil {
			_, err = d.Import(t.Context(), w)
		}
		wants(t, err, fault.KeyDamaged)
	}
}

func testCertified(t *testing.T, o tpm.Options) {
	d := open(t, o)
	attestor, _, err := d.Attestor(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	key, about := storageKey(t, d), random(t, 32)
	c := must[*tpm.Certification](t)(attestor.CertifyStorageKey(t.Context(), about))
	public, err := c.Verify(key, about)
	if err != nil || !public.Equal(attestor.Public()) {
		t.Fatalf("%v, %v", public, err)
	}
	_, err = c.Verify(key, random(t, 32))
	wants(t, err, fault.BadRequest, "what it was made for was changed")
	for what, part := range map[string]*[]byte{"attestor": &c.Attestor, "statement": &c.Statement, "signature": &c.Signature} {
		before := *part
		for i := range before {
			*part = bytes.Clone(before)
			(*part)[i] ^= 0x10
			if _, err := c.Verify(key, about); err == nil {
				t.Errorf("byte %d of its %s can be changed", i, what)
			}
		}
		*part = before
	}
	if certificates, err := d.EndorsementCertificates(t.Context()); err != nil {
		t.Errorf("%d certificates, %v", len(certificates), err)
	}
	if err := attestor.Close(); err != nil {
		t.Error(err)
	}
}

// endorsement is a TPM's endorsement key, as its certificate has it.
func endorsement(t testing.TB, o tpm.Options, kind tpmtest.Kind) *tpm.EndorsementKey {
	t.Helper()
	opened := o
	opened.Dial = func() (tpm.Transport, error) { return tpm.DialForTest(o) } // the kernel's device too
	return must[*tpm.EndorsementKey](t)(tpm.NewEndorsementKey(tpmtest.EndorsementKey(t, opened, kind)))
}

func activate(t testing.TB, d *tpm.Device, ek *tpm.EndorsementKey, blob *tpm.CredentialBlob) ([]byte, error) {
	t.Helper()
	dst := make([]byte, tpm.MaxActivation)
	n, err := d.ActivateCredential(t.Context(), ek, blob, dst)
	return dst[:n], err
}

func testActivated(t *testing.T, o tpm.Options) {
	kinds := map[string]*tpm.EndorsementKey{"RSA-2048": endorsement(t, o, tpmtest.RSA2048), "P-256": endorsement(t, o, tpmtest.P256)}
	d := open(t, o)
	// Keys that are loaded make room for the endorsement key, and work on.
	loaded := []*tpm.Key{hmacKey(t, d, sha256.New, []byte("first")), hmacKey(t, d, sha256.New, []byte("second"))}
	target := storageKey(t, d)
	for name, ek := range kinds {
		for _, size := range []int{1, tpm.MaxActivation} {
			for _, key := range loaded {
				must[[]byte](t)(key.HMAC(t.Context(), []byte("message")))
			}
			secret := random(t, size)
			blob := must[*tpm.CredentialBlob](t)(ek.MakeCredential(target, secret))
			if got, err := activate(t, d, ek, blob); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%s: of %d bytes: %x, %v", name, size, got, err)
			}
			if size > 1 {
				_, err := d.ActivateCredential(t.Context(), ek, blob, make([]byte, size-1))
				wants(t, err, fault.WrappedMismatch, "bytes")
			}
		}
		for _, size := range []int{0, tpm.MaxActivation + 1} {
			_, err := ek.MakeCredential(target, make([]byte, size))
			wants(t, err, fault.InternalError)
		}
		blob := must[*tpm.CredentialBlob](t)(ek.MakeCredential(target, random(t, 32)))
		for i := 0; i < len(blob.IDObject); i += 7 {
			changed := &tpm.CredentialBlob{IDObject: bytes.Clone(blob.IDObject), Secret: blob.Secret}
			changed.IDObject[i] ^= 1
			_, err := activate(t, d, ek, changed)
			wants(t, err, fault.WrappedMismatch, "--endorsed-by")
		}
		_, err := activate(t, d, ek, &tpm.CredentialBlob{IDObject: make([]byte, 70), Secret: make([]byte, 257)})
		wants(t, err, fault.WrappedMismatch)
		_, err = activate(t, d, ek, new(tpm.CredentialBlob))
		wants(t, err, fault.WrappedMismatch)
	}
	blob := must[*tpm.CredentialBlob](t)(kinds["P-256"].MakeCredential(target, random(t, 32)))
	_, err := activate(t, d, kinds["RSA-2048"], blob)
	wants(t, err, fault.WrappedMismatch)
}
