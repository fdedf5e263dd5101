package venue

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// vectorVenues names the venues of the vectors that are built in, as they are called here.
var vectorVenues = map[string]string{
	"binance": "binance", "binance-usdm": "binance", "kraken": "kraken", "coinbase-exchange": "coinbase-exchange",
	"coinbase-cdp": "coinbase-cdp", "okx": "okx", "bybit": "bybit",
}

// otherVenues names those that are not built in.
var otherVenues = []string{
	"bingx", "bitfinex", "bitget", "bitmex", "bitstamp", "cryptocom", "deribit", "fireblocks", "gate", "gate-subscribe", "gemini", "htx", "hyperliquid",
	"kraken-futures", "kucoin", "kucoin-futures", "mexc", "mexc-futures", "phemex", "poloniex", "upbit", "woo",
}

// otherVectors are of requests that the agent doesn't make: a logged-in WebSocket API.
var otherVectors = []string{"binance/WS-API HMAC ASCII", "binance/WS-API HMAC non-ASCII raw UTF-8 (not percent-encoded)"}

type vector struct {
	Venue    string
	Name     string
	Kind     string
	Alg      string
	Expected string // of an official one
	Inputs   struct {
		Secret    string
		SecretB64 string `json:"secret_b64"`
		APIKey    string `json:"apiKey"`
		Payload   string
		Path      string
		Nonce     string
		Body      string
	}
	Creds struct {
		APIKey   string `json:"apiKey"`
		Secret   string
		Password string
	}
	TimeMS  int64 `json:"time_ms"`
	Request struct {
		Method, Host, Path, Query, Body string
		ContentType                     string `json:"content_type"`
	}
	Canonical string
	Expect    struct {
		Headers       map[string]string
		URL           string
		Body          string
		Header        map[string]any
		Claims        map[string]any
		Authorization string
		Message       json.RawMessage
	}
}

