package tpm_test

import (
	"crypto"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// The two benchmarks say what a resident key costs beside the bare command:
// both MAC the same 200 bytes, over the same kind of connection to an swtpm, in
// a session that is salted and encrypted.

func BenchmarkResidentHMAC(b *testing.B) {
	d := open(b, tpmtest.Swtpm(b))
	auth := make([]byte, tpm.AuthSize)
	f, err := d.ImportHMAC(b.Context(), nil, crypto.SHA256, make([]byte, 32), auth)
	if err != nil {
		b.Fatal(err)
	}
	k, err := d.Load(b.Context(), f, auth)
	if err != nil {
		b.Fatal(err)
	}
	message := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.HMAC(b.Context(), message); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBareTPMHMAC(b *testing.B) {
	t, err := tpm.DialForTest(tpmtest.Swtpm(b))
	if err != nil {
		b.Fatal(err)
	}
	srk, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t)
	if err != nil {
		b.Fatal(err)
	}
	created, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner,
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type:             tpm2.TPMAlgKeyedHash,
			NameAlg:          tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true, SensitiveDataOrigin: true, NoDA: true, SignEncrypt: true},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{
				Scheme:  tpm2.TPMAlgHMAC,
				Details: tpm2.NewTPMUSchemeKeyedHash(tpm2.TPMAlgHMAC, &tpm2.TPMSSchemeHMAC{HashAlg: tpm2.TPMAlgSHA256}),
			}}),
		}),
	}.Execute(t)
	if err != nil {
		b.Fatal(err)
	}
	public, err := srk.OutPublic.Contents()
	if err != nil {
		b.Fatal(err)
	}
	for _, how := range []string{"password", "session"} {
		b.Run(how, func(b *testing.B) {
			session := tpm2.PasswordAuth(nil)
			if how == "session" {
				s, end, err := tpm2.HMACSession(t, tpm2.TPMAlgSHA256, 16,
					tpm2.Salted(srk.ObjectHandle, *public), tpm2.AESEncryption(128, tpm2.EncryptInOut))
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = end() }()
				session = s
			}
			message := make([]byte, 200)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (tpm2.Hmac{
					Handle:  tpm2.AuthHandle{Handle: created.ObjectHandle, Name: created.Name, Auth: session},
					Buffer:  tpm2.TPM2BMaxBuffer{Buffer: message},
					HashAlg: tpm2.TPMAlgSHA256,
				}).Execute(t); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What a version's unsealing costs under the storage root key, and under a parent.
func BenchmarkUnseal(b *testing.B) {
	d := open(b, tpmtest.Swtpm(b))
	parent, err := d.NewParent(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	for what, p := range map[string]*tpm.Parent{"storage root key": nil, "parent": parent} {
		b.Run(what, func(b *testing.B) {
			f, err := d.Seal(b.Context(), p, make([]byte, 32))
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, 32)
			for b.Loop() {
				if _, err := d.Unseal(b.Context(), f, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
