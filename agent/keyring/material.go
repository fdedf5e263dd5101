package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/fault"
)

// The algorithms, as the config names them.
const (
	HMACSHA256 = credential.HMACSHA256
	HMACSHA384 = credential.HMACSHA384
	HMACSHA512 = credential.HMACSHA512
	RSASHA256  = credential.RSASHA256
	Ed25519    = credential.Ed25519
	ES256      = credential.ES256
	None       = credential.None
)

// material signs with one key in the memory of this process.
type material interface {
	// sign appends the signature of message to dst.
	sign(dst, message []byte) ([]byte, error)
	// wipe forgets the key. Nothing is called afterwards.
	wipe()
}

// newMaterial makes what signs with c, which it neither changes nor wipes. encoding is the venue's for HMAC secrets. None has no material.
func newMaterial(algorithm, encoding string, c *credential.Credential) (material, error) {
	if algorithm == None {
		return nil, c.CheckStatic()
	}
	if h, isHMAC := credential.HMACHashes[algorithm]; isHMAC {
		secret, memory, err := credential.HMACSecret(algorithm, encoding, c)
		if err != nil {
			return nil, err
		}
		defer memory.Release()
		return newMidstates(h, secret)
	}
	key, err := credential.PrivateKey(algorithm, c)
	if err != nil {
		return nil, err
	}
	return heapKey{key}, nil
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