func loadVectors(t testing.TB) []vector {
	t.Helper()
	data, err := os.ReadFile("../../testdata/vectors/signing.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Official, Cases []vector }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	return append(file.Official, file.Cases...)
}

func TestVectors(t *testing.T) {
	count := make(map[string]int)
	for _, c := range loadVectors(t) {
		name, ours := vectorVenues[c.Venue]
		if !ours {
			if !slices.Contains(otherVenues, c.Venue) {
				t.Errorf("vectors of %s: neither built in nor known to be missing", c.Venue)
			}
			continue
		}
		if slices.Contains(otherVectors, c.Venue+"/"+c.Name) {
			continue
		}
		count[c.Venue]++
		t.Run(c.Venue+"/"+c.Name, func(t *testing.T) {
			v, ok := Builtin(name)
			if !ok {
				t.Fatalf("no venue %s", name)
			}
			switch {
			case c.Expected != "":
				checkOfficial(t, v, &c)
			case c.Kind == "ws":
				checkLogin(t, v, &c)
			default:
				checkRequest(t, v, &c)
			}
		})
	}
	for venue := range vectorVenues {
		if count[venue] == 0 {
			t.Errorf("no vectors of %s", venue)
		}
	}
}

// checkOfficial recomputes a vector that the venue itself published: it gives
// what is signed and the signature.
func checkOfficial(t *testing.T, v *Venue, c *vector) {
	t.Helper()
	path, body, secret := "/api/v3/order", c.Inputs.Payload, []byte(c.Inputs.Secret)
	stamp := Stamp{Time: time.UnixMilli(1499827319559)}
	if c.Inputs.Path != "" {
		path, body = c.Inputs.Path, c.Inputs.Body
		stamp.Nonce, _ = strconv.ParseUint(c.Inputs.Nonce, 10, 64)
		secret = decode64(t, c.Inputs.SecretB64)
	}
	d := render(t, v, "POST", v.Hosts("production")[0], path, "", body, Access{APIKey: []byte(c.Inputs.APIKey), Algorithm: v.Algorithms()[0]}, stamp)
	signed := d.Finish(sign(t, v.Algorithms()[0], secret, d.Message))
	if got := string(signed.Body) + headerOf(signed, "API-Sign"); !strings.Contains(got, c.Expected) {
		t.Errorf("signed request has no %s:\n%s", c.Expected, got)
	}
}

func checkRequest(t *testing.T, v *Venue, c *vector) {
	t.Helper()
	access, stamp, secret := credential(t, v, c)
	target := c.Request.Path
	if c.Request.Query != "" {
		target += "?" + c.Request.Query
	}
	v = withClaimsOf(v, c)
	d := render(t, v, c.Request.Method, c.Request.Host, target, c.Request.ContentType, c.Request.Body, access, stamp)
	if c.Expect.Claims == nil && canonical(t, c) != string(d.Message) {
		t.Errorf("message\n%q, want\n%q", d.Message, canonical(t, c))
	}
	signature := sign(t, access.Algorithm, secret, d.Message)
	signed := d.Finish(signature)

	url := "https://" + signed.Host + signed.Path
	if signed.Query != "" {
		url += "?" + signed.Query
	}
	if url != c.Expect.URL {
		t.Errorf("URL\n%s, want\n%s", url, c.Expect.URL)
	}
	if string(signed.Body) != c.Expect.Body {
		t.Errorf("body\n%s, want\n%s", signed.Body, c.Expect.Body)
	}
	for name, want := range c.Expect.Headers {
		if got := headerOf(signed, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if c.Expect.Claims != nil {
		own := strings.TrimPrefix(headerOf(signed, "Authorization"), "Bearer ")
		checkToken(t, c, own)
		checkVerifies(t, c, secret, own)
		checkVerifies(t, c, secret, strings.TrimPrefix(c.Expect.Authorization, "Bearer "))
	}
}

func checkLogin(t *testing.T, v *Venue, c *vector) {
	t.Helper()
	access, stamp, secret := credential(t, v, c)
	d, effect, _, err := withClaimsOf(v, c).Login("", access, stamp, "production")
	if err != nil {
		t.Fatal(err)
	}
	if effect.Operation != Session || len(effect.Grants) == 0 {
		t.Errorf("effect %+v is no session that says what it grants", effect)
	}
	var got, want map[string]any
	if err := json.Unmarshal(d.FinishLogin(sign(t, access.Algorithm, secret, d.Message)), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(c.Expect.Message, &want); err != nil {
		t.Fatal(err)
	}
	if c.Expect.Claims != nil {
		checkToken(t, c, got["jwt"].(string))
		checkVerifies(t, c, secret, got["jwt"].(string))
		checkVerifies(t, c, secret, want["jwt"].(string))
		return
	}
	if string(d.Message) != c.Canonical {
		t.Errorf("message %q, want %q", d.Message, c.Canonical)
	}
	for name := range want {
		if !reflect.DeepEqual(got[name], want[name]) {
			t.Errorf("%s is %v, want %v", name, got[name], want[name])
		}
	}
}

// withClaimsOf gives the venue with the JWT claims of the vector: the library that
// made it writes an older form than the venue's own do now.
func withClaimsOf(v *Venue, c *vector) *Venue {
	if c.Expect.Claims == nil {
		return v
	}
	says := claims{issuer: c.Expect.Claims["iss"].(string), issued: c.Expect.Claims["iat"] != nil, uris: c.Expect.Claims["uris"] != nil}
	if audience, ok := c.Expect.Claims["aud"].([]any); ok {
		says.audience = audience[0].(string)
	}
	changed := *v
	changed.jwt = map[Algorithm]claims{ES256: says, Ed25519: says}
	return &changed
}

// checkToken compares a JWT's header and claims, whose order is free.
func checkToken(t *testing.T, c *vector, token string) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no JWT", token)
	}
	for i, want := range []map[string]any{c.Expect.Header, c.Expect.Claims} {
		var got map[string]any
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("JWT part %d\n%v, want\n%v", i, got, want)
		}
	}
}

// checkVerifies verifies a token: ES256 signatures differ each time.
func checkVerifies(t *testing.T, c *vector, secret []byte, token string) {
	t.Helper()
	signed, encoded, _ := cutLast(token, ".")
	signature, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	ok := false
	switch key := privateKey(t, secret).(type) {
	case ed25519.PrivateKey:
		ok = ed25519.Verify(key.Public().(ed25519.PublicKey), []byte(signed), signature)
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256([]byte(signed))
		ok = len(signature) == 64 && ecdsa.Verify(&key.PublicKey, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	}
	if !ok {
		t.Errorf("%s: the signature of %s does not verify", c.Name, token)
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// credential gives what a vector is signed with, and when.
func credential(t *testing.T, v *Venue, c *vector) (Access, Stamp, []byte) {
	t.Helper()
	algorithms := map[string]Algorithm{
		"": v.Algorithms()[0], "hmac-sha256": HMACSHA256, "rsa-pkcs1v15-sha256": RSASHA256, "ed25519": Ed25519, "ES256": ES256, "EdDSA": Ed25519,
	}
	algorithm, ok := algorithms[c.Alg]
	if !ok {
		t.Fatalf("unknown algorithm %s", c.Alg)
	}
	secret := []byte(c.Creds.Secret)
	if v.SecretEncoding() == "base64" {
		secret = decode64(t, c.Creds.Secret)
	}
	stamp := Stamp{Time: time.UnixMilli(c.TimeMS), Nonce: uint64(c.TimeMS)}
	if random, ok := c.Expect.Header["nonce"].(string); ok {
		if _, err := hex.Decode(stamp.Random[:], []byte(random)); err != nil {
			t.Fatal(err)
		}
	}
	return Access{APIKey: []byte(c.Creds.APIKey), Passphrase: []byte(c.Creds.Password), Algorithm: algorithm}, stamp, secret
}

func canonical(t *testing.T, c *vector) string {
	t.Helper()
	encoded, isHex := strings.CutPrefix(c.Canonical, "hex:")
	if !isHex {
		return c.Canonical
	}
	raw, err := hex.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
