package keyring

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/secmem"
	"github.com/sealsign/sealsign/tpm"
)

// versionPEM is the PEM type of what is sealed to a version's own key.
const versionPEM = "SEALSIGN VERSION"

// versionFile is one version as it is on disk, in PEM blocks: the parent that the others
// are under, the key that signs where the TPM does, the sealed key-encryption key, and
// what is encrypted with it.
type versionFile struct {
	object *tpm.KeyFile // the key that signs inside the TPM, or nil
	// keks are the sealed key-encryption key: to PCRs as they were, and, where an update
	// was announced, to PCRs as they will be. Any of them opens the version.
	keks    []*tpm.KeyFile
	sealed  sealedPart
	meta    metadata // parsed from sealed.Metadata; open authenticates it
	offline string   // where the same credential is, encrypted to offline keys; it may not be
}

// maxKEKs is how often a key-encryption key may be sealed.
const maxKEKs = 2

// sealedPart is the JSON of the last block: AES-256-GCM of the credential's JSON,
// with the metadata's very bytes as associated data.
type sealedPart struct {
	Format   int             `json:"format"`
	Metadata json.RawMessage `json:"metadata"`
	credential.Sealed
}

// seal makes the file of a version under a parent: the object's, if it has one. It
// neither changes nor wipes c.
func seal(ctx context.Context, device *tpm.Device, parent *tpm.Parent, meta metadata, object *tpm.KeyFile, c *credential.Credential) (*versionFile, error) {
	meta.Object = objectDigest(object)
	raw, err := meta.encode()
	if err != nil {
		return nil, err
	}
	sealed, kek, err := c.Seal(raw)
	if err != nil {
		return nil, err
	}
	defer kek.Release()
	if object != nil && object.Parent() != nil {
		parent = object.Parent()
	}
	once, err := device.Seal(ctx, parent, kek.Bytes())
	if err != nil {
		return nil, err
	}
	return &versionFile{
		object: object, keks: []*tpm.KeyFile{once}, meta: meta,
		sealed: sealedPart{Format: stateFormat, Metadata: raw, Sealed: *sealed},
	}, nil
}

// parent is what the version is under; nil: the storage root key.
func (f *versionFile) parent() *tpm.Parent { return f.keks[0].Parent() }

// open unseals the credential, which proves the metadata and the object.
func (f *versionFile) open(ctx context.Context, device *tpm.Device) (*credential.Credential, error) {
	c, kek, err := f.openBoth(ctx, device)
	if err != nil {
		return nil, err
	}
	kek.Release()
	return c, nil
}

// openBoth is open that gives the key-encryption key too. The caller releases it.
func (f *versionFile) openBoth(ctx context.Context, device *tpm.Device) (*credential.Credential, *secmem.Buffer, error) {
	kek, err := secmem.New(credential.KEKSize)
	if err != nil {
		return nil, nil, err
	}
	c, err := f.openInto(ctx, device, kek)
	if err != nil {
		kek.Release()
		return nil, nil, err
	}
	return c, kek, nil
}

func (f *versionFile) openInto(ctx context.Context, device *tpm.Device, kek *secmem.Buffer) (*credential.Credential, error) {
	now, err := device.ReadPCRs(ctx, f.pcrs())
	if err != nil {
		return nil, f.explain(err)
	}
	at, moved := f.match(now)
	if moved != nil {
		return nil, f.locked(moved)
	}
	n, err := device.Unseal(ctx, f.keks[at], kek.Bytes())
	if err != nil {
		return nil, f.explain(err)
	}
	if n != credential.KEKSize {
		return nil, damaged(f.meta.Name, f.meta.Version, fmt.Errorf("its sealed key has %d bytes", n))
	}
	c, err := f.sealed.Open(kek.Bytes(), f.sealed.Metadata)
	if errors.Is(err, credential.ErrChanged) {
		return nil, damaged(f.meta.Name, f.meta.Version, err)
	}
	return c, err
}

// explain says of which version the TPM's refusal is.
func (f *versionFile) explain(err error) error {
	refusal := *fault.From(err)
	refusal.Message = fmt.Sprintf("version %d of key %s: %s", f.meta.Version, f.meta.Name, refusal.Message)
	switch {
	case refusal.Reason == fault.KeyDamaged:
		return refusal.WithHint(damagedHint, f.meta.Name)
	case refusal.Reason == fault.KeyRevoked && f.meta.Protection == Generated:
		return refusal.WithHint("make a new one: sealsign key generate %s", f.meta.Name)
	case refusal.Reason == fault.KeyRevoked:
		return refusal.WithHint("import a new one: sealsign key import %s", f.meta.Name)
	}
	return &refusal
}

