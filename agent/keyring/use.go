package keyring

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/secmem"
	"github.com/sealsign/sealsign/tpm"
)

// version is a loaded version: it signs until it is ended.
type version struct {
	key    *key
	number int
	meta   *metadata // authenticated
	uses   [2]Use    // for others and for cancels

	ended   atomic.Pointer[fault.Error] // why it signs no more
	abandon context.CancelFunc          // ends the version's trial; nil: it had none
	drained time.Time                   // when it ends, since another took its place; guarded by Ring.mu

	// mu is held for reading while memory is read, and for writing while it is wiped.
	mu         sync.RWMutex
	memory     *secmem.Buffer // apiKey and passphrase
	apiKey     []byte
	passphrase []byte
	material   material // nil: object signs, or nothing does
	object     *tpm.Key // signs inside the TPM
}

// newVersion copies what c has that is sent in the clear. What signs is yet to be added.
func newVersion(k *key, meta *metadata, c *credential.Credential) (*version, error) {
	memory, err := secmem.New(len(c.APIKey) + len(c.Passphrase))
	if err != nil {
		return nil, err
	}
	v := &version{key: k, number: meta.Version, meta: meta, memory: memory}
	n := copy(memory.Bytes(), c.APIKey)
	copy(memory.Bytes()[n:], c.Passphrase)
	v.apiKey, v.passphrase = memory.Bytes()[:n], memory.Bytes()[n:]
	v.uses = [2]Use{{version: v}, {version: v, cancel: true}}
	return v, nil
}

// end stops the version from signing and wipes it. When end returns, whoever was
// signing from memory has finished.
func (v *version) end(why *fault.Error) {
	if !v.ended.CompareAndSwap(nil, why) {
		return
	}
	if v.abandon != nil {
		v.abandon()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.memory.Release()
	v.apiKey, v.passphrase = nil, nil
	if v.material != nil {
		v.material.wipe()
	}
	if v.object != nil {
		go func() { _ = v.object.Close() }() // waits for the TPM, which may hang; Sign drops a late signature
	}
}

// Use is the right to sign with one version of one key, for one request. It is
// lost when the key is suspended or expires, the version revoked, or another version has
// long taken its place.
type Use struct {
	version *version
	cancel  bool
}

// Access is what the venue wants sent in the clear. It belongs to the caller, who
// wipes it.
type Access struct {
	APIKey     []byte
	Passphrase []byte // empty: the venue has none
}

// Wipe overwrites the content and keeps the memory for the next Use.
func (a *Access) Wipe() {
	clear(a.APIKey)
	clear(a.Passphrase)
	a.APIKey, a.Passphrase = a.APIKey[:0], a.Passphrase[:0]
}

// Use gives the right to sign with the key, loading its version if that isn't
// loaded yet. cancel: all that the request does is cancel, which a cancel-only
// suspension lets pass. It fails with KEY_UNKNOWN, another KEY_ reason, or
// TPM_UNAVAILABLE where the TPM is needed to load the version.
func (r *Ring) Use(ctx context.Context, name string, cancel bool) (*Use, error) {
	k, _, err := r.configured(name)
	if err != nil {
		return nil, err
	}
	if err := k.held(cancel); err != nil {
		return nil, err
	}
	v := k.live.Load()
	if v == nil {
		if v, err = r.settle(ctx, k); v == nil {
			return nil, err
		}
	}
	k.use()
	if cancel {
		return &v.uses[1], nil
	}
	return &v.uses[0], nil
}

// Version is the version that signs.
func (u *Use) Version() int { return u.version.number }

// Algorithm is the version's, as it was sealed with it.
func (u *Use) Algorithm() string { return u.version.meta.Algorithm }

// Valid is nil as long as the use may go on. It is asked again before anything
// that was signed leaves.
func (u *Use) Valid() error {
	if why := u.version.ended.Load(); why != nil {
		refusal := *why
		return &refusal
	}
	return u.version.key.held(u.cancel)
}

// SealedFor refuses a version that was not sealed for a host of a venue, empty where
// nothing is sent, and its CA.
func (u *Use) SealedFor(venue, host, ca string) error {
	m := u.version.meta
	if m.Venue == venue && m.CA == ca && (host == "" || slices.Contains(m.Hosts, host)) {
		return nil
	}
	return fault.New(fault.KeyRebindRequired, "version %d of key %s was not sealed for this request's venue", u.version.number, u.version.key.name).
		WithHint("send the request again: the config has just changed")
}

// Access copies what is sent in the clear into dst, whose memory it reuses.
func (u *Use) Access(dst *Access) error {
	v := u.version
	v.mu.RLock()
	defer v.mu.RUnlock()
	if err := u.Valid(); err != nil {
		return err
	}
	dst.APIKey = append(dst.APIKey[:0], v.apiKey...)
	dst.Passphrase = append(dst.Passphrase[:0], v.passphrase...)
	return nil
}

// Sign appends the raw signature of message to dst: an HMAC, RSASSA-PKCS1-v1_5
// with SHA-256, Ed25519, or ECDSA P-256 as r||s. It makes none once Suspend or
// Revoke has returned.
func (u *Use) Sign(ctx context.Context, dst, message []byte) ([]byte, error) {
	var signed []byte
	var err error
	if u.version.object != nil {
		signed, err = u.signInTPM(ctx, dst, message)
	} else {
		signed, err = u.signInMemory(dst, message)
	}
	if err != nil {
		return nil, cmp.Or(u.Valid(), err) // a version that is ended meanwhile has lost what signs
	}
	if err := u.Valid(); err != nil {
		clear(signed[len(dst):])
		return nil, err
	}
	return signed, nil
}

func (u *Use) signInMemory(dst, message []byte) ([]byte, error) {
	v := u.version
	v.mu.RLock()
	defer v.mu.RUnlock()
	if err := u.Valid(); err != nil {
		return nil, err
	}
	if v.material == nil {
		return nil, fault.New(fault.InternalError, "key %s has algorithm %s, which signs nothing", v.key.name, v.meta.Algorithm)
	}
	return v.material.sign(dst, message)
}

// signInTPM holds no lock: a suspension doesn't wait for a TPM that hangs.
func (u *Use) signInTPM(ctx context.Context, dst, message []byte) ([]byte, error) {
	if err := u.Valid(); err != nil {
		return nil, err
	}
	object := u.version.object
	var signature []byte
	var err error
	if object.Public() == nil {
		signature, err = object.HMAC(ctx, message)
	} else {
		digest := sha256.Sum256(message)
		signature, err = object.Sign(ctx, digest[:])
	}
	if err != nil {
		return nil, err
	}
	return append(dst, signature...), nil
}
