package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// What follows wraps secrets for the TPM of another machine, knowing no more of it
// than the public part of its storage root key. It needs no TPM itself.

// StorageKey is the storage root key (SRK) of some TPM.
type StorageKey struct {
	public []byte // TPMT_PUBLIC
	key    tpm2.LabeledEncapsulationKey
}

// ParseStorageKey reads the public area (TPMT_PUBLIC) of an SRK, and takes no other
// than one made from the template that [Open] makes its own from: its private part
// is in a TPM, which made it and never lets it out, and opens nothing for anybody.
func ParseStorageKey(public []byte) (*StorageKey, error) {
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](public)
	if err != nil {
		return nil, fault.New(fault.BadRequest, "the sealing key is no TPM's public key").Because(err)
	}
	template := tpm2.ECCSRKTemplate
	template.Unique = area.Unique
	if area.Type != template.Type || !bytes.Equal(tpm2.Marshal(template), public) {
		return nil, fault.New(fault.BadRequest, "the sealing key is not a TPM's storage root key")
	}
	if _, err := p256Public(area); err != nil {
		return nil, fault.New(fault.BadRequest, "the sealing key is not valid: %v", err)
	}
	key, err := tpm2.ImportEncapsulationKey(area)
	if err != nil {
		return nil, fault.New(fault.BadRequest, "the sealing key can't be used").Because(err)
	}
	return &StorageKey{public: slices.Clone(public), key: key}, nil
}

// Name is the key's Name, as [Device.SRKName] tells it.
func (k *StorageKey) Name() []byte { return name(k.public) }

// Public is the TPMT_PUBLIC.
func (k *StorageKey) Public() []byte { return slices.Clone(k.public) }

// WrapSecret wraps up to [MaxSeal] bytes, which the TPM then gives back as it does
// what it sealed itself.
func (k *StorageKey) WrapSecret(secret []byte) (*Wrapped, error) {
	if len(secret) == 0 || len(secret) > MaxSeal {
		return nil, fault.New(fault.InternalError, "%d bytes can't be wrapped: 1 to %d can", len(secret), MaxSeal)
	}
	return k.wrapHash(sealedTemplate(nil), nil, secret)
}

// WrapHMAC wraps an HMAC key, which will never leave the TPM. auth is the 32 bytes
// that its use will need.
func (k *StorageKey) WrapHMAC(hash crypto.Hash, secret, auth []byte) (*Wrapped, error) {
	h, ok := hashes[hash]
	if !ok || len(secret) == 0 {
		return nil, fault.New(fault.KeyUnsupported, "no TPM makes HMACs with %v and a key of %d bytes", hash, len(secret))
	}
	if err := checkAuth(auth); err != nil {
		return nil, err
	}
	own := hmacKey(hash, secret)
	defer clear(own)
	return k.wrapHash(hmacTemplate(h.alg), auth, own)
}

// WrapRSA wraps an RSA key.
func (k *StorageKey) WrapRSA(key *rsa.PrivateKey, auth []byte) (*Wrapped, error) {
	template, prime, err := rsaObject(key)
	if err != nil {
		return nil, err
	}
	return k.wrapPrivate(template, auth, prime)
}

// WrapECDSA wraps a P-256 key.
func (k *StorageKey) WrapECDSA(key *ecdsa.PrivateKey, auth []byte) (*Wrapped, error) {
	template, scalar, err := p256Object(key)
	if err != nil {
		return nil, err
	}
	return k.wrapPrivate(template, auth, scalar)
}

func (k *StorageKey) wrapPrivate(template tpm2.TPMTPublic, auth, secret []byte) (*Wrapped, error) {
	defer clear(secret)
	if err := checkAuth(auth); err != nil {
		return nil, err
	}
	return wrap(k.key, template, nil, auth, secret)
}

