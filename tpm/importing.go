package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha512" // for hashes
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// hashes are those that an HMAC key may have.
var hashes = map[crypto.Hash]struct {
	alg tpm2.TPMAlgID
	can string
}{
	crypto.SHA256: {tpm2.TPMAlgSHA256, CanHMACSHA256},
	crypto.SHA384: {tpm2.TPMAlgSHA384, CanHMACSHA384},
	crypto.SHA512: {tpm2.TPMAlgSHA512, CanHMACSHA512},
}

// ImportHMAC makes an HMAC key of a secret, which never leaves the TPM again.
// auth is the 32 bytes that its use will need.
func (d *Device) ImportHMAC(ctx context.Context, parent *Parent, hash crypto.Hash, secret, auth []byte) (*KeyFile, error) {
	h, ok := hashes[hash]
	if !ok {
		return nil, fault.New(fault.KeyUnsupported, "no TPM makes HMACs with %v keys that sealsign knows of", hash).
			WithHint("protection = \"sealed\" works for every algorithm")
	}
	if err := d.needs(h.can); err != nil {
		return nil, err
	}
	if len(secret) == 0 {
		return nil, fault.New(fault.KeyUnsupported, "an empty secret makes no HMAC key")
	}
	if err := checkAuth(auth); err != nil {
		return nil, err
	}
	own, ownAuth := hmacKey(hash, secret), slices.Clone(auth)
	return d.makeKey(ctx, "importing a key", func(c *conn) (*KeyFile, error) {
		return c.create(parent, hmacTemplate(h.alg), ownAuth, own)
	}, own, ownAuth)
}

// hmacKey is a copy of the secret, or its hash where it is longer than the
// hash's block: a TPM takes no more, and RFC 2104 says that it makes no difference.
func hmacKey(hash crypto.Hash, secret []byte) []byte {
	h := hash.New()
	if len(secret) <= h.BlockSize() {
		return slices.Clone(secret)
	}
	h.Write(secret)
	sum := h.Sum(nil)
	// What of the secret didn't fill a block is still in the hash's memory.
	h.Reset()
	h.Write(make([]byte, h.BlockSize()-1))
	h.Write(make([]byte, 1))
	return sum
}

// GenerateRSA makes an RSA key in the TPM; its private part never is outside.
func (d *Device) GenerateRSA(ctx context.Context, parent *Parent, bits int, auth []byte) (*KeyFile, error) {
	return d.generate(ctx, parent, fmt.Sprintf("rsa-%d", bits), rsaTemplate(bits, nil), auth)
}

// GenerateP256 makes an ECDSA P-256 key in the TPM.
func (d *Device) GenerateP256(ctx context.Context, parent *Parent, auth []byte) (*KeyFile, error) {
	return d.generate(ctx, parent, CanP256, p256Template(nil, nil), auth)
}

func (d *Device) generate(ctx context.Context, parent *Parent, can string, template tpm2.TPMTPublic, auth []byte) (*KeyFile, error) {
	if err := d.needs(can); err != nil {
		return nil, err
	}
	if err := checkAuth(auth); err != nil {
		return nil, err
	}
	own := slices.Clone(auth)
	return d.makeKey(ctx, "making a key", func(c *conn) (f *KeyFile, err error) {
		err = c.slowly(generateTime, func() error {
			f, err = c.create(parent, template, own, nil)
			return err
		})
		return f, err
	}, own)
}

// ImportRSA gives an RSA key to the TPM.
func (d *Device) ImportRSA(ctx context.Context, parent *Parent, key *rsa.PrivateKey, auth []byte) (*KeyFile, error) {
	if err := d.needs(fmt.Sprintf("rsa-%d", key.N.BitLen())); err != nil {
		return nil, err
	}
	template, prime, err := rsaObject(key)
	if err != nil {
		return nil, err
	}
	return d.importKey(ctx, parent, template, prime, auth)
}

// ImportECDSA gives a P-256 key to the TPM.
func (d *Device) ImportECDSA(ctx context.Context, parent *Parent, key *ecdsa.PrivateKey, auth []byte) (*KeyFile, error) {
	if err := d.needs(CanP256); err != nil {
		return nil, err
	}
	template, scalar, err := p256Object(key)
	if err != nil {
		return nil, err
	}
	return d.importKey(ctx, parent, template, scalar, auth)
}

// rsaObject is an RSA key as a TPM knows it: its public area, and one of its primes.
func rsaObject(key *rsa.PrivateKey) (template tpm2.TPMTPublic, prime []byte, err error) {
	bits := key.N.BitLen()
	if key.E != defaultExponent || len(key.Primes) != 2 || key.Primes[0].BitLen() != bits/2 || key.Validate() != nil {
		return template, nil, fault.New(fault.KeyUnsupported, "a TPM takes RSA keys of two primes of the same length and the exponent 65537 only").
			WithHint("protection = \"sealed\" works for this key")
	}
	prime = key.Primes[0].FillBytes(make([]byte, bits/16))
	return rsaTemplate(bits, key.N.FillBytes(make([]byte, bits/8))), prime, nil
}

// p256Object is an ECDSA key as a TPM knows it: its public area, and its scalar.
func p256Object(key *ecdsa.PrivateKey) (template tpm2.TPMTPublic, scalar []byte, err error) {
	if key.Curve != elliptic.P256() {
		return template, nil, fault.New(fault.KeyUnsupported, "ECDSA keys are imported on the curve P-256 only, not %s", key.Params().Name)
	}
	if scalar, err = key.Bytes(); err != nil {
		return template, nil, fault.New(fault.KeyDamaged, "the ECDSA key is not valid: %v", err)
	}
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		return template, nil, fault.New(fault.KeyDamaged, "the ECDSA key is not valid: %v", err)
	}
	return p256Template(point[1:1+p256Size], point[1+p256Size:]), scalar, nil
}

// importKey wraps a private key to its parent, so that it isn't readable on the
// bus, and has the TPM take it in. secret is wiped.
func (d *Device) importKey(ctx context.Context, parent *Parent, template tpm2.TPMTPublic, secret, auth []byte) (*KeyFile, error) {
	if err := checkAuth(auth); err != nil {
		clear(secret)
		return nil, err
	}
	own := slices.Clone(auth)
	return d.makeKey(ctx, "importing a key", func(c *conn) (*KeyFile, error) {
		to := c.srkKey
		if parent != nil {
			key, err := tpm2.ImportEncapsulationKey(&parent.area)
			if err != nil {
				return nil, err
			}
			to = key
		}
		w, err := wrap(to, template, nil, own, secret)
		if err != nil {
			return nil, err
		}
		return c.takeIn(parent, w)
	}, secret, own)
}
