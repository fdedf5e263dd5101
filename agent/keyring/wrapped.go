package keyring

import (
	"context"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/agent/wrap"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/secmem"
	"github.com/sealsign/sealsign/tpm"
)

// createdAhead is how far an importer's clock, often a laptop's, may be ahead. Beyond it a
// credential isn't taken: none that is wrapped by a right clock would be newer.
const createdAhead = 5 * time.Minute

// taken is the newest wrapped credential of a key. An older one isn't taken any more,
// nor the same again.
type taken struct {
	Created time.Time `json:"created"`
	Digest  string    `json:"digest"` // SHA-256 of what was signed, hex
}

// takeLocked sets what was taken last of a key. The zero value is nothing.
func (r *Ring) takeLocked(name string, last taken) {
	switch {
	case last == taken{}:
		delete(r.taken, name)
	case r.taken == nil:
		r.taken = map[string]taken{name: last}
	default:
		r.taken[name] = last
	}
}

// ImportWrapped imports a credential that an enrolled importer wrapped for this host,
// as a new version. By the inbox no operator of this host vouches for it: then it signs
// only once the config names it.
func (r *Ring) ImportWrapped(ctx context.Context, name string, b *wrap.Blob, inbox bool) (number int, err error) {
	if b.Header.Key != name {
		return 0, mismatch("it is for key %q, not for %s", b.Header.Key, name)
	}
	c, err := r.change(ctx, name)
	if err != nil {
		return 0, err
	}
	defer func() {
		c.key.unlock()
		if err == nil {
			err = r.awaitTrial(ctx, c.key, number)
		}
	}()
	importer, err := c.accept(b)
	if err != nil {
		return 0, err
	}
	state := Pending
	if inbox {
		state = unchosen
	}
	if number, err = c.takeIn(ctx, b, importer, state); err != nil {
		return 0, err
	}
	return number, r.begin(ctx, c.key, number)
}

// accept refuses a blob that isn't for this host and this key's config, by an importer
// who is enrolled, and newer than any before. It tells who that is.
func (c *change) accept(b *wrap.Blob) (importer string, err error) {
	r, h := c.ring, &b.Header
	digest, err := b.Digest()
	if err != nil {
		return "", err
	}
	r.mu.RLock()
	name, enrolled := r.importerLocked(b.Signer)
	before := r.taken[c.key.name]
	r.mu.RUnlock()
	if !enrolled {
		return "", fault.New(fault.ImporterUnknown, "the wrapped credential is signed by %s, who is no importer of this host", h.Importer.Fingerprint).
			WithHint("sealsign importer list; if that key is known to you: sealsign importer enroll NAME FILE.pub")
	}
	if h.Target != hex.EncodeToString(c.device.SRKName()) {
		return "", mismatch("it was wrapped for another host: %s", h.TargetHost)
	}
	if err := sameBinding(&h.Binding, c.spec); err != nil {
		return "", err
	}
	c.taken = taken{Created: h.Created.UTC(), Digest: hex.EncodeToString(digest)}
	switch {
	case h.Created.After(r.now().Add(createdAhead)):
		return "", fault.New(fault.ClockSkew, "the wrapped credential was made at %s, which has not come yet on this host", h.Created.Format(time.RFC3339)).
			WithHint("set the clock of the machine that wrapped it, or this host's: timedatectl status")
	case before.Digest == c.taken.Digest:
		return "", replayed("it was taken already")
	case !h.Created.After(before.Created):
		return "", replayed("a newer one of %s, made at %s, was taken already", c.key.name, before.Created.Format(time.RFC3339))
	}
	return name + " " + h.Importer.Fingerprint, nil
}

// sameBinding refuses a blob that was wrapped with another config than this host's. An
// edit on either side must not send a key elsewhere.
func sameBinding(b *wrap.Binding, s *Spec) error {
	for _, d := range []difference{
		{"environment", b.Environment, s.Environment},
		{"venue", b.Venue, s.Venue},
		{"algorithm", b.Algorithm, s.Algorithm},
		{"protection", b.Protection, s.Protection},
		{"secret encoding", b.SecretEncoding, s.SecretEncoding},
		{"CA", b.CA, s.CA},
		{"template", b.Template, s.Template},
	} {
		if d.sealed != d.config {
			return mismatch("it was wrapped with another %s than this host's config has", d.what)
		}
	}
	if !slices.Equal(b.Hosts, slices.Sorted(slices.Values(s.Hosts))) {
		return mismatch("it was wrapped with other hosts of its venue than this host's config has")
	}
	return nil
}

