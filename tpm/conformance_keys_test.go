package tpm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// impatience is a context of caller i: the odd ones leave soon.
func impatience(t testing.TB, i int) (context.Context, context.CancelFunc) {
	if i%2 == 0 {
		return context.WithCancel(t.Context())
	}
	return context.WithTimeout(t.Context(), time.Duration(i)*200*time.Microsecond)
}

func mac(h func() hash.Hash, secret, message []byte) []byte {
	m := hmac.New(h, secret)
	m.Write(message)
	return m.Sum(nil)
}

var hmacs = []struct {
	can  string
	hash crypto.Hash
	new  func() hash.Hash
}{
	{tpm.CanHMACSHA256, crypto.SHA256, sha256.New},
	{tpm.CanHMACSHA384, crypto.SHA384, sha512.New384},
	{tpm.CanHMACSHA512, crypto.SHA512, sha512.New},
}

// hmacKey imports an HMAC-SHA256 key and loads it.
func hmacKey(t testing.TB, d *tpm.Device, _ func() hash.Hash, secret []byte) *tpm.Key {
	t.Helper()
	auth := random(t, tpm.AuthSize)
	f := must[*tpm.KeyFile](t)(d.ImportHMAC(t.Context(), nil, crypto.SHA256, secret, auth))
	return must[*tpm.Key](t)(d.Load(t.Context(), f, auth))
}

