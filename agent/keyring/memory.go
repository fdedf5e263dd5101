package keyring

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/sealsign/sealsign/internal/secmem"
)

// Memory says how secrets are kept in memory: "memfd_secret" or "mlock".
func Memory() string { return secmem.Kind() }

// Digest is the SHA-256 (hex) of the state of all keys as it is in force: which
// versions there are, which one of each key signs, and what is suspended.
func (r *Ring) Digest() string {
	m := r.snapshot()
	r.mu.RLock()
	withheld := r.stopsLocked()
	r.mu.RUnlock()
	text, err := json.Marshal([]any{m.Keys, withheld.Keys})
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