// wrapHash wraps a keyed hash object, whose public part is a hash of its secret. A
// random seed in front keeps anybody from guessing at the secret (part 1, 27.5.3.2).
func (k *StorageKey) wrapHash(template tpm2.TPMTPublic, auth, secret []byte) (*Wrapped, error) {
	seed := make([]byte, digestSize)
	rand.Read(seed) // never fails
	defer clear(seed)
	unique := sha256.New()
	unique.Write(seed)
	unique.Write(secret)
	template.ObjectAttributes.FixedTPM, template.ObjectAttributes.FixedParent = false, false
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{Buffer: unique.Sum(nil)})
	return wrap(k.key, template, seed, auth, secret)
}

// wrap makes an object that only the owner of parent can import (part 1, 23.3): its
// sensitive area encrypted and authenticated with keys made from a secret, and that
// secret for parent's eyes only.
func wrap(parent tpm2.LabeledEncapsulationKey, template tpm2.TPMTPublic, seed, auth, secret []byte) (*Wrapped, error) {
	public := tpm2.Marshal(template)
	protector, forParent, err := parent.Encapsulate(rand.Reader, "DUPLICATE")
	if err != nil {
		return nil, err
	}
	defer clear(protector)
	size := 2 + 2 + len(auth) + 2 + len(seed) + 2 + len(secret)
	w := writer{b: make([]byte, 0, 2+digestSize+2+size)}
	w.sized(make([]byte, digestSize)) // the integrity HMAC, below
	w.u16(uint16(size))               // TPM2B_SENSITIVE
	w.u16(uint16(template.Type))
	w.sized(auth)
	w.sized(seed)
	w.sized(secret)
	sensitive := w.b[2+digestSize:]

	key := tpm2.KDFa(crypto.SHA256, protector, "STORAGE", name(public), nil, cipherSize*8)
	defer clear(key)
	if err := encryptCFB(key, make([]byte, cipherSize), sensitive); err != nil {
		return nil, err
	}

	macKey := tpm2.KDFa(crypto.SHA256, protector, "INTEGRITY", nil, nil, digestSize*8)
	defer clear(macKey)
	mac := hmac.New(sha256.New, macKey)
	mac.Write(sensitive)
	mac.Write(name(public))
	mac.Sum(w.b[2:2])
	return newWrapped(public, w.b, forParent)
}

// Import has the TPM take in what was wrapped for it. It fails with KEY_DAMAGED where
// it was wrapped for another one, or was changed.
func (d *Device) Import(ctx context.Context, w *Wrapped) (*KeyFile, error) {
	if can := w.needs(); can != "" {
		if err := d.needs(can); err != nil {
			return nil, err
		}
	}
	return d.makeKey(ctx, "importing what was wrapped", func(c *conn) (*KeyFile, error) {
		f, err := c.takeIn(nil, w)
		if refusesParameter(err) {
			return nil, fault.New(fault.KeyDamaged, "it was wrapped for another TPM, or was changed").
				WithHint("wrap it again for this host: sealsign host-key prints what for").Because(err)
		}
		return f, err
	})
}

// takeIn makes the TPM's own of a wrapped object, so that it can be loaded.
func (c *conn) takeIn(parent *Parent, w *Wrapped) (*KeyFile, error) {
	above, s, done, err := c.under(parent, encryptNone)
	if err != nil {
		return nil, err
	}
	defer done()
	rsp, err := tpm2.Import{
		ParentHandle: on(above, s),
		ObjectPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](w.file.public),
		Duplicate:    tpm2.TPM2BPrivate{Buffer: w.file.private},
		InSymSeed:    tpm2.TPM2BEncryptedSecret{Buffer: w.secret},
		Symmetric:    tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
	}.Execute(c)
	if err != nil {
		return nil, err
	}
	f, err := newKeyFile(w.file.public, rsp.OutPrivate.Buffer)
	if err == nil {
		f.sealed, f.emptyAuth, f.parent = w.file.sealed, w.file.emptyAuth, parent
	}
	return f, err
}

// needs names what the TPM must be able to do to hold the object; empty: any can.
func (w *Wrapped) needs() string {
	switch key := w.file.key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa-%d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return CanP256
	}
	return hashes[w.Hash()].can
}
