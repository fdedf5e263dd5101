package tpm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// What is wrapped for one TPM is of no use to another, and a TPM vouches for no key but
// its own.
func TestWrappedForAnother(t *testing.T) {
	target, other := open(t, tpmtest.Swtpm(t)), open(t, tpmtest.Swtpm(t))
	theirs := storageKey(t, target)
	w := must[*tpm.Wrapped](t)(theirs.WrapSecret([]byte("secret")))
	_, err := other.Import(t.Context(), w)
	wants(t, err, fault.KeyDamaged, "another TPM")
	must[*tpm.KeyFile](t)(target.Import(t.Context(), w))

	attestor, _, err := other.Attestor(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := must[*tpm.Certification](t)(attestor.CertifyStorageKey(t.Context(), []byte("about")))
	_, err = c.Verify(theirs, []byte("about"))
	wants(t, err, fault.BadRequest, "another key")
}

// The public part of a wrapped secret doesn't tell two equal secrets, nor lets
// anybody guess.
func TestWrappedSecretsAreSeeded(t *testing.T) {
	k := storageKey(t, open(t, tpmtest.Swtpm(t)))
	first := must[*tpm.Wrapped](t)(k.WrapSecret([]byte("secret"))).Marshal()
	second := must[*tpm.Wrapped](t)(k.WrapSecret([]byte("secret"))).Marshal()
	if bytes.Equal(first, second) {
		t.Error("two wraps are equal")
	}
	if sum := sha256.Sum256([]byte("secret")); bytes.Contains(first, sum[:]) {
		t.Error("the hash of the secret is in the file")
	}
}

// Only a key that a TPM made as its storage root is sealed to.
func TestParseStorageKey(t *testing.T) {
	good := storageKey(t, open(t, tpmtest.Swtpm(t))).Public()
	leaves := tpm2.ECCSRKTemplate
	area := must[*tpm2.TPMTPublic](t)(tpm2.Unmarshal[tpm2.TPMTPublic](good))
	leaves.Unique = area.Unique
	leaves.ObjectAttributes.FixedTPM = false
	elsewhere := bytes.Clone(good)
	elsewhere[len(elsewhere)-1] ^= 1 // the point isn't on the curve any more
	for what, public := range map[string][]byte{
		"nothing": nil, "noise": []byte("noise"), "cut": good[:len(good)-1], "with more": append(bytes.Clone(good), 0),
		"one that can leave its TPM": tpm2.Marshal(leaves), "one that is not on the curve": elsewhere,
	} {
		if _, err := tpm.ParseStorageKey(public); err == nil {
			t.Errorf("%s is taken: %s", what, hex.EncodeToString(public))
		} else {
			wants(t, err, fault.BadRequest)
		}
	}
}

func FuzzWrapped(f *testing.F) {
	k := storageKey(f, open(f, tpmtest.Swtpm(f)))
	f.Add(must[*tpm.Wrapped](f)(k.WrapSecret([]byte("secret"))).Marshal())
	f.Fuzz(func(t *testing.T, der []byte) {
		if w, err := tpm.ParseWrapped(der); err == nil && !bytes.Equal(w.Marshal(), der) {
			t.Fatal("written again it is another file")
		}
	})
}

// A certificate that the chip's maker has left is given as it was, without what fills
// its index.
func TestEndorsementCertificates(t *testing.T) {
	o := tpmtest.Swtpm(t)
	certificate := append([]byte{0x30, 0x82, 0x02, 0x00}, random(t, 512)...) // as long as its first bytes say
	tpmtest.Leave(t, o, tpmtest.P256, certificate)
	found, err := open(t, o).EndorsementCertificates(t.Context())
	if err != nil || len(found) != 1 || !bytes.Equal(found[0], certificate) {
		t.Errorf("%x, %v", found, err)
	}
}
