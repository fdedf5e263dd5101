package venue

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
)

// render takes a request through NewRequest, Classify and Render.
func render(t testing.TB, v *Venue, method, host, target, contentType, body string, access Access, stamp Stamp) *Draft {
	t.Helper()
	r, err := NewRequest(method, host, target, contentType, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	call, err := v.Classify(&r)
	if err != nil {
		t.Fatal(err)
	}
	d, err := v.Render(&r, call, access, stamp, "production")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func headerOf(s *Signed, name string) string {
	for _, f := range s.Header {
		if strings.EqualFold(f.Name, name) {
			return string(f.Value)
		}
	}
	return ""
}

// sign signs with the standard library alone.
func sign(t testing.TB, algorithm Algorithm, secret, message []byte) []byte {
	t.Helper()
	switch algorithm {
	case HMACSHA256:
		return mac(crypto.SHA256, secret, message)
	case HMACSHA384:
		return mac(crypto.SHA384, secret, message)
	case HMACSHA512:
		return mac(crypto.SHA512, secret, message)
	}
	digest := sha256.Sum256(message)
	switch key := privateKey(t, secret).(type) {
	case *rsa.PrivateKey:
		signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return signature
	case ed25519.PrivateKey:
		return ed25519.Sign(key, message)
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	t.Fatalf("can't sign %s", algorithm)
	return nil
}

func mac(hash crypto.Hash, secret, message []byte) []byte {
	news := map[crypto.Hash]func() []byte{
		crypto.SHA256: func() []byte { m := hmac.New(sha256.New, secret); m.Write(message); return m.Sum(nil) },
		crypto.SHA384: func() []byte { m := hmac.New(sha512.New384, secret); m.Write(message); return m.Sum(nil) },
		crypto.SHA512: func() []byte { m := hmac.New(sha512.New, secret); m.Write(message); return m.Sum(nil) },
	}
	return news[hash]()
}

func privateKey(t testing.TB, secret []byte) any {
	t.Helper()
	block, _ := pem.Decode(secret)
	if block == nil { // Ed25519 as seed and public key
		return ed25519.NewKeyFromSeed(decode64(t, string(secret))[:ed25519.SeedSize])
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func decode64(t testing.TB, s string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
