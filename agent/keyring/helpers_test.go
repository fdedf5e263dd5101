package keyring

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// place is a state folder with the TPM and the faults of its disk.
type place struct {
	t      *testing.T
	dir    string
	device *tpm.Device
	fs     FS
	room   func() // makes room on a full disk; nil: there is none
	clock  *clock
	killer atomic.Pointer[killer] // of the change that is made
}

func newPlace(t *testing.T) *place {
	t.Helper()
	return &place{t: t, dir: newDir(t), device: openTPM(t, tpmtest.Simulator(t)), clock: newPlaceClock()}
}

func newPlaceClock() *clock { return &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

func newDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func openTPM(t *testing.T, o tpm.Options) *tpm.Device {
	t.Helper()
	device, err := tpm.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = device.Close() })
	return device
}

// open opens the store, as after a restart.
func (p *place) open(specs ...Spec) *Ring {
	p.t.Helper()
	r, err := Open(p.dir, p.device, Options{FS: p.fs, MakeRoom: p.room, Now: p.clock.Now})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(r.Close)
	r.Apply(specs)
	return r
}

// hmacSpec is a key of the most usual kind.
func hmacSpec(name string) Spec {
	return Spec{Name: name, Venue: "binance", Environment: "production", Algorithm: HMACSHA256, Protection: Sealed,
		SecretEncoding: "raw", Hosts: []string{"api.binance.com", "fapi.binance.com"}}
}

func with(s Spec, change func(*Spec)) Spec {
	change(&s)
	return s
}

func hmacCredential(secret string) []byte {
	return fmt.Appendf(nil, `{"api_key":"id-of-%s","secret":%q}`, secret, secret)
}

func mustImport(t *testing.T, r *Ring, name, secret string) int {
	t.Helper()
	n, err := r.Import(t.Context(), name, hmacCredential(secret))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func mustUse(t *testing.T, r *Ring, name string) *Use {
	t.Helper()
	u, err := r.Use(t.Context(), name, false)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// signsWith fails unless the key signs with this secret's version now.
func signsWith(t *testing.T, r *Ring, name, secret string) {
	t.Helper()
	u := mustUse(t, r, name)
	got, err := u.Sign(t.Context(), nil, []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	if want := hmacOf(crypto.SHA256, secret, "message"); !bytes.Equal(got, want) {
		t.Fatalf("%s signs with another secret than %q", name, secret)
	}
	var a Access
	if err := u.Access(&a); err != nil || string(a.APIKey) != "id-of-"+secret {
		t.Fatalf("the API key is %q, %v", a.APIKey, err)
	}
}

func hmacOf(h crypto.Hash, secret, message string) []byte {
	m := hmac.New(h.New, []byte(secret))
	m.Write([]byte(message))
	return m.Sum(nil)
}

// refused fails unless err is a refusal for this reason whose hint has these words.
func refused(t *testing.T, err error, reason fault.Reason, hint string) {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Reason != reason || !strings.Contains(f.Hint, hint) {
		t.Fatalf("got %v (hint %q), want %s with the hint %q", err, f.Hint, reason, hint)
	}
}

func useRefused(t *testing.T, r *Ring, name string, reason fault.Reason, hint string) {
	t.Helper()
	_, err := r.Use(t.Context(), name, false)
	refused(t, err, reason, hint)
}

func infoOf(t *testing.T, r *Ring, name string) Info {
	t.Helper()
	i, err := r.Info(name)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// eventually waits for what goes on in the background.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within thirty seconds", what)
		}
	}
}

// Private keys of the tests' own.
var (
	rsaKey     = sync.OnceValue(func() *rsa.PrivateKey { k, _ := rsa.GenerateKey(rand.Reader, 2048); return k })
	p256Key    = sync.OnceValue(func() *ecdsa.PrivateKey { k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader); return k })
	ed25519Key = sync.OnceValue(func() ed25519.PrivateKey { _, k, _ := ed25519.GenerateKey(rand.Reader); return k })
)

// pemOfKey is a private key as PKCS #8.
func pemOfKey(t testing.TB, key crypto.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func credentialJSON(t testing.TB, fields map[string]string) []byte {
	t.Helper()
	data, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// verify checks a signature with the public key that the ring shows.
func verify(t *testing.T, public, message, signature []byte) {
	t.Helper()
	block, _ := pem.Decode(public)
	if block == nil {
		t.Fatal("no PEM")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(message)
	ok := false
	switch key := parsed.(type) {
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
	case *ecdsa.PublicKey:
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		ok = len(signature) == 64 && ecdsa.Verify(key, digest[:], r, s)
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, message, signature)
	}
	if !ok {
		t.Fatal("the signature doesn't verify")
	}
}

func newPlaceRing(t *testing.T, specs ...Spec) *Ring {
	t.Helper()
	p := &place{t: t, dir: newDir(t), device: openTPM(t, tpmtest.Swtpm(t)), clock: &clock{now: time.Now()}}
	return p.open(specs...)
}
