package keyring

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// Import seals a credential as a new version of a key that the config names, and
// wipes data. The version signs at once if it is the one that the config wants;
// else it is pending. Of a generated key, {"api_key"} completes the version that
// waits for it. Where a version was stored and can't sign, both results say so.
func (r *Ring) Import(ctx context.Context, name string, data []byte) (number int, err error) {
	defer clear(data)
	given, err := credential.Parse(data)
	if err != nil {
		return 0, err
	}
	defer given.Wipe()
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
	if err := c.spec.takes(given); err != nil {
		return 0, err
	}
	c.given = given
	switch c.spec.Protection {
	case Sealed:
		number, err = c.seal(ctx, given)
	case Resident:
		number, err = c.moveIn(ctx, given)
	case Generated:
		number, err = c.complete(ctx, given)
	}
	if err != nil {
		return 0, err
	}
	return number, r.begin(ctx, c.key, number)
}

// Generate makes a key inside the TPM, as a version that waits for the API key
// that the venue gives for its public key.
func (r *Ring) Generate(ctx context.Context, name string) (number int, publicPEM []byte, err error) {
	c, err := r.change(ctx, name)
	if err != nil {
		return 0, nil, err
	}
	defer c.key.unlock()
	if c.spec.Protection != Generated {
		return 0, nil, fault.New(fault.KeyUnsupported, "key %s is not generated: its protection is %s", name, c.spec.Protection).
			WithHint("sealsign key import %s; or set protection = %q", name, Generated)
	}
	if waiting := r.newestUnregistered(c.key); waiting != 0 { // of two nobody could tell which one an API key is for
		return 0, nil, fault.New(fault.KeyPending, "version %d of key %s was generated before, and waits for its API key", waiting, name).
			WithHint("complete it: sealsign key import %s\nor give it up: sealsign key revoke %s --version %d", name, name, waiting)
	}
	auth, kept, err := credential.NewAuth()
	if err != nil {
		return 0, nil, err
	}
	defer kept.Wipe()
	defer auth.Release()
	generate := func(ctx context.Context, auth []byte) (*tpm.KeyFile, error) {
		return c.device.GenerateP256(ctx, c.epoch.parent, auth)
	}
	if c.spec.Algorithm == RSASHA256 {
		generate = func(ctx context.Context, auth []byte) (*tpm.KeyFile, error) {
			return c.device.GenerateRSA(ctx, c.epoch.parent, credential.MinRSA, auth)
		}
	}
	object, err := generate(ctx, auth.Bytes())
	if err != nil {
		return 0, nil, err
	}
	public, err := publicDER(object.Public())
	if err != nil {
		return 0, nil, err
	}
	number, err = c.add(ctx, metadata{Origin: OriginGenerated, PublicKey: public}, object, kept, unregistered)
	return number, publicPEMOf(public), err
}

// change is what it takes to change the versions of a key.
type change struct {
	ring   *Ring
	key    *key // locked
	spec   *Spec
	device *tpm.Device            // can do what the config asks for
	epoch  *hostEpoch             // what is made hangs on it
	given  *credential.Credential // what an operator imports; nil: nothing is imported
	taken  taken                  // the wrapped credential that is imported; zero: none
}

// change locks a key that the config names. The caller unlocks it.
func (r *Ring) change(ctx context.Context, name string) (*change, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	k, _, err := r.configured(name)
	if err != nil {
		return nil, err
	}
	if err := k.lock(ctx); err != nil {
		return nil, err
	}
	c, err := r.changeBusy(ctx, k)
	if err != nil {
		k.unlock()
		return nil, err
	}
	return c, nil
}

