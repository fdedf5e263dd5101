package keyring

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/sealsign/sealsign/internal/secmem"
)

// Memory says how secrets are kept in memory: "memfd_secret" or "mlock".
func Memory() string { return secmem.Kind() }

// Digest is the SHA-256 (hex) of the manifest as it is in force: which versions
// there are, and which one of each key signs.
func (r *Ring) Digest() string {
	text, err := json.Marshal(r.snapshot())
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
