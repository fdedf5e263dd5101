package credential

import (
	"crypto"
	"encoding/base64"

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

// HMACHashes are the hashes of the HMAC algorithms.
var HMACHashes = map[string]crypto.Hash{
	HMACSHA256: crypto.SHA256,
	HMACSHA384: crypto.SHA384,
	HMACSHA512: crypto.SHA512,
}

// HMACSecret is the secret as the venue keys its HMAC with it. What it decoded is
// in memory, which the caller releases; it may be nil.
func HMACSecret(algorithm, encoding string, c *Credential) (secret []byte, memory *secmem.Buffer, err error) {
	switch {
	case c.PrivateKey != nil:
		return nil, nil, Bad("has a private_key, and algorithm %s takes a secret", algorithm)
	case c.Secret == nil:
		return nil, nil, Bad("has no secret, which algorithm %s needs", algorithm)
	case spaceAround(c.Secret):
		return nil, nil, Bad("has a secret with white space around it")
	case encoding != Base64:
		return c.Secret, nil, nil
	}
	if memory, err = secmem.New(base64.StdEncoding.DecodedLen(len(c.Secret))); err != nil {
		return nil, nil, err
	}
	n, err := base64.StdEncoding.Strict().Decode(memory.Bytes(), c.Secret)
	if err != nil || n == 0 {
		memory.Release()
		return nil, nil, Bad("has a secret that isn't base64, which this venue's secrets are")
	}
	return memory.Bytes()[:n], memory, nil
}

// PrivateKey reads the private key, which some venues' downloads call the secret.
func PrivateKey(algorithm string, c *Credential) (crypto.Signer, error) {
	text := c.PrivateKey
	switch {
	case text == nil && c.Secret == nil:
		return nil, Bad("has no private_key, which algorithm %s needs", algorithm)
	case text != nil && c.Secret != nil:
		return nil, Bad("has both private_key and secret, and algorithm %s needs one key", algorithm)
	case text == nil:
		text = c.Secret
	}
	return parsePrivateKey(algorithm, text)
}

// CheckStatic refuses what a static header has no use for: it is a sign of a
// credential of another kind.
func (c *Credential) CheckStatic() error {
	if c.Secret != nil || c.PrivateKey != nil {
		return Bad("has more than an api_key, which is all that algorithm %s takes", None)
	}
	return nil
}

// CheckSigns refuses a credential that can't sign with an algorithm. encoding is the
// venue's for HMAC secrets.
func (c *Credential) CheckSigns(algorithm, encoding string) error {
	if algorithm == None {
		return c.CheckStatic()
	}
	if _, isHMAC := HMACHashes[algorithm]; isHMAC {
		_, memory, err := HMACSecret(algorithm, encoding, c)
		memory.Release()
		return err
	}
	_, err := PrivateKey(algorithm, c)
	return err
}
