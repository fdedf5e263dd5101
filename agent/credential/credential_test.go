package credential

import (
	"bytes"
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
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
)

// Private keys of the tests' own.
var (
	rsaKey     = sync.OnceValue(func() *rsa.PrivateKey { k, _ := rsa.GenerateKey(rand.Reader, 2048); return k })
	p256Key    = sync.OnceValue(func() *ecdsa.PrivateKey { k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader); return k })
	ed25519Key = sync.OnceValue(func() ed25519.PrivateKey { _, k, _ := ed25519.GenerateKey(rand.Reader); return k })
)

func badRequest(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, fault.BadRequest) {
		t.Fatalf("got %v, want BAD_REQUEST", err)
	}
}

func credentialJSON(t testing.TB, fields map[string]string) []byte {
	t.Helper()
	data, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// pemOfKey is a private key as PKCS #8.
func pemOfKey(t testing.TB, key crypto.PrivateKey) string {
	t.Helper()
	return pemBlock("PRIVATE KEY", derOf(t, key, func(k any) ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k) }))
}

// canary stands for what no error may repeat.
const canary = "c4nary5ecret"

func TestImportedCredential(t *testing.T) {
	c, err := Parse([]byte(" {\"secret\" : \"a\\\"\\\\\\/\\u00e9\\ud83d\\ude00\",\n\"api_key\":\"id/1\", \"passphrase\":\"open sesame\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Wipe()
	if string(c.APIKey) != "id/1" || string(c.Secret) != "a\"\\/é😀" || string(c.Passphrase) != "open sesame" || c.PrivateKey != nil {
		t.Fatalf("got %q %q %q %q", c.APIKey, c.Secret, c.Passphrase, c.PrivateKey)
	}
}

func TestBadCredentials(t *testing.T) {
	for name, c := range map[string]struct{ in, says string }{
		"nothing":              {"", "a JSON object"},
		"a text":               {`"` + canary + `"`, "a JSON object"},
		"a list":               {`["` + canary + `"]`, "a JSON object"},
		"no fields":            {`{}`, "no api_key"},
		"no API key":           {`{"secret":"` + canary + `"}`, "no api_key"},
		"an unknown field":     {`{"api_key":"k","` + canary + `":"v"}`, "a field that isn't api_key"},
		"another case":         {`{"API_KEY":"` + canary + `"}`, "a field that isn't api_key"},
		"the TPM's field":      {`{"api_key":"k","auth":"` + canary + `"}`, "a field that isn't api_key"},
		"a field twice":        {`{"api_key":"k","secret":"` + canary + `","secret":"x"}`, "has secret twice"},
		"twice by an escape":   {`{"api_key":"k","secret":"` + canary + `","\u0073ecret":"x"}`, "has secret twice"},
		"an empty field":       {`{"api_key":"k","secret":""}`, "an empty secret"},
		"white space only":     {`{"api_key":"k","private_key":" \n"}`, "an empty private_key"},
		"a number":             {`{"api_key":"k","secret":123}`, "has secret, which isn't a text"},
		"null":                 {`{"api_key":"k","secret":null}`, "has secret, which isn't a text"},
		"an object":            {`{"api_key":"k","secret":{"x":"` + canary + `"}}`, "has secret, which isn't a text"},
		"trailing data":        {`{"api_key":"` + canary + `"} x`, "nothing after the object"},
		"a trailing comma":     {`{"api_key":"` + canary + `",}`, "a field's name"},
		"no comma":             {`{"api_key":"` + canary + `" "secret":"x"}`, "a comma"},
		"no colon":             {`{"api_key" "` + canary + `"}`, "a colon"},
		"cut in a text":        {`{"api_key":"` + canary, "the end of a text"},
		"cut in an escape":     {`{"api_key":"` + canary + `\u00`, "an escape"},
		"cut after backslash":  {`{"api_key":"` + canary + `\`, "an escape"},
		"an unknown escape":    {`{"api_key":"` + canary + `\x41"}`, "an escape"},
		"a lone surrogate":     {`{"api_key":"k","secret":"\ud83d"}`, "an escape"},
		"a broken pair":        {`{"api_key":"k","secret":"\ud83d\u0041"}`, "an escape"},
		"a bare newline":       {"{\"api_key\":\"" + canary + "\n\"}", "control character"},
		"invalid UTF-8":        {"{\"api_key\":\"" + canary + "\xff\"}", "UTF-8"},
		"64 KiB and more":      {`{"api_key":"` + strings.Repeat("x", MaxSize) + `"}`, "more than 64 KiB"},
		"a newline in the key": {`{"api_key":"` + canary + `\n"}`, "no header takes"},
		"a space in the key":   {`{"api_key":"` + canary + ` x"}`, "no header takes"},
		"a header in the key":  {`{"api_key":"` + canary + `\r\nX: y"}`, "no header takes"},
		"a padded passphrase":  {`{"api_key":"k","passphrase":" ` + canary + `"}`, "passphrase"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.in))
			badRequest(t, err)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v doesn't say %q", err, c.says)
			}
			if strings.Contains(fmt.Sprintf("%+v", *fault.From(err)), canary) {
				t.Errorf("%v repeats the credential", err)
			}
		})
	}
}

func derOf(t testing.TB, key any, marshal func(any) ([]byte, error)) []byte {
	t.Helper()
	der, err := marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func pemBlock(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestPrivateKeyForms(t *testing.T) {
	sec1, err := x509.MarshalECPrivateKey(p256Key())
	if err != nil {
		t.Fatal(err)
	}
	seed := ed25519Key().Seed()
	for name, c := range map[string]struct{ algorithm, text string }{
		"RSA PKCS #8":                   {RSASHA256, pemOfKey(t, rsaKey())},
		"RSA PKCS #1":                   {RSASHA256, pemBlock("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey()))},
		"P-256 PKCS #8":                 {ES256, pemOfKey(t, p256Key())},
		"P-256 SEC 1":                   {ES256, pemBlock("EC PRIVATE KEY", sec1)},
		"P-256 after its parameters":    {ES256, pemBlock("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}) + pemBlock("EC PRIVATE KEY", sec1)},
		"a literal \\n for each line":   {ES256, strings.ReplaceAll(pemBlock("EC PRIVATE KEY", sec1), "\n", `\n`)},
		"a literal \\r\\n":              {ES256, strings.ReplaceAll(pemBlock("EC PRIVATE KEY", sec1), "\n", `\r\n`)},
		"lines of Windows":              {ES256, strings.ReplaceAll(pemBlock("EC PRIVATE KEY", sec1), "\n", "\r\n")},
		"no newline at the end":         {ES256, strings.TrimSpace(pemBlock("EC PRIVATE KEY", sec1))},
		"Ed25519 PKCS #8":               {Ed25519, pemOfKey(t, ed25519Key())},
		"Ed25519 seed":                  {Ed25519, base64.StdEncoding.EncodeToString(seed)},
		"Ed25519 seed and public key":   {Ed25519, base64.StdEncoding.EncodeToString(ed25519Key())},
		"Ed25519 with a newline around": {Ed25519, base64.StdEncoding.EncodeToString(ed25519Key()) + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			text := []byte(c.text)
			key, err := parsePrivateKey(c.algorithm, text)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]any{RSASHA256: rsaKey().Public(), ES256: p256Key().Public(), Ed25519: ed25519Key().Public()}[c.algorithm]
			if !want.(interface{ Equal(x crypto.PublicKey) bool }).Equal(key.Public()) {
				t.Fatal("another key")
			}
			if string(text) != c.text {
				t.Fatal("what is stored was changed")
			}
		})
	}
}

func TestBadMaterial(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := pemBlock("PUBLIC KEY", derOf(t, rsaKey().Public(), func(k any) ([]byte, error) { return x509.MarshalPKIXPublicKey(k) }))
	foreign := append(ed25519Key().Seed(), make([]byte, 32)...)
	good := pemOfKey(t, rsaKey())
	for name, c := range map[string]struct{ algorithm, encoding, secret, key, says string }{
		"no secret":                 {HMACSHA256, "raw", "", "", "no secret"},
		"a private key for HMAC":    {HMACSHA256, "raw", "", good, "takes a secret"},
		"both for HMAC":             {HMACSHA256, "raw", canary, good, "takes a secret"},
		"a padded secret":           {HMACSHA256, "raw", canary + "\n", "", "white space around"},
		"not base64":                {HMACSHA512, Base64, canary + "!", "", "isn't base64"},
		"base64 without padding":    {HMACSHA512, Base64, "YQ", "", "isn't base64"},
		"base64 with loose bits":    {HMACSHA512, Base64, "YR==", "", "isn't base64"},
		"base64 of another sort":    {HMACSHA512, Base64, "-_-_", "", "isn't base64"},
		"no private key":            {ES256, "raw", "", "", "no private_key"},
		"both":                      {ES256, "raw", canary, canary, "both private_key and secret"},
		"not a PEM":                 {ES256, "raw", "", canary, "no PEM"},
		"a secret for RSA":          {RSASHA256, "raw", canary, "", "no PEM"},
		"a cut PEM":                 {RSASHA256, "raw", "", good[:len(good)/2], "cut short"},
		"something after it":        {RSASHA256, "raw", "", good + canary, "after the PEM"},
		"two keys":                  {RSASHA256, "raw", "", good + good, "after the PEM"},
		"garbage in a PEM":          {RSASHA256, "raw", "", pemBlock("PRIVATE KEY", []byte(canary)), "no valid key"},
		"a public key":              {RSASHA256, "raw", "", public, "a public key"},
		"a certificate":             {RSASHA256, "raw", "", pemBlock("CERTIFICATE", []byte(canary)), "a certificate"},
		"an encrypted key":          {RSASHA256, "raw", "", pemBlock("ENCRYPTED PRIVATE KEY", []byte(canary)), "an encrypted private key"},
		"an encrypted key of old":   {RSASHA256, "raw", "", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nYWFh\n-----END RSA PRIVATE KEY-----\n", "an encrypted private key"},
		"an OpenSSH key":            {Ed25519, "raw", "", pemBlock("OPENSSH PRIVATE KEY", []byte(canary)), "an OpenSSH private key"},
		"an unknown PEM":            {Ed25519, "raw", "", pemBlock(strings.ToUpper(canary), []byte("x")), "no private key"},
		"RSA of 1024 bits":          {RSASHA256, "raw", "", pemOfKey(t, small), "1024 bits"},
		"RSA for Ed25519":           {Ed25519, "raw", "", good, "an RSA key of 2048 bits, and the config's algorithm is ed25519"},
		"Ed25519 for ES256":         {ES256, "raw", "", pemOfKey(t, ed25519Key()), "an Ed25519 key"},
		"P-384 for ES256":           {ES256, "raw", "", pemOfKey(t, p384), "an ECDSA key on P-384"},
		"P-256 for RSA":             {RSASHA256, "raw", "", pemOfKey(t, p256Key()), "an ECDSA key on P-256"},
		"Ed25519 of 33 bytes":       {Ed25519, "raw", "", base64.StdEncoding.EncodeToString(make([]byte, 33)), "32 or 64 bytes"},
		"a secret for none":         {None, "raw", canary, "", "all that algorithm none takes"},
		"Ed25519 of another's half": {Ed25519, "raw", "", base64.StdEncoding.EncodeToString(foreign), "public half"},
	} {
		t.Run(name, func(t *testing.T) {
			given := &Credential{APIKey: []byte("k")}
			if c.secret != "" {
				given.Secret = []byte(c.secret)
			}
			if c.key != "" {
				given.PrivateKey = []byte(c.key)
			}
			err := given.CheckSigns(c.algorithm, c.encoding)
			badRequest(t, err)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v doesn't say %q", err, c.says)
			}
			if text := fmt.Sprintf("%+v", *fault.From(err)); strings.Contains(strings.ToLower(text), canary) {
				t.Errorf("%s repeats the credential", text)
			}
		})
	}
}

// FuzzCredential compares with encoding/json, and has every algorithm read what
// was accepted.
func FuzzCredential(f *testing.F) {
	f.Add([]byte(`{"api_key":"k","secret":"s"}`))
	f.Add([]byte(`{"api_key":"k\u00e9\ud83d\ude00","secret":"\"\\\/\b\f\n\r\t","passphrase":"p"}`))
	f.Add([]byte(`{"api_key":"k","secret":"c2VjcmV0"}`))
	f.Add(credentialJSON(f, map[string]string{"api_key": "k", "private_key": pemOfKey(f, p256Key())}))
	f.Add(credentialJSON(f, map[string]string{"api_key": "k", "private_key": strings.ReplaceAll(pemOfKey(f, ed25519Key()), "\n", `\n`)}))
	f.Add(credentialJSON(f, map[string]string{"api_key": "k", "secret": base64.StdEncoding.EncodeToString(ed25519Key())}))
	f.Add([]byte(`{"api_key":"k","api_key":"k"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		c, err := ParseStored(data)
		if !bytes.Equal(data, before) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			return
		}
		defer c.Wipe()
		var want map[string]string
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("encoding/json refuses what was accepted: %v", err)
		}
		for _, field := range c.fields() {
			value, there := want[field.name]
			if there != (*field.value != nil) || value != string(*field.value) {
				t.Fatalf("%s is %q, encoding/json says %q", field.name, *field.value, value)
			}
		}
		encoded, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		defer encoded.Release()
		again, err := ParseStored(encoded.Bytes())
		if err != nil {
			t.Fatalf("what was written can't be read: %v", err)
		}
		defer again.Wipe()
		for i, field := range again.fields() {
			if !bytes.Equal(*field.value, *c.fields()[i].value) {
				t.Fatalf("%s comes back as another text", field.name)
			}
		}
		for _, algorithm := range []string{HMACSHA256, HMACSHA512, RSASHA256, ES256, Ed25519, None} {
			for _, encoding := range []string{"raw", Base64} {
				_ = c.CheckSigns(algorithm, encoding)
			}
		}
	})
}