func (r *Ring) changeBusy(ctx context.Context, k *key) (*change, error) {
	_, spec, err := r.configured(k.name)
	if err != nil {
		return nil, err
	}
	if err := r.usable(); err != nil {
		return nil, err
	}
	if err := spec.possible(); err != nil {
		return nil, err
	}
	device, err := r.tpm()
	if err != nil {
		return nil, err
	}
	if err := spec.possibleWith(device.Info().Can); err != nil {
		return nil, err
	}
	epoch, err := r.inForce(ctx, device)
	if err != nil {
		return nil, err
	}
	return &change{ring: r, key: k, spec: spec, device: device, epoch: epoch}, nil
}

// seal stores a credential that the TPM seals. What signs is made once to see
// that it can be.
func (c *change) seal(ctx context.Context, given *credential.Credential) (int, error) {
	meta := metadata{Origin: OriginImported}
	m, err := c.material(&meta, given)
	if err != nil {
		return 0, err
	}
	if m != nil {
		defer m.wipe()
	}
	return c.add(ctx, meta, nil, given, Pending)
}

// material makes what signs with a credential, and notes its public key. None has
// no material.
func (c *change) material(meta *metadata, given *credential.Credential) (material, error) {
	m, err := newMaterial(c.spec.Algorithm, c.spec.SecretEncoding, given)
	if err != nil {
		return nil, err
	}
	if key, isHeap := m.(heapKey); isHeap {
		if meta.PublicKey, err = publicDER(key.key.Public()); err != nil {
			m.wipe()
			return nil, err
		}
	}
	return m, nil
}

// moveIn moves what signs into the TPM, and stores the rest.
func (c *change) moveIn(ctx context.Context, given *credential.Credential) (int, error) {
	auth, kept, err := credential.NewAuth()
	if err != nil {
		return 0, err
	}
	defer kept.Wipe()
	defer auth.Release()
	object, err := c.object(ctx, given, auth.Bytes())
	if err != nil {
		return 0, err
	}
	meta := metadata{Origin: OriginImported}
	if public := object.Public(); public != nil {
		if meta.PublicKey, err = publicDER(public); err != nil {
			return 0, err
		}
	}
	kept.APIKey, kept.Passphrase = given.APIKey, given.Passphrase
	return c.add(ctx, meta, object, kept, Pending)
}

// object makes a TPM key of a secret or a private key.
func (c *change) object(ctx context.Context, given *credential.Credential, auth []byte) (*tpm.KeyFile, error) {
	algorithm := c.spec.Algorithm
	if h, isHMAC := credential.HMACHashes[algorithm]; isHMAC {
		secret, memory, err := credential.HMACSecret(algorithm, c.spec.SecretEncoding, given)
		if err != nil {
			return nil, err
		}
		defer memory.Release()
		return c.device.ImportHMAC(ctx, c.epoch.parent, h, secret, auth)
	}
	key, err := credential.PrivateKey(algorithm, given)
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return c.device.ImportRSA(ctx, c.epoch.parent, key, auth)
	case *ecdsa.PrivateKey:
		return c.device.ImportECDSA(ctx, c.epoch.parent, key, auth)
	}
	return nil, fault.New(fault.InternalError, "a key of type %T can't be moved into the TPM", key)
}

// complete adds the API key to the newest version that waits for one.
func (c *change) complete(ctx context.Context, given *credential.Credential) (int, error) {
	if given.Secret != nil || given.PrivateKey != nil {
		return 0, credential.Bad("has more than an api_key, and the private key of %s is in the TPM", c.key.name)
	}
	number := c.ring.newestUnregistered(c.key)
	if number == 0 {
		return 0, fault.New(fault.KeyEmpty, "key %s has no generated version that waits for an API key", c.key.name).
			WithHint("sealsign key generate %s", c.key.name)
	}
	f, err := c.ring.readVersion(c.key.name, number)
	if err != nil {
		return 0, err
	}
	kept, err := f.open(ctx, c.device)
	if err != nil {
		return 0, err
	}
	defer kept.Wipe()
	if err := f.meta.bound(c.spec); err != nil {
		return 0, err
	}
	kept.APIKey, kept.Passphrase = given.APIKey, given.Passphrase
	f.meta.ImportedAt = c.ring.now().UTC()
	if err := c.write(ctx, f.meta, f.object, kept); err != nil {
		return 0, err
	}
	return number, c.list(&f.meta, Pending)
}