func testHMAC(t *testing.T, o tpm.Options) {
	d := open(t, o)
	for _, h := range hmacs {
		if !slices.Contains(d.Info().Can, h.can) {
			continue // testUnsupported has it
		}
		block := h.new().BlockSize()
		for _, size := range []int{1, 32, block, block + 1, 200} {
			secret, auth := random(t, size), random(t, tpm.AuthSize)
			f := must[*tpm.KeyFile](t)(d.ImportHMAC(t.Context(), nil, h.hash, secret, auth))
			k := must[*tpm.Key](t)(d.Load(t.Context(), reparsed(t, f), auth))
			if k.Public() != nil {
				t.Error("an HMAC key has a public key")
			}
			for _, length := range []int{0, 1, 200, 1024, 1025, 2048, 5000} {
				message := random(t, length)
				got, err := k.HMAC(t.Context(), message)
				if err != nil || !bytes.Equal(got, mac(h.new, secret, message)) {
					t.Errorf("%s: a secret of %d bytes, a message of %d: %x, %v", h.can, size, length, got, err)
				}
			}
			if _, err := k.Sign(t.Context(), make([]byte, sha256.Size)); err == nil {
				t.Error("an HMAC key signs")
			}
			if err := k.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	auth := random(t, tpm.AuthSize)
	f := must[*tpm.KeyFile](t)(d.ImportHMAC(t.Context(), nil, crypto.SHA256, []byte("secret"), auth))
	auth[0] ^= 1
	k := must[*tpm.Key](t)(d.Load(t.Context(), f, auth))
	_, err := k.HMAC(t.Context(), []byte("message"))
	wants(t, err, fault.KeyDamaged, "authorization")
	_, err = d.Unseal(t.Context(), f, make([]byte, tpm.MaxSeal))
	wants(t, err, fault.KeyDamaged)
	_, err = d.ImportHMAC(t.Context(), nil, crypto.SHA256, nil, auth)
	wants(t, err, fault.KeyUnsupported, "empty")
	_, err = d.ImportHMAC(t.Context(), nil, crypto.SHA256, []byte("secret"), auth[:31])
	wants(t, err, fault.InternalError)
}

// testZeroBytes: one in eight random values has a zero byte somewhere, and the
// TPM cuts those at the end.
func testZeroBytes(t *testing.T, o tpm.Options) {
	d := open(t, o)
	for _, at := range [][]int{{0}, {15}, {31}, {30, 31}, {0, 15, 31}} {
		auth := bytes.Repeat([]byte{0xa5}, tpm.AuthSize)
		for _, i := range at {
			auth[i] = 0
		}
		f := must[*tpm.KeyFile](t)(d.ImportHMAC(t.Context(), nil, crypto.SHA256, []byte("secret"), auth))
		k := must[*tpm.Key](t)(d.Load(t.Context(), f, auth))
		got, err := k.HMAC(t.Context(), []byte("message"))
		if err != nil || !bytes.Equal(got, mac(sha256.New, []byte("secret"), []byte("message"))) {
			t.Errorf("zero bytes at %v: %x, %v", at, got, err)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
}

func testRSA(t *testing.T, o tpm.Options) {
	d := open(t, o)
	auth := random(t, tpm.AuthSize)
	imported := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	for name, f := range map[string]*tpm.KeyFile{
		"generated": must[*tpm.KeyFile](t)(d.GenerateRSA(t.Context(), nil, 2048, auth)),
		"imported":  must[*tpm.KeyFile](t)(d.ImportRSA(t.Context(), nil, imported, auth)),
	} {
		public := f.Public().(*rsa.PublicKey)
		if (name == "imported") != public.Equal(&imported.PublicKey) {
			t.Errorf("%s: the public key is another one", name)
		}
		k := must[*tpm.Key](t)(d.Load(t.Context(), reparsed(t, f), auth))
		digest := sha256.Sum256([]byte("message"))
		signature := must[[]byte](t)(k.Sign(t.Context(), digest[:]))
		if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := k.Sign(t.Context(), digest[:31]); err == nil {
			t.Errorf("%s: a digest of 31 bytes is signed", name)
		}
		if _, err := k.HMAC(t.Context(), digest[:]); err == nil {
			t.Errorf("%s: an RSA key makes HMACs", name)
		}
	}
}

func testP256(t *testing.T, o tpm.Options) {
	d := open(t, o)
	auth := random(t, tpm.AuthSize)
	imported := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	for name, f := range map[string]*tpm.KeyFile{
		"generated": must[*tpm.KeyFile](t)(d.GenerateP256(t.Context(), nil, auth)),
		"imported":  must[*tpm.KeyFile](t)(d.ImportECDSA(t.Context(), nil, imported, auth)),
	} {
		k := must[*tpm.Key](t)(d.Load(t.Context(), reparsed(t, f), auth))
		public := k.Public().(*ecdsa.PublicKey)
		if (name == "imported") != public.Equal(&imported.PublicKey) {
			t.Errorf("%s: the public key is another one", name)
		}
		for i := range 5 {
			digest := sha256.Sum256(fmt.Appendf(nil, "message %d", i))
			raw := must[[]byte](t)(k.Sign(t.Context(), digest[:]))
			if len(raw) != 64 || !ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])) {
				t.Errorf("%s: %x does not verify", name, raw)
			}
		}
	}
	other := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	_, err := d.ImportECDSA(t.Context(), nil, other, auth)
	wants(t, err, fault.KeyUnsupported, "P-384")
}

func testUnsupported(t *testing.T, o tpm.Options) {
	d := open(t, o)
	can, auth := d.Info().Can, random(t, tpm.AuthSize)
	for _, h := range hmacs {
		if _, err := d.ImportHMAC(t.Context(), nil, h.hash, []byte("secret"), auth); !slices.Contains(can, h.can) {
			wants(t, err, fault.KeyUnsupported, h.can, can[0], "sealed")
		}
	}
	_, err := d.ImportHMAC(t.Context(), nil, crypto.SHA1, []byte("secret"), auth)
	wants(t, err, fault.KeyUnsupported)
	if !slices.Contains(can, tpm.CanRSA4096) {
		_, err := d.GenerateRSA(t.Context(), nil, 4096, auth)
		wants(t, err, fault.KeyUnsupported, tpm.CanRSA4096, tpm.CanP256)
	}
	_, err = d.GenerateRSA(t.Context(), nil, 1024, auth)
	wants(t, err, fault.KeyUnsupported, "rsa-1024")
}

// testManyKeys uses more keys in turn than the TPM has places for, some of them
// with messages whose hashing takes a place too.
func testManyKeys(t *testing.T, o tpm.Options) {
	d := open(t, o)
	attestor, _, err := d.Attestor(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	below := newParent(t, d, nil)
	parents := []*tpm.Parent{nil, below, newParent(t, d, below)}
	auth := random(t, tpm.AuthSize)
	var keys []*tpm.Key
	for i := range 6 {
		f := must[*tpm.KeyFile](t)(d.ImportHMAC(t.Context(), parents[i%len(parents)], crypto.SHA256, []byte{byte(i + 1)}, auth))
		keys = append(keys, must[*tpm.Key](t)(d.Load(t.Context(), f, auth)))
	}
	for round := range 3 {
		for i, k := range keys {
			message := random(t, 1+round*2000)
			got, err := k.HMAC(t.Context(), message)
			if err != nil || !bytes.Equal(got, mac(sha256.New, []byte{byte(i + 1)}, message)) {
				t.Fatalf("key %d, round %d: %x, %v", i, round, got, err)
			}
		}
		if _, err := attestor.SignMessage(t.Context(), random(t, 3000)); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range keys {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
}

func testAttestor(t *testing.T, o tpm.Options) {
	d := open(t, o)
	a, f, err := d.Attestor(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := d.Attestor(t.Context(), reparsed(t, f))
	if err != nil || !again.Public().Equal(a.Public()) {
		t.Fatalf("loaded again, it is another key, or %v", err)
	}
	for _, length := range []int{0, 1, 1024, 1025, 10_000} {
		message := random(t, length)
		digest := sha256.Sum256(message)
		signature, err := again.SignMessage(t.Context(), message)
		if err != nil || !ecdsa.VerifyASN1(a.Public(), digest[:], signature) {
			t.Errorf("a message of %d bytes: %v", length, err)
		}
	}
	// What begins as the TPM's own statements do is not signed.
	if _, err := again.SignMessage(t.Context(), []byte("\xffTCG, says the TPM")); err == nil {
		t.Error("a statement of the TPM's own can be forged")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	auth := random(t, tpm.AuthSize)
	unrestricted := must[*tpm.KeyFile](t)(d.GenerateP256(t.Context(), nil, auth))
	_, _, err = d.Attestor(t.Context(), unrestricted)
	wants(t, err, fault.KeyDamaged)
}