// takeIn stores a blob that was accepted.
func (c *change) takeIn(ctx context.Context, b *wrap.Blob, importer string, state State) (int, error) {
	if err := c.release(ctx, b); err != nil {
		return 0, err
	}
	given, err := c.openWrapped(ctx, b)
	if err != nil {
		return 0, err
	}
	defer given.Wipe()
	if err := given.Check(); err != nil {
		return 0, err
	}
	if err := c.spec.takes(given); err != nil {
		return 0, err
	}
	meta := metadata{Origin: OriginRemote, Importer: importer}
	if c.spec.Protection == Resident {
		object, err := c.importObject(ctx, b, given)
		if err != nil {
			return 0, err
		}
		meta.PublicKey = b.Header.PublicKey
		return c.add(ctx, meta, object, given, state)
	}
	if b.Object != nil || given.Auth != nil {
		return 0, wrap.Refuse("it has a key for the TPM, and its protection is %s", c.spec.Protection)
	}
	m, err := c.material(&meta, given)
	if err != nil {
		return 0, err
	}
	if m != nil {
		m.wipe()
	}
	c.given = given
	return c.add(ctx, meta, nil, given, state)
}

// release has the TPM prove that it is the one that its maker certified, where the blob
// asks for it: it opens no further otherwise.
func (c *change) release(ctx context.Context, b *wrap.Blob) error {
	ek, blob, err := b.Endorsed()
	if ek == nil || err != nil {
		return err
	}
	key, err := secmem.New(credential.KEKSize)
	if err != nil {
		return err
	}
	defer key.Release()
	n, err := c.device.ActivateCredential(ctx, ek, blob, key.Bytes())
	if err != nil {
		return err
	}
	return b.Release(key.Bytes()[:n])
}

// openWrapped decrypts what isn't a key of the TPM's own.
func (c *change) openWrapped(ctx context.Context, b *wrap.Blob) (*credential.Credential, error) {
	file, err := c.device.Import(ctx, b.KEK)
	if err != nil {
		return nil, err
	}
	kek, err := secmem.New(credential.KEKSize)
	if err != nil {
		return nil, err
	}
	defer kek.Release()
	n, err := c.device.Unseal(ctx, file, kek.Bytes())
	if err != nil {
		return nil, err
	}
	if n != credential.KEKSize {
		return nil, wrap.Refuse("its wrapped key has %d bytes", n)
	}
	return b.Open(kek.Bytes())
}

// importObject has the TPM take in the key that signs, if it is one that the config
// asks for.
func (c *change) importObject(ctx context.Context, b *wrap.Blob, given *credential.Credential) (*tpm.KeyFile, error) {
	if b.Object == nil || given.Auth == nil || given.Secret != nil || given.PrivateKey != nil {
		return nil, wrap.Refuse("it is not made for protection %q", Resident)
	}
	if err := matches(b, c.spec); err != nil {
		return nil, err
	}
	return c.device.Import(ctx, b.Object)
}

// matches refuses a TPM key of another algorithm than the config's, or with another
// public key than the header has.
func matches(b *wrap.Blob, s *Spec) error {
	hash, isHMAC := credential.HMACHashes[s.Algorithm]
	if isHMAC {
		if b.Object.Hash() != hash || b.Header.PublicKey != nil {
			return wrap.Refuse("its key is none for %s", s.Algorithm)
		}
		return nil
	}
	public := b.Object.Public()
	if public == nil {
		return wrap.Refuse("its key is none for %s", s.Algorithm)
	}
	der, err := publicDER(public)
	if err != nil {
		return err
	}
	if _, isRSA := public.(*rsa.PublicKey); isRSA != (s.Algorithm == RSASHA256) || !slices.Equal(der, b.Header.PublicKey) {
		return wrap.Refuse("its key is none for %s, or another than it says", s.Algorithm)
	}
	return nil
}

func mismatch(format string, args ...any) error {
	return fault.New(fault.WrappedMismatch, "the wrapped credential isn't taken: "+format, args...).
		WithHint("wrap it with this host's config and its newest sealsign host-key")
}

func replayed(format string, args ...any) error {
	return fault.New(fault.WrappedReplayed, "the wrapped credential isn't taken: %s", fmt.Sprintf(format, args...)).
		WithHint("sealsign key show lists what there is; to bring the same credential again, wrap it again")
}
