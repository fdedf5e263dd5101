package tpm

import (
	"bytes"
	"crypto"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// Wrapped is a key or a secret on its way to the one TPM that can import it. Its form
// is that of a [KeyFile], of the type "importable": its private part is encrypted
// with a secret that is encrypted for the TPM's storage root key.
type Wrapped struct {
	file   KeyFile // private is the duplicate
	secret []byte  // the TPM2B_ENCRYPTED_SECRET's content
}

func newWrapped(public, duplicate, secret []byte) (*Wrapped, error) {
	f, err := newKeyFile(public, duplicate)
	if err != nil {
		return nil, err
	}
	f.sealed = f.key == nil && f.hash == tpm2.TPMAlgNull
	f.emptyAuth = f.sealed
	return &Wrapped{file: *f, secret: slices.Clone(secret)}, nil
}

// ParseWrapped reads the DER that Marshal writes, to the byte. It fails with
// KEY_DAMAGED.
func ParseWrapped(der []byte) (*Wrapped, error) {
	w, err := parseWrapped(der)
	if err != nil {
		return nil, fault.New(fault.KeyDamaged, "this is nothing that was wrapped for a TPM: %v", err).Because(err)
	}
	return w, nil
}

func parseWrapped(der []byte) (*Wrapped, error) {
	parts, err := splitKeyFile(der)
	if err != nil {
		return nil, err
	}
	if !parts.oid.Equal(oidImportable) || parts.policy != nil {
		return nil, fmt.Errorf("it is another kind of key file")
	}
	public, ok := unsize(parts.public)
	duplicate, ok2 := unsize(parts.private)
	secret, ok3 := unsize(parts.secret)
	if !ok || !ok2 || !ok3 {
		return nil, fmt.Errorf("a part is cut short or too long")
	}
	w, err := newWrapped(public, duplicate, secret)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(w.Marshal(), der) {
		return nil, fmt.Errorf("it isn't in the one form it is written in")
	}
	return w, w.check()
}

// check refuses attributes that wrapping doesn't give: they would have the object
// leave the TPM again, or sign what it should not.
func (w *Wrapped) check() error {
	want := signer(false)
	want.SignEncrypt = !w.file.sealed
	has := w.file.area
	if has.ObjectAttributes != want || len(has.AuthPolicy.Buffer) > 0 {
		return fmt.Errorf("it has attributes or a policy that sealsign gives none")
	}
	return nil
}

// Marshal gives the DER.
func (w *Wrapped) Marshal() []byte {
	return marshalKeyFile(oidImportable, &w.file, w.secret, nil)
}

// Public is the key's public part, as that of a [KeyFile].
func (w *Wrapped) Public() crypto.PublicKey { return w.file.key }

// Hash is that of an HMAC key, and 0 for anything else.
func (w *Wrapped) Hash() crypto.Hash {
	for hash, h := range hashes {
		if h.alg == w.file.hash {
			return hash
		}
	}
	return 0
}

// Sealed tells whether it is a secret to unseal, and no key.
func (w *Wrapped) Sealed() bool { return w.file.sealed }
