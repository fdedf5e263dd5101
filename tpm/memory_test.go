package tpm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// TestMemory: a secret that was sealed, unsealed and imported is nowhere in the
// memory of the process when its owner has wiped it.
func TestMemory(t *testing.T) {
	d := open(t, tpmtest.Swtpm(t))
	secret := random(t, 32)
	auth := random(t, tpm.AuthSize)
	key := sha256.Sum256([]byte("mask"))
	masked := masking(secret, key)

	sealed := must[*tpm.KeyFile](t)(d.Seal(t.Context(), nil, secret))
	must[*tpm.KeyFile](t)(d.ImportHMAC(t.Context(), nil, crypto.SHA256, secret, auth))
	long := bytes.Repeat(secret, 3) // is hashed first, and its end fills no block
	must[*tpm.KeyFile](t)(d.ImportHMAC(t.Context(), nil, crypto.SHA256, long, auth))
	clear(long)
	left, leave := context.WithCancel(t.Context())
	leave()
	if _, err := d.Seal(left, nil, secret); err == nil {
		t.Error("a caller who has left is served")
	}
	must[int](t)(d.Unseal(t.Context(), sealed, secret))
	if !bytes.Equal(masking(secret, key), masked) {
		t.Error("it is unsealed as another")
	}
	if n := inMemory(t, masked, key); n == 0 {
		t.Fatal("the search doesn't find what is there")
	}
	clear(secret)
	if n := inMemory(t, masked, key); n > 0 {
		t.Errorf("the secret is in memory %d times", n)
	}
}

// masking is how the test itself remembers the secret.
func masking(secret []byte, key [32]byte) []byte {
	masked := make([]byte, len(secret))
	for i, b := range secret {
		masked[i] = b ^ key[i]
	}
	return masked
}

// inMemory counts how often the first half of the masked secret is in memory that
// can be read and written. Guarded memory can't be read so, and needn't be.
func inMemory(t *testing.T, masked []byte, key [32]byte) int {
	t.Helper()
	maps := must[[]byte](t)(os.ReadFile("/proc/self/maps"))
	mem := must[*os.File](t)(os.Open("/proc/self/mem"))
	defer func() { _ = mem.Close() }()
	const window, half = 1 << 20, 16
	buf := make([]byte, window+half)
	defer clear(buf)
	found := 0
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil || !strings.HasPrefix(rights, "rw") {
			continue
		}
		for at := from; at < to; at += window {
			n, err := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
			if err != nil {
				continue
			}
			for rest := buf[:n]; len(rest) > half; rest = rest[1:] {
				i := bytes.IndexByte(rest, masked[0]^key[0])
				if i < 0 || len(rest)-i < half {
					break
				}
				if rest = rest[i:]; bytes.Equal(masking(rest[:half], key), masked[:half]) {
					found++
				}
			}
		}
	}
	return found
}
