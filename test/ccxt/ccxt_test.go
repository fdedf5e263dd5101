//go:build ccxt

// Package ccxt compares what sealsign sends to a venue with what ccxt, which
// shares no code with it, signs for the same request at the same time.
package ccxt

import (
	"bytes"
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
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent/venue"
)

// sample is one element of what sign.mjs prints.
type sample struct {
	Venue      string
	Algorithm  venue.Algorithm
	TimeMS     int64 `json:"time_ms"`
	Credential struct {
		APIKey     string `json:"api_key"`
		Secret     string
		Passphrase string
	}
	App, Signed message
}

type message struct {
	Method, URL, Body string
	Headers           map[string]string
}

func TestSameAsCCXT(t *testing.T) {
	var samples []sample
	command := exec.Command("node", "sign.mjs")
	var errors bytes.Buffer
	command.Stderr = &errors
	output, err := command.Output()
	if err != nil {
		t.Fatalf("node sign.mjs: %v\n%s(scripts/install-deps test installs what it needs)", err, errors.String())
	}
	if err := json.Unmarshal(output, &samples); err != nil {
		t.Fatal(err)
	}
	equal := make(map[string]int)
	for i, s := range samples {
		name := fmt.Sprintf("%02d %s %s %s", i, s.Venue, s.Algorithm, path(s.App.URL))
		if t.Run(name, func(t *testing.T) { s.compare(t) }) {
			equal[s.Venue]++
		}
	}
	for _, name := range []string{"binance", "kraken", "coinbase-exchange", "coinbase-cdp", "okx", "bybit"} {
		if equal[name] == 0 {
			t.Errorf("no request of %s was compared", name)
		}
		t.Logf("%-18s %d requests equal", name, equal[name])
	}
}

// compare renders the request of a bot with dummy credentials and wants what
// ccxt makes with the real ones.
func (s sample) compare(t *testing.T) {
	got := s.render(t)
	if got.Method != s.Signed.Method {
		t.Errorf("method %s, ccxt has %s", got.Method, s.Signed.Method)
	}
	url := "https://" + got.Host + got.Path
	if got.Query != "" {
		url += "?" + got.Query
	}
	if url != s.Signed.URL {
		t.Errorf("URL\n  %s\nccxt has\n  %s", url, s.Signed.URL)
	}
	if string(got.Body) != s.Signed.Body {
		t.Errorf("body\n  %s\nccxt has\n  %s", got.Body, s.Signed.Body)
	}
	headers := make(map[string]string)
	for _, field := range got.Header {
		headers[strings.ToLower(field.Name)] = string(field.Value)
	}
	for name, want := range s.Signed.Headers {
		value := headers[strings.ToLower(name)]
		switch name {
		case "Referer": // the app's own; it says which broker gets the rebate
		case "Content-Type":
			if s.Signed.Body != "" && value != want {
				t.Errorf("%s %q, ccxt has %q", name, value, want)
			}
		case "Authorization":
			s.compareTokens(t, value, want)
		default:
			if value != want {
				t.Errorf("%s %q, ccxt has %q", name, value, want)
			}
		}
	}
}

func (s sample) render(t *testing.T) *venue.Signed {
	t.Helper()
	v, ok := venue.Builtin(s.Venue)
	if !ok {
		t.Fatalf("no venue %s", s.Venue)
	}
	host, target, err := venue.ParseURL(s.App.URL)
	if err != nil {
		t.Fatal(err)
	}
	request, err := venue.NewRequest(s.App.Method, host, target, s.App.Headers["Content-Type"], []byte(s.App.Body))
	if err != nil {
		t.Fatal(err)
	}
	call, err := v.Classify(&request)
	if err != nil {
		t.Fatal(err)
	}
	access := venue.Access{APIKey: []byte(s.Credential.APIKey), Algorithm: s.Algorithm}
	if v.Passphrase() {
		access.Passphrase = []byte(s.Credential.Passphrase)
	}
	stamp := venue.Stamp{Time: time.UnixMilli(s.TimeMS), Nonce: uint64(s.TimeMS)}
	draft, err := v.Render(&request, call, access, stamp, "production")
	if err != nil {
		t.Fatal(err)
	}
	return draft.Finish(sign(t, s.Algorithm, v.SecretEncoding(), s.Credential.Secret, draft.Message))
}

// sign is what the keyring does in guarded memory or the TPM does.
func sign(t *testing.T, algorithm venue.Algorithm, encoding, secret string, message []byte) []byte {
	t.Helper()
	key := []byte(secret)
	if encoding == "base64" {
		var err error
		if key, err = base64.StdEncoding.DecodeString(secret); err != nil {
			t.Fatal(err)
		}
	}
	digest := sha256.Sum256(message)
	switch algorithm {
	case venue.HMACSHA256:
		mac := hmac.New(sha256.New, key)
		mac.Write(message)
		return mac.Sum(nil)
	case venue.HMACSHA512:
		mac := hmac.New(sha512.New, key)
		mac.Write(message)
		return mac.Sum(nil)
	}
	var signature []byte
	var err error
	switch private := privateKey(t, secret).(type) {
	case *rsa.PrivateKey:
		signature, err = rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
	case ed25519.PrivateKey:
		signature = ed25519.Sign(private, message)
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		r, s, err = ecdsa.Sign(rand.Reader, private, digest[:])
		if err == nil {
			signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

func privateKey(t *testing.T, text string) any {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatal("the private key is no PEM")
	}
	parse := x509.ParsePKCS8PrivateKey
	if block.Type == "EC PRIVATE KEY" {
		parse = func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) }
	}
	key, err := parse(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// claims is what tokens of both must agree on. Issuer and audience differ by
// design: ccxt writes those of the keys' older name. ES256 is not deterministic
// and the nonce is random, so the signature is verified instead.
type claims struct {
	Subject   string `json:"sub"`
	NotBefore int64  `json:"nbf"`
	Expires   int64  `json:"exp"`
	URI       string `json:"uri"`
}

func (s sample) compareTokens(t *testing.T, got, want string) {
	t.Helper()
	private := privateKey(t, s.Credential.Secret).(*ecdsa.PrivateKey)
	a, b := token(t, &private.PublicKey, got), token(t, &private.PublicKey, want)
	if a != b {
		t.Errorf("claims %+v, ccxt has %+v", a, b)
	}
}

func token(t *testing.T, public *ecdsa.PublicKey, authorization string) (c claims) {
	t.Helper()
	parts := strings.Split(strings.TrimPrefix(authorization, "Bearer "), ".")
	if len(parts) != 3 {
		t.Fatalf("not a token: %q", authorization)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(signature) != 64 {
		t.Fatalf("the token's signature: %d bytes, %v", len(signature), err)
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if !ecdsa.Verify(public, digest[:], r, s) {
		t.Errorf("the token's signature doesn't verify: %s", authorization)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func path(url string) string {
	rest, _, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "?")
	return rest
}