// encode gives the file's bytes.
func (f *versionFile) encode() ([]byte, error) {
	body, err := json.Marshal(f.sealed)
	if err != nil {
		return nil, fault.New(fault.InternalError, "a version can't be written").Because(err)
	}
	var out bytes.Buffer
	for _, block := range f.blocks(body) {
		if block == nil {
			continue
		}
		if err := pem.Encode(&out, block); err != nil {
			return nil, fault.New(fault.InternalError, "a version can't be written").Because(err)
		}
	}
	return out.Bytes(), nil
}

func (f *versionFile) blocks(body []byte) []*pem.Block {
	blocks := []*pem.Block{parentBlock(f.parent()), pemOf(f.object)}
	for _, kek := range f.keks {
		blocks = append(blocks, pemOf(kek))
	}
	return append(blocks, &pem.Block{Type: versionPEM, Bytes: body})
}

func pemOf(f *tpm.KeyFile) *pem.Block {
	if f == nil {
		return nil
	}
	return &pem.Block{Type: tpm.KeyFileType, Bytes: f.Marshal()}
}

// parseVersion reads a file that is to be version number of the key name. It
// takes only what encode writes, to the byte.
func parseVersion(name string, number int, data []byte) (*versionFile, error) {
	f, err := splitVersion(data)
	if err == nil {
		err = f.check(name, number, data)
	}
	if err != nil {
		return nil, damaged(name, number, err)
	}
	return f, nil
}

var errChanged = errors.New("it was cut short or changed")

// splitVersion splits a file into its parts.
func splitVersion(data []byte) (*versionFile, error) {
	f := new(versionFile)
	var parent *tpm.Parent
	var keys []*tpm.KeyFile
	block, rest := pem.Decode(data)
	if block != nil && block.Type == parentPEM {
		var err error
		if parent, err = tpm.ParseParent(block.Bytes); err != nil {
			return nil, err
		}
		block, rest = pem.Decode(rest)
	}
	for ; block != nil && block.Type == tpm.KeyFileType; block, rest = pem.Decode(rest) {
		key, err := parent.ParseKeyFile(block.Bytes)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) > 0 && !keys[0].Sealed() {
		f.object, keys = keys[0], keys[1:]
	}
	if block == nil || block.Type != versionPEM || len(keys) < 1 || len(keys) > maxKEKs || !allSealed(keys) {
		return nil, errChanged
	}
	f.keks = keys
	if err := decodeState(block.Bytes, &f.sealed); err != nil {
		return nil, err
	}
	return f, strictJSON(f.sealed.Metadata, &f.meta)
}

func allSealed(keys []*tpm.KeyFile) bool {
	return !slices.ContainsFunc(keys, func(f *tpm.KeyFile) bool { return !f.Sealed() })
}

// check compares the parts with each other and with the file's place.
func (f *versionFile) check(name string, number int, data []byte) error {
	again, err := f.encode()
	switch {
	case err != nil:
		return err
	case !bytes.Equal(again, data) || !f.sealed.Valid():
		return errChanged
	case f.meta.Name != name || f.meta.Version != number:
		return errors.New("it is that of another key or version")
	case !bytes.Equal(f.meta.Object, objectDigest(f.object)):
		return errors.New("its TPM key is another version's")
	}
	return nil
}

// objectDigest is how the metadata names the file's TPM key.
func objectDigest(object *tpm.KeyFile) []byte {
	if object == nil {
		return nil
	}
	digest := sha256.Sum256(object.Marshal())
	return digest[:]
}

const damagedHint = "bring the file back from a backup of this host, or import the credential again: sealsign key import %s"

// damaged says that a version's file can't be used.
func damaged(name string, number int, why error) *fault.Error {
	refusal := fault.New(fault.KeyDamaged, "the file of version %d of key %s can't be used: %v", number, name, why).Because(why)
	if errors.Is(why, errNewer) {
		return refusal.WithHint(newerHint)
	}
	return refusal.WithHint(damagedHint, name)
}

// loadObject loads the key that signs inside the TPM. c holds what authorizes it.
func (f *versionFile) loadObject(ctx context.Context, device *tpm.Device, c *credential.Credential) (*tpm.Key, error) {
	auth, err := secmem.New(tpm.AuthSize)
	if err != nil {
		return nil, err
	}
	defer auth.Release()
	if len(c.Auth) != hex.EncodedLen(tpm.AuthSize) {
		return nil, damaged(f.meta.Name, f.meta.Version, errors.New("it doesn't authorize its TPM key"))
	}
	if _, err := hex.Decode(auth.Bytes(), c.Auth); err != nil {
		return nil, damaged(f.meta.Name, f.meta.Version, errors.New("it doesn't authorize its TPM key"))
	}
	object, err := device.Load(ctx, f.object, auth.Bytes())
	if err != nil {
		return nil, f.explain(err)
	}
	return object, nil
}
