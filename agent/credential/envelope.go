package credential

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/secmem"
	"github.com/sealsign/sealsign/tpm"
)

const (
	// KEKSize is the size of a key-encryption key in bytes: AES-256. A TPM seals no
	// more than 128 bytes, so it seals this, and this seals the credential.
	KEKSize = 32
	// nonceSize is GCM's, in bytes.
	nonceSize = 12
)

// ErrChanged says that what was sealed, or what it is bound to, is not as it was.
var ErrChanged = errors.New("it was changed after it was sealed")

// Sealed is something encrypted with AES-256-GCM, a credential's JSON for the most part.
type Sealed struct {
	Nonce      []byte `json:"nonce"`
	Ciphertext []byte `json:"ciphertext"`
}

// Valid tells whether it has the form that Seal gives.
func (s *Sealed) Valid() bool { return len(s.Nonce) == nonceSize && len(s.Ciphertext) > 0 }

// Seal encrypts the credential, which it neither changes nor wipes, under a new key,
// bound to other bytes that it is to be opened with. The caller has a TPM keep the key,
// and releases it.
func (c *Credential) Seal(bound []byte) (*Sealed, *secmem.Buffer, error) {
	kek, err := secmem.New(KEKSize)
	if err != nil {
		return nil, nil, err
	}
	rand.Read(kek.Bytes()) // never fails
	s, err := c.SealUnder(kek.Bytes(), bound)
	if err != nil {
		kek.Release()
		return nil, nil, err
	}
	return s, kek, nil
}

// SealUnder is Seal under a key that there is already.
func (c *Credential) SealUnder(kek, bound []byte) (*Sealed, error) {
	plain, err := c.Encode()
	if err != nil {
		return nil, err
	}
	defer plain.Release()
	return Encrypt(kek, plain.Bytes(), bound)
}

// Encrypt encrypts plain under a key of [KEKSize] bytes, bound to other bytes that it is
// to be decrypted with. Its nonce is drawn: one key is for 2³² times at most (NIST
// SP 800-38D, section 8.3), and is used a few times.
func Encrypt(key, plain, bound []byte) (*Sealed, error) {
	s := &Sealed{Nonce: make([]byte, nonceSize)}
	rand.Read(s.Nonce) // never fails
	return s, withGCM(key, func(gcm cipher.AEAD) error {
		s.Ciphertext = gcm.Seal(nil, s.Nonce, plain, bound)
		return nil
	})
}

// Decrypt appends to dst what was encrypted, or fails with ErrChanged.
func (s *Sealed) Decrypt(key, bound, dst []byte) (plain []byte, err error) {
	err = withGCM(key, func(gcm cipher.AEAD) error {
		if plain, err = gcm.Open(dst, s.Nonce, s.Ciphertext, bound); err != nil {
			return ErrChanged
		}
		return nil
	})
	return plain, err
}

// Open decrypts the credential, or fails with ErrChanged.
func (s *Sealed) Open(kek, bound []byte) (*Credential, error) {
	plain, err := secmem.New(len(s.Ciphertext))
	if err != nil {
		return nil, err
	}
	defer plain.Release()
	text, err := s.Decrypt(kek, bound, plain.Bytes()[:0])
	if err != nil {
		return nil, err
	}
	return ParseStored(text)
}

// withGCM runs do with AES-256-GCM under kek, and leaves no key schedule behind.
func withGCM(kek []byte, do func(cipher.AEAD) error) error {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return fault.New(fault.InternalError, "AES can't be used").Because(err)
	}
	defer Forget(block)
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return fault.New(fault.InternalError, "AES-GCM can't be used").Because(err)
	}
	defer Forget(gcm)
	return do(gcm)
}

// NewAuth draws what authorizes the use of a TPM key: as it is, and as the
// credential that keeps it. The caller releases the one and wipes the other.
func NewAuth() (auth *secmem.Buffer, kept *Credential, err error) {
	if auth, err = secmem.New(tpm.AuthSize); err != nil {
		return nil, nil, err
	}
	memory, err := secmem.New(hex.EncodedLen(tpm.AuthSize))
	if err != nil {
		auth.Release()
		return nil, nil, err
	}
	rand.Read(auth.Bytes()) // never fails
	hex.Encode(memory.Bytes(), auth.Bytes())
	return auth, &Credential{memory: memory, Auth: memory.Bytes()}, nil
}