func (r *Ring) newestUnregistered(k *key) (number int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for n, state := range k.versions {
		if state == unregistered {
			number = max(number, n)
		}
	}
	return number
}

// add stores a new version: first its file, then the manifest, since what has
// only a file was never imported. A number that had a file isn't given again.
func (c *change) add(ctx context.Context, meta metadata, object *tpm.KeyFile, kept *credential.Credential, state State) (int, error) {
	r, name := c.ring, c.key.name
	numbers, err := r.store.numbers(name)
	if err != nil {
		return 0, err
	}
	r.mu.RLock()
	numbers = slices.AppendSeq(numbers, maps.Keys(c.key.versions))
	r.mu.RUnlock()
	meta.Name, meta.Version, meta.ImportedAt = name, slices.Max(append(numbers, 0))+1, r.now().UTC()
	meta.bind(c.spec)
	if err := r.store.folder(r.store.key(name)); err != nil {
		return 0, err
	}
	err = c.write(ctx, meta, object, kept)
	if err == nil {
		err = c.keepOffline(meta.Version, c.given)
	}
	if err == nil {
		err = c.list(&meta, state)
	}
	if err != nil {
		// What isn't listed is of no use, and may be on a full disk. But a manifest
		// whose write failed at its very end may list it, until another is in its place.
		if m, _, unread := r.store.readManifest(); unread == nil && (m == nil || m.Keys[name][meta.Version] == "" || r.save() == nil) {
			_ = r.store.remove(name, meta.Version)
		}
		return 0, err
	}
	return meta.Version, nil
}

// write seals a version and puts its file in place.
func (c *change) write(ctx context.Context, meta metadata, object *tpm.KeyFile, kept *credential.Credential) error {
	f, err := seal(ctx, c.device, c.epoch.parent, meta, object, kept)
	if err != nil {
		return err
	}
	return c.ring.writeVersion(f)
}

// list enters a version whose file is in place into the manifest, and in the same
// write the wrapped credential that it came of, if it did.
func (c *change) list(meta *metadata, state State) error {
	r, k, n := c.ring, c.key, meta.Version
	r.mu.Lock()
	if r.epoch != c.epoch {
		defer r.mu.Unlock()
		return fault.New(fault.KeyRevoked, "every key was revoked while version %d of key %s was imported", n, k.name).
			WithHint("import it again, if it is to be")
	}
	before, listed := k.versions[n]
	if before == Revoked { // while it was being completed
		defer r.mu.Unlock()
		return k.unusableLocked(n)
	}
	k.versions[n], k.metas[n] = state, meta
	k.problem = nil
	previous := r.taken[k.name]
	if c.taken != (taken{}) {
		r.takeLocked(k.name, c.taken)
	}
	r.mu.Unlock()
	err := r.save()
	if err == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.takeLocked(k.name, previous)
	switch {
	case k.versions[n] != state: // revoked meanwhile
	case listed:
		k.versions[n] = before
	default:
		delete(k.versions, n)
		delete(k.metas, n)
	}
	return err
}

// begin lets a new version sign, if it is the wanted one.
func (r *Ring) begin(ctx context.Context, k *key, number int) error {
	r.mu.RLock()
	now := k.wantedLocked() == number && k.held(true) == nil
	r.mu.RUnlock()
	if !now {
		return nil
	}
	_, err := r.settleBusy(ctx, k)
	if err != nil && !errors.Is(err, errTrying) {
		return storedOnly(number, fault.From(err))
	}
	return nil
}

// storedOnly says that an import is whole, and why it doesn't sign.
func storedOnly(number int, why *fault.Error) error {
	refusal := *why
	refusal.Message = fmt.Sprintf("version %d is stored, and doesn't sign yet: %s", number, why.Message)
	return &refusal
}
