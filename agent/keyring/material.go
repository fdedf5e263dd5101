package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/secmem"
)

// The algorithms, as the config names them.
const (
	HMACSHA256 = "hmac-sha256"
	HMACSHA384 = "hmac-sha384"
	HMACSHA512 = "hmac-sha512"
	RSASHA256  = "rsa-sha256" // RSASSA-PKCS1-v1_5
	Ed25519    = "ed25519"
	ES256      = "es256" // ECDSA P-256, signature as r||s
	None       = "none"  // a static header: nothing signs
)

// Base64 is the encoding of the HMAC secrets that are to be decoded first. Any
// other, such as "raw", takes their bytes as they are.
const Base64 = "base64"

// hmacHashes are the hashes of the HMAC algorithms.
var hmacHashes = map[string]crypto.Hash{
	HMACSHA256: crypto.SHA256,
	HMACSHA384: crypto.SHA384,
	HMACSHA512: crypto.SHA512,
}

// material signs with one key in the memory of this process.
type material interface {
	// sign appends the signature of message to dst.
	sign(dst, message []byte) ([]byte, error)
	// wipe forgets the key. Nothing is called afterwards.
	wipe()
}

// newMaterial makes what signs with c, which it neither changes nor wipes. encoding is the venue's for HMAC secrets. None has no material.
func newMaterial(algorithm, encoding string, c *credential) (material, error) {
	if algorithm == None {
		return nil, staticOnly(c)
	}
	if h, isHMAC := hmacHashes[algorithm]; isHMAC {
		secret, memory, err := hmacSecret(algorithm, encoding, c)
		if err != nil {
			return nil, err
		}
		defer memory.Release()
		return newMidstates(h, secret)
	}
	key, err := privateKey(algorithm, c)
	if err != nil {
		return nil, err
	}
	return heapKey{key}, nil
}

// staticOnly refuses what a static header has no use for: it is a sign of a
// credential of another kind.
func staticOnly(c *credential) error {
	if c.secret != nil || c.privateKey != nil {
		return badCredential("has more than an api_key, which is all that algorithm %s takes", None)
	}
	return nil
}

// hmacSecret is the secret as the venue keys its HMAC with it. What it decoded is
// in memory, which the caller releases; it may be nil.
func hmacSecret(algorithm, encoding string, c *credential) (secret []byte, memory *secmem.Buffer, err error) {
	switch {
	case c.privateKey != nil:
		return nil, nil, badCredential("has a private_key, and algorithm %s takes a secret", algorithm)
	case c.secret == nil:
		return nil, nil, badCredential("has no secret, which algorithm %s needs", algorithm)
	case spaceAround(c.secret):
		return nil, nil, badCredential("has a secret with white space around it")
	case encoding != Base64:
		return c.secret, nil, nil
	}
	if memory, err = secmem.New(base64.StdEncoding.DecodedLen(len(c.secret))); err != nil {
		return nil, nil, err
	}
	n, err := base64.StdEncoding.Strict().Decode(memory.Bytes(), c.secret)
	if err != nil || n == 0 {
		memory.Release()
		return nil, nil, badCredential("has a secret that isn't base64, which this venue's secrets are")
	}
	return memory.Bytes()[:n], memory, nil
}

// privateKey reads the private key, which some venues' downloads call the secret.
func privateKey(algorithm string, c *credential) (crypto.Signer, error) {
	text := c.privateKey
	switch {
	case text == nil && c.secret == nil:
		return nil, badCredential("has no private_key, which algorithm %s needs", algorithm)
	case text != nil && c.secret != nil:
		return nil, badCredential("has both private_key and secret, and algorithm %s needs one key", algorithm)
	case text == nil:
		text = c.secret
	}
	return parsePrivateKey(algorithm, text)
}

// heapKey signs with an RSA, ECDSA or Ed25519 key, which the standard library
// keeps on the Go heap.
type heapKey struct{ key crypto.Signer }

func (k heapKey) sign(dst, message []byte) ([]byte, error) {
	switch key := k.key.(type) {
	case *rsa.PrivateKey:
		digest := sha256.Sum256(message)
		signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
		return append(dst, signature...), err
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256(message)
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			return nil, err
		}
		var signature [64]byte // RFC 7518, section 3.4
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
		return append(dst, signature[:]...), nil
	case ed25519.PrivateKey:
		return append(dst, ed25519.Sign(key, message)...), nil
	}
	return nil, fault.New(fault.InternalError, "a key of type %T signs nothing", k.key)
}

// wipe overwrites an Ed25519 key. The numbers of the others, and copies that the
// standard library made, are left to the garbage collector.
func (k heapKey) wipe() {
	if key, ok := k.key.(ed25519.PrivateKey); ok {
		clear(key)
	}
}

// publicDER is the SubjectPublicKeyInfo of a key.
func publicDER(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fault.New(fault.InternalError, "a public key can't be written").Because(err)
	}
	return der, nil
}
