package tpm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// What follows reads public areas that come from disk, and takes nothing for
// granted: that a file has them doesn't mean that a TPM has written them.

// schemeHash is the hash of an HMAC key, and TPM_ALG_NULL for what makes none.
func schemeHash(area *tpm2.TPMTPublic) (tpm2.TPMAlgID, error) {
	parms, err := area.Parameters.KeyedHashDetail()
	if err != nil {
		return 0, err
	}
	switch parms.Scheme.Scheme {
	case tpm2.TPMAlgNull:
		return tpm2.TPMAlgNull, nil
	case tpm2.TPMAlgHMAC:
		scheme, err := parms.Scheme.Details.HMAC()
		if err != nil {
			return 0, err
		}
		return scheme.HashAlg, nil
	}
	return 0, fmt.Errorf("its key has the scheme %#x", uint16(parms.Scheme.Scheme))
}

func rsaPublic(area *tpm2.TPMTPublic) (*rsa.PublicKey, error) {
	parms, err := area.Parameters.RSADetail()
	if err != nil {
		return nil, err
	}
	modulus, err := area.Unique.RSA()
	if err != nil {
		return nil, err
	}
	n := new(big.Int).SetBytes(modulus.Buffer)
	if parms.Exponent != 0 || n.BitLen() != int(parms.KeyBits) || n.Bit(0) == 0 {
		return nil, fmt.Errorf("its RSA key is not valid")
	}
	return &rsa.PublicKey{N: n, E: defaultExponent}, nil
}

// defaultExponent is the exponent that a TPM writes as 0 (part 2, 12.2.3.5).
const defaultExponent = 65537

func p256Public(area *tpm2.TPMTPublic) (*ecdsa.PublicKey, error) {
	parms, err := area.Parameters.ECCDetail()
	if err != nil {
		return nil, err
	}
	point, err := area.Unique.ECC()
	if err != nil {
		return nil, err
	}
	x, y := point.X.Buffer, point.Y.Buffer
	if parms.CurveID != tpm2.TPMECCNistP256 || len(x) > p256Size || len(y) > p256Size {
		return nil, fmt.Errorf("its ECC key is not on P-256")
	}
	raw := make([]byte, 1+2*p256Size)
	raw[0] = 4 // not compressed
	copy(raw[1+p256Size-len(x):], x)
	copy(raw[1+2*p256Size-len(y):], y)
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
}

// p256Size is the length of a coordinate, and of each half of a signature.
const p256Size = 32
