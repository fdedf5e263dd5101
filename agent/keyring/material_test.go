package keyring

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent/credential"
)

// The venues' own examples.
func TestVenuesOwnSignatures(t *testing.T) {
	krakenBody := "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
	digest := sha256.Sum256([]byte("1616492376594" + krakenBody))
	for name, c := range map[string]struct {
		algorithm, encoding, secret, message string
		want                                 []byte
	}{
		// developers.binance.com, "SIGNED endpoint examples"
		"binance": {
			HMACSHA256, "raw", "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j",
			"symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559",
			unhex(t, "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"),
		},
		// docs.kraken.com, "Spot REST Authentication"
		"kraken": {
			HMACSHA512, credential.Base64, "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg==",
			"/0/private/AddOrder" + string(digest[:]),
			unbase64(t, "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="),
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := newMaterial(c.algorithm, c.encoding, &credential.Credential{Secret: []byte(c.secret)})
			must(t, err)
			defer m.wipe()
			got, err := m.sign(nil, []byte(c.message))
			must(t, err)
			if !bytes.Equal(got, c.want) {
				t.Fatalf("got %x", got)
			}
		})
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	must(t, err)
	return b
}

func unbase64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	must(t, err)
	return b
}

// Midstates equal crypto/hmac, around the block sizes (64 and 128 bytes) of secret and message.
func TestMidstatesAreHMAC(t *testing.T) {
	for algorithm, h := range credential.HMACHashes {
		for _, secretLen := range []int{1, 63, 64, 65, 127, 128, 129, 1000} {
			secret := strings.Repeat("s", secretLen)
			m, err := newMidstates(h, []byte(secret))
			must(t, err)
			for _, messageLen := range []int{0, 1, 55, 56, 63, 64, 65, 111, 112, 127, 128, 129, 5000} {
				message := strings.Repeat("m", messageLen)
				got, err := m.sign([]byte("kept"), []byte(message))
				must(t, err)
				if want := append([]byte("kept"), hmacOf(h, secret, message)...); !bytes.Equal(got, want) {
					t.Errorf("%s with %d bytes of secret and %d of message: got %x, want %x", algorithm, secretLen, messageLen, got, want)
				}
			}
			m.wipe()
		}
	}
}

func TestPooledDigestsHoldNoState(t *testing.T) {
	m, err := newMidstates(crypto.SHA256, []byte("secret"))
	must(t, err)
	defer m.wipe()
	_, err = m.sign(nil, []byte("message"))
	must(t, err)
	for range 100 {
		w := m.pool.Get().(*worker)
		if empty := sha256.Sum256(nil); !bytes.Equal(w.digest.Sum(nil), empty[:]) {
			t.Fatal("a pooled digest was not reset")
		}
	}
}

func TestKeysSignForManyAtOnce(t *testing.T) {
	r := newPlace(t).open(hmacSpec("a"), hmacSpec("b"))
	mustImport(t, r, "a", "alpha")
	mustImport(t, r, "b", "beta")
	var callers sync.WaitGroup
	for _, name := range []string{"a", "b", "a", "b"} {
		secret := map[string]string{"a": "alpha", "b": "beta"}[name]
		u := mustUse(t, r, name)
		callers.Go(func() {
			for range 500 {
				if got, err := u.Sign(t.Context(), nil, []byte("m")); err != nil || !bytes.Equal(got, hmacOf(crypto.SHA256, secret, "m")) {
					t.Errorf("got %x, %v", got, err)
					return
				}
			}
		})
	}
	callers.Wait()
}

// benchRing has one key that is loaded.
func benchUse(b *testing.B, algorithm, encoding, secret string) *Use {
	b.Helper()
	m, err := newMaterial(algorithm, encoding, &credential.Credential{Secret: []byte(secret)})
	if err != nil {
		b.Fatal(err)
	}
	k := newKey("main", time.Now)
	k.expire(time.Now().AddDate(1, 0, 0))
	v, err := newVersion(k, &metadata{Version: 1, Algorithm: algorithm}, &credential.Credential{APIKey: []byte("id")})
	if err != nil {
		b.Fatal(err)
	}
	v.material = m
	k.live.Store(v)
	return &v.uses[0]
}

func BenchmarkSign(b *testing.B) {
	message := bytes.Repeat([]byte("m"), 200)
	for algorithm, secret := range map[string]string{
		HMACSHA256: strings.Repeat("s", 64), HMACSHA384: strings.Repeat("s", 64), HMACSHA512: strings.Repeat("s", 64),
		Ed25519: pemOfKey(b, ed25519Key()), ES256: pemOfKey(b, p256Key()), RSASHA256: pemOfKey(b, rsaKey()),
	} {
		b.Run(algorithm, func(b *testing.B) {
			u := benchUse(b, algorithm, "raw", secret)
			dst := make([]byte, 0, 512)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := u.Sign(b.Context(), dst, message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("crypto/hmac, for comparison", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			hmacOf(crypto.SHA256, "s", string(message))
		}
	})
}

func TestSigningWithHMACAllocatesNothing(t *testing.T) {
	p := newPlace(t)
	r := p.open(with(hmacSpec("main"), func(s *Spec) { s.Expires = p.clock.Now().AddDate(1, 0, 0) }))
	mustImport(t, r, "main", "alpha")
	dst, message, access := make([]byte, 0, 64), make([]byte, 200), new(Access)
	ctx := t.Context()
	allocs := testing.AllocsPerRun(1000, func() {
		u, err := r.Use(ctx, "main", false)
		if err == nil {
			_, err = u.Sign(ctx, dst, message)
		}
		if err != nil || u.Access(access) != nil || u.Valid() != nil {
			t.Error(err)
		}
	})
	if allocs != 0 && !raceEnabled {
		t.Fatalf("%v allocations for each signature", allocs)
	}
}
