package credential

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/secmem"
)

// The sizes of RSA keys, in bits, that venues take.
const (
	MinRSA = 2048
	MaxRSA = 4096
)

// parsePrivateKey reads the private key of an asymmetric algorithm: a PEM, or for
// Ed25519 also the base64 of the seed or of seed and public key, which is how
// Coinbase CDP gives it.
func parsePrivateKey(algorithm string, text []byte) (crypto.Signer, error) {
	memory, err := secmem.New(len(text))
	if err != nil {
		return nil, err
	}
	defer memory.Release()
	text = bytes.TrimSpace(appendRepaired(memory.Bytes()[:0], text))
	var key any
	switch {
	case bytes.HasPrefix(text, []byte("-----BEGIN ")):
		key, err = parsePEM(text)
	case algorithm == Ed25519:
		key, err = parseEd25519(text)
	default:
		err = Bad("has a private key that is no PEM (-----BEGIN PRIVATE KEY-----)")
	}
	if err != nil {
		return nil, err
	}
	return checkKey(algorithm, key)
}

// appendRepaired appends text to out, a literal \n as a newline: PEMs come so out
// of JSON files and environment variables that were escaped twice. No PEM and no
// base64 has a backslash of its own.
func appendRepaired(out, text []byte) []byte {
	for i := 0; i < len(text); i++ {
		b := text[i]
		if b == '\\' && i+1 < len(text) && (text[i+1] == 'n' || text[i+1] == 'r') {
			i++
			b = '\n' // an empty line between two lines of a PEM is ignored
		}
		out = append(out, b)
	}
	return out
}

// otherPEMs says what the PEM types are that hold no private key of ours.
var otherPEMs = map[string]struct{ what, hint string }{
	"ENCRYPTED PRIVATE KEY": {"an encrypted private key", "decrypt it first: openssl pkey -in FILE"},
	"OPENSSH PRIVATE KEY":   {"an OpenSSH private key", "convert it first: ssh-keygen -p -m PKCS8 -f FILE"},
	"TSS2 PRIVATE KEY":      {"a key that belongs to a TPM", "give the key as the venue issued it"},
	"DSA PRIVATE KEY":       {"a DSA private key", "make a key of the algorithm that the config names"},
	"PUBLIC KEY":            {"a public key", "give the private key that belongs to it"},
	"RSA PUBLIC KEY":        {"a public key", "give the private key that belongs to it"},
	"CERTIFICATE":           {"a certificate", "give the private key that belongs to it"},
	"CERTIFICATE REQUEST":   {"a certificate request", "give the private key that belongs to it"},
}

// parsePEM reads PKCS #8, PKCS #1 or SEC 1. The DER and the parsed key are on the
// Go heap: the standard library's keys can't live elsewhere.
func parsePEM(text []byte) (any, error) {
	block, rest := pem.Decode(text)
	if block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam -genkey puts it first
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, Bad("has a private key whose PEM is cut short or damaged")
	}
	defer clear(block.Bytes)
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, Bad("has something after the PEM of the private key")
	}
	if block.Headers["DEK-Info"] != "" {
		other := otherPEMs["ENCRYPTED PRIVATE KEY"]
		return nil, Bad("has %s", other.what).WithHint("%s", other.hint)
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		other, known := otherPEMs[block.Type]
		if !known {
			return nil, Bad("has a PEM that is no private key")
		}
		return nil, Bad("has %s where the private key belongs", other.what).WithHint("%s", other.hint)
	}
	if err != nil { // not repeated: it may quote numbers of the key
		return nil, Bad("has a private key whose PEM holds no valid key")
	}
	return key, nil
}

// parseEd25519 reads the base64 of a 32-byte seed, or of the seed and the public
// key (RFC 8032, 5.1.5).
func parseEd25519(text []byte) (any, error) {
	memory, err := secmem.New(base64.StdEncoding.DecodedLen(len(text)))
	if err != nil {
		return nil, err
	}
	defer memory.Release()
	n, err := base64.StdEncoding.Strict().Decode(memory.Bytes(), text)
	if err != nil || n != ed25519.SeedSize && n != ed25519.PrivateKeySize {
		return nil, Bad("has a private key that is neither a PEM nor the base64 of an Ed25519 key's 32 or 64 bytes")
	}
	raw := memory.Bytes()[:n]
	key := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if n == ed25519.PrivateKeySize && subtle.ConstantTimeCompare(key, raw) != 1 {
		clear(key)
		return nil, Bad("has an Ed25519 private key whose public half isn't its own")
	}
	return key, nil
}

// checkKey refuses a key of another kind than the algorithm's.
func checkKey(algorithm string, key any) (crypto.Signer, error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if algorithm != RSASHA256 {
			break
		}
		if bits := key.N.BitLen(); bits < MinRSA || bits > MaxRSA {
			return nil, Bad("has an RSA key of %d bits", bits).WithHint("venues take %d to %d bits", MinRSA, MaxRSA)
		}
		return key, nil
	case *ecdsa.PrivateKey:
		if algorithm == ES256 && key.Curve == elliptic.P256() {
			return key, nil
		}
	case ed25519.PrivateKey:
		if algorithm == Ed25519 {
			return key, nil
		}
	}
	return nil, fault.New(fault.BadRequest, "the private key is %s, and the config's algorithm is %s", kindOf(key), algorithm).
		WithHint("give a key of that algorithm, or change algorithm under [keys]")
}

// kindOf names a parsed key.
func kindOf(key any) string {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return fmt.Sprintf("an RSA key of %d bits", key.N.BitLen())
	case *ecdsa.PrivateKey:
		return "an ECDSA key on " + key.Curve.Params().Name
	case ed25519.PrivateKey:
		return "an Ed25519 key"
	case *ecdh.PrivateKey:
		return "a key for key agreement"
	}
	return "a key of another kind"
}
