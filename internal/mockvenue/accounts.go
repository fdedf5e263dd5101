package mockvenue

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"sync"
)

// Credential is what a venue issued, in the shape that `sealsign key import` reads.
type Credential struct {
	APIKey     string `json:"api_key"`
	Secret     string `json:"secret,omitempty"`
	Passphrase string `json:"passphrase,omitempty"`
	PrivateKey string `json:"private_key,omitempty"`
}

// JSON is the credential as one object.
func (c Credential) JSON() []byte {
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // four strings
	}
	return text
}

// account is the venue's side of a credential.
type account struct {
	apiKey     string
	secret     []byte // the HMAC key, decoded
	passphrase string
	public     crypto.PublicKey // of accounts that sign with a private key

	mu       sync.Mutex
	nonce    uint64          // the highest seen
	used     map[string]bool // tokens that may come once
	rights   Rights
	disabled bool // the venue refuses the key
}

// accounts are one venue's, by API key.
type accounts struct {
	mu     sync.Mutex
	issued map[string]Credential // by algorithm
	byKey  map[string]*account
}

// Algorithms are what the venue's accounts can sign with, the usual one first.
func (s *Server) Algorithms(venue string) []string { return s.venue(venue).algorithms }

// Credential issues the venue's account of the algorithm, the same one each time.
// HMAC secrets are fixed texts that say FAKE; private keys are made anew.
func (s *Server) Credential(venue, algorithm string) Credential {
	v := s.venue(venue)
	v.accounts.mu.Lock()
	defer v.accounts.mu.Unlock()
	if issued, ok := v.accounts.issued[algorithm]; ok {
		return issued
	}
	issued, acct, err := v.issue(algorithm)
	if err != nil {
		panic(fmt.Sprintf("mockvenue: %s: %v", venue, err))
	}
	v.accounts.put(acct)
	if v.accounts.issued == nil {
		v.accounts.issued = make(map[string]Credential)
	}
	v.accounts.issued[algorithm] = issued
	return issued
}

// Register makes an account for a public key that somebody else made, as a user does on the venue's page.
func (s *Server) Register(venue, apiKey string, public crypto.PublicKey) {
	v := s.venue(venue)
	v.accounts.mu.Lock()
	defer v.accounts.mu.Unlock()
	v.accounts.put(&account{apiKey: apiKey, public: public, rights: usual()})
}

func (a *accounts) put(acct *account) {
	if a.byKey == nil {
		a.byKey = make(map[string]*account)
	}
	a.byKey[acct.apiKey] = acct
}

func (a *accounts) get(apiKey string) (*account, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	acct, ok := a.byKey[apiKey]
	return acct, ok
}

// issue makes the credential and the venue's side of it.
func (v *venue) issue(algorithm string) (Credential, *account, error) {
	c := Credential{APIKey: "FAKE-" + v.name + "-" + algorithm}
	acct := &account{apiKey: c.APIKey, rights: usual()}
	if v.passphrase {
		c.Passphrase = "FAKE-passphrase-" + v.name
		acct.passphrase = c.Passphrase
	}
	switch algorithm {
	case "none":
		return c, acct, nil
	case "hmac-sha256", "hmac-sha512":
		acct.secret = []byte("FAKE-secret-of-" + v.name + "-that-opens-nothing-0123456789abcdef")
		c.Secret = string(acct.secret)
		if v.base64Secret {
			c.Secret = base64.StdEncoding.EncodeToString(acct.secret)
		}
		return c, acct, nil
	}
	private, err := newPrivateKey(algorithm)
	if err != nil {
		return Credential{}, nil, err
	}
	acct.public = private.Public()
	if raw, ok := private.(ed25519.PrivateKey); ok && v.rawEd25519 {
		c.PrivateKey = base64.StdEncoding.EncodeToString(raw)
		return c, acct, nil
	}
	c.PrivateKey, err = encodePrivateKey(private)
	return c, acct, err
}

func newPrivateKey(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "rsa-sha256":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "es256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	return nil, fmt.Errorf("no accounts with %s", algorithm)
}

// encodePrivateKey writes PEM as venues hand it out: SEC1 for P-256, PKCS#8 for the others.
func encodePrivateKey(key crypto.Signer) (string, error) {
	if ec, ok := key.(*ecdsa.PrivateKey); ok {
		der, err := x509.MarshalECPrivateKey(ec)
		return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), err
}

// rising notes a nonce and says whether it is higher than all before it.
func (a *account) rising(nonce uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if nonce <= a.nonce {
		return false
	}
	a.nonce = nonce
	return true
}

// once notes a token and says whether it is the first of its kind.
func (a *account) once(token string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.used[token] {
		return false
	}
	if a.used == nil {
		a.used = make(map[string]bool)
	}
	a.used[token] = true
	return true
}
