package tpm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// A credential blob is released where the endorsement key and the sealing key are in one
// TPM, and nowhere else.
func TestActivatedByAnother(t *testing.T) {
	o, o2 := tpmtest.Swtpm(t), tpmtest.Swtpm(t)
	ek, ek2 := endorsement(t, o, tpmtest.P256), endorsement(t, o2, tpmtest.P256)
	d, d2 := open(t, o), open(t, o2)
	blob := must[*tpm.CredentialBlob](t)(ek.MakeCredential(storageKey(t, d), []byte("secret")))
	_, err := activate(t, d2, ek, blob)
	wants(t, err, fault.WrappedMismatch, "another endorsement key", "sealsign host-key")
	_, err = activate(t, d2, ek2, blob) // whatever it is told
	wants(t, err, fault.WrappedMismatch, "doesn't release")
	mixed := must[*tpm.CredentialBlob](t)(ek.MakeCredential(storageKey(t, d2), []byte("secret")))
	_, err = activate(t, d, ek, mixed)
	wants(t, err, fault.WrappedMismatch, "sealing key")
	if got, err := activate(t, d, ek, blob); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
}

// Who makes a storage root key in software, and has a genuine TPM besides, can't have
// that TPM release what was made for both: it takes no such key in, and knowing the
// key's public part is not enough to use it.
func TestSoftwareKeyIsNotActivated(t *testing.T) {
	o := tpmtest.Swtpm(t)
	ek := endorsement(t, o, tpmtest.P256)
	private := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	point := must[[]byte](t)(private.PublicKey.Bytes())
	forged := tpm2.ECCSRKTemplate
	forged.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
	})
	target := must[*tpm.StorageKey](t)(tpm.ParseStorageKey(tpm2.Marshal(forged)))
	blob := must[*tpm.CredentialBlob](t)(ek.MakeCredential(target, []byte("secret")))
	_, err := activate(t, open(t, o), ek, blob)
	wants(t, err, fault.WrappedMismatch, "sealing key")

	// Past the Device, with all that the attacker knows.
	behind(t, tpmtest.Swtpm(t), func(chip tpm.Transport) {
		scalar := must[[]byte](t)(private.Bytes())
		_, err := tpm2.LoadExternal{
			InPrivate: tpm2.New2B(tpm2.TPMTSensitive{
				SensitiveType: tpm2.TPMAlgECC,
				Sensitive:     tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgECC, &tpm2.TPM2BECCParameter{Buffer: scalar}),
			}),
			InPublic:  tpm2.New2B(forged),
			Hierarchy: tpm2.TPMRHNull,
		}.Execute(chip)
		if !errors.Is(err, tpm2.TPMRCAttributes) {
			t.Errorf("a software key loads as a storage root key: %v", err)
		}
		loaded := must[*tpm2.LoadExternalResponse](t)(tpm2.LoadExternal{InPublic: tpm2.New2B(forged), Hierarchy: tpm2.TPMRHOwner}.Execute(chip))
		made := must[*tpm2.CreatePrimaryResponse](t)(tpm2.CreatePrimary{
			PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.ECCEKTemplate),
		}.Execute(chip))
		area := must[*tpm2.TPMTPublic](t)(made.OutPublic.Contents())
		own := must[*tpm.EndorsementKey](t)(tpm.NewEndorsementKey(must[any](t)(publicOf(area))))
		blob := must[*tpm.CredentialBlob](t)(own.MakeCredential(target, []byte("secret")))
		_, err = tpm2.ActivateCredential{
			ActivateHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: tpm2.PasswordAuth(nil)},
			KeyHandle: tpm2.AuthHandle{Handle: made.ObjectHandle, Name: made.Name, Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16,
				func(chip transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
					_, err := tpm2.PolicySecret{AuthHandle: tpm2.TPMRHEndorsement, PolicySession: session}.Execute(chip)
					return err
				})},
			CredentialBlob: tpm2.TPM2BIDObject{Buffer: blob.IDObject},
			Secret:         tpm2.TPM2BEncryptedSecret{Buffer: blob.Secret},
		}.Execute(chip)
		if !errors.Is(err, tpm2.TPMRCAuthUnavailable) {
			t.Errorf("a public key alone is activated for: %v", err)
		}
	})
}

func publicOf(area *tpm2.TPMTPublic) (any, error) { return tpm2.Pub(*area) }

func TestEndorsementAuth(t *testing.T) {
	o := tpmtest.Swtpm(t)
	ek, auth := endorsement(t, o, tpmtest.P256), []byte("endorsement\x00of this TPM")
	behind(t, o, func(transport tpm.Transport) {
		if _, err := (tpm2.HierarchyChangeAuth{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
			NewAuth:    tpm2.TPM2BAuth{Buffer: auth},
		}).Execute(transport); err != nil {
			t.Fatal(err)
		}
	})
	d := must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	blob := must[*tpm.CredentialBlob](t)(ek.MakeCredential(storageKey(t, d), []byte("secret")))
	_, err := activate(t, d, ek, blob)
	wants(t, err, fault.TPMUnavailable, "endorsement authorization", "tpm-endorsement-auth")
	shut(t, d)
	o.EndorsementAuth = auth
	d = open(t, o)
	if got, err := activate(t, d, ek, blob); err != nil || !bytes.Equal(got, []byte("secret")) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestEndorsementKeys(t *testing.T) {
	for what, key := range map[string]any{
		"nothing":  nil,
		"RSA-3072": &must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 3072)).PublicKey,
		"P-384":    &must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)).PublicKey,
	} {
		if _, err := tpm.NewEndorsementKey(key); !errors.Is(err, fault.KeyUnsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
