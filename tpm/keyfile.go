package tpm

import (
	"bytes"
	"crypto"
	encodingasn1 "encoding/asn1"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// KeyFileType is the PEM type of a key file.
const KeyFileType = "TSS2 PRIVATE KEY"

// maxKeyFile is the most bytes a key file may have: that of an RSA-4096 key has
// about 1,600.
const maxKeyFile = 8 << 10

var (
	oidLoadable   = encodingasn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}
	oidImportable = encodingasn1.ObjectIdentifier{2, 23, 133, 10, 1, 4}
	oidSealed     = encodingasn1.ObjectIdentifier{2, 23, 133, 10, 1, 5}
)

// KeyFile is a key or a sealed secret as it is kept on disk: of use to the TPM
// alone that made it. Its form is the ASN.1 of "TPM 2.0 Key Files"
// (draft-bottomley-tpm2-keys), which OpenSSL's TPM provider and the kernel's
// trusted keys read too.
type KeyFile struct {
	sealed    bool // a secret to unseal; else a key to load
	emptyAuth bool
	pcrs      []pcrValue // what the secret is bound to
	public    []byte     // TPMT_PUBLIC
	private   []byte     // the TPM2B_PRIVATE's content
	parent    *Parent    // what it is loaded under
	area      tpm2.TPMTPublic
	key       crypto.PublicKey // nil: an HMAC key or a sealed secret
	hash      tpm2.TPMAlgID    // of an HMAC key
}

// pcrValue is one PolicyPCR: the hash of one PCR's value.
type pcrValue struct {
	pcr    int
	digest []byte
}

func newKeyFile(public, private []byte) (*KeyFile, error) {
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](public)
	if err != nil {
		return nil, fmt.Errorf("its public area can't be read: %w", err)
	}
	if area.NameAlg != tpm2.TPMAlgSHA256 || !bytes.Equal(tpm2.Marshal(area), public) {
		return nil, fmt.Errorf("its public area is not one of sealsign's")
	}
	f := &KeyFile{public: slices.Clone(public), private: slices.Clone(private), area: *area}
	switch area.Type {
	case tpm2.TPMAlgKeyedHash:
		f.hash, err = schemeHash(area)
	case tpm2.TPMAlgRSA:
		f.key, err = rsaPublic(area)
	case tpm2.TPMAlgECC:
		f.key, err = p256Public(area)
	default:
		err = fmt.Errorf("its public area is of the type %#x", uint16(area.Type))
	}
	return f, err
}

// ParseKeyFile reads the DER of a key file under the storage root key: one that Marshal
// could have written, to the byte. It fails with KEY_DAMAGED.
func ParseKeyFile(der []byte) (*KeyFile, error) { return (*Parent)(nil).ParseKeyFile(der) }

// ParseKeyFile reads the DER of a key file that says it is under this parent, or under
// the storage root key: that it is, the TPM finds when it loads it.
func (p *Parent) ParseKeyFile(der []byte) (*KeyFile, error) {
	f, err := p.parseKeyFile(der)
	if err != nil {
		return nil, fault.New(fault.KeyDamaged, "this is no TPM key file of sealsign's: %v", err).
			WithHint("bring the file back from a backup, or import the credential again")
	}
	return f, nil
}

// keyFileParts are the fields of the ASN.1, not looked at yet.
type keyFileParts struct {
	oid             encodingasn1.ObjectIdentifier
	emptyAuth       bool
	policy, secret  cryptobyte.String // nil: not there
	parent          int64             // belowParent, or the handle of the owner hierarchy
	public, private cryptobyte.String
}

func splitKeyFile(der []byte) (*keyFileParts, error) {
	if len(der) > maxKeyFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxKeyFile)
	}
	p := new(keyFileParts)
	var hasSecret bool
	var emptyAuth, secret, seq cryptobyte.String
	outer := cryptobyte.String(der)
	if !outer.ReadASN1(&seq, asn1.SEQUENCE) || !outer.Empty() ||
		!seq.ReadASN1ObjectIdentifier(&p.oid) ||
		!seq.ReadOptionalASN1(&emptyAuth, &p.emptyAuth, asn1.Tag(0).Constructed().ContextSpecific()) ||
		!seq.ReadOptionalASN1(&p.policy, nil, asn1.Tag(1).Constructed().ContextSpecific()) ||
		!seq.ReadOptionalASN1(&secret, &hasSecret, asn1.Tag(2).Constructed().ContextSpecific()) ||
		hasSecret && !secret.ReadASN1(&p.secret, asn1.OCTET_STRING) ||
		!seq.ReadASN1Integer(&p.parent) ||
		!seq.ReadASN1(&p.public, asn1.OCTET_STRING) ||
		!seq.ReadASN1(&p.private, asn1.OCTET_STRING) || !seq.Empty() {
		return nil, fmt.Errorf("its ASN.1 is not a key file's")
	}
	return p, nil
}

// belowParent is the parent's handle in a key file that isn't under the storage root
// key. No handle that lasts names its parent, and this one, of whatever was loaded first,
// no other reader of key files takes.
const belowParent = int64(tpm2.TPMHTTransient) << 24

func (p *Parent) parseKeyFile(der []byte) (*KeyFile, error) {
	parts, err := splitKeyFile(der)
	if err != nil {
		return nil, err
	}
	publicArea, ok := unsize(parts.public)
	if !ok {
		return nil, fmt.Errorf("its public area is cut short or too long")
	}
	privateArea, ok := unsize(parts.private)
	if !ok {
		return nil, fmt.Errorf("its private area is cut short or too long")
	}
	f, err := newKeyFile(publicArea, privateArea)
	if err != nil {
		return nil, err
	}
	f.sealed, f.emptyAuth = parts.oid.Equal(oidSealed), parts.emptyAuth
	switch {
	case parts.parent == belowParent && p != nil:
		f.parent = p
	case parts.parent != int64(tpm2.TPMRHOwner):
		return nil, fmt.Errorf("its parent is %#x, which isn't the storage root key, or isn't with it", parts.parent)
	}
	if parts.policy != nil {
		if f.pcrs, err = parsePolicy(parts.policy); err != nil {
			return nil, err
		}
	}
	if !bytes.Equal(f.Marshal(), der) {
		return nil, fmt.Errorf("it isn't in the one form it is written in")
	}
	return f, f.check()
}

// check refuses a file whose parts don't belong together.
func (f *KeyFile) check() error {
	policy, err := policyOf(f.pcrs)
	if err != nil {
		return err
	}
	has := f.area.ObjectAttributes
	switch {
	case f.sealed != (f.key == nil && f.hash == tpm2.TPMAlgNull), f.sealed == has.SignEncrypt:
		return fmt.Errorf("it says it is another kind of object than it is")
	case has.Decrypt || !has.NoDA:
		return fmt.Errorf("it has attributes that sealsign gives none")
	case !bytes.Equal(policy, f.area.AuthPolicy.Buffer) || has.UserWithAuth != (policy == nil):
		return fmt.Errorf("it says it has another policy than it has")
	}
	return nil
}

// Marshal gives the DER.
func (f *KeyFile) Marshal() []byte {
	kind := oidLoadable
	if f.sealed {
		kind = oidSealed
	}
	if f.pcrs == nil {
		return marshalKeyFile(kind, f, nil, nil)
	}
	return marshalKeyFile(kind, f, nil, func(b *cryptobyte.Builder) { addPolicy(b, f.pcrs) })
}

// marshalKeyFile writes a key file. secret is what an importable one has besides, policy
// writes what one with a policy has.
func marshalKeyFile(kind encodingasn1.ObjectIdentifier, f *KeyFile, secret []byte, policy func(*cryptobyte.Builder)) []byte {
	parent := int64(tpm2.TPMRHOwner)
	if f.parent != nil {
		parent = belowParent
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(kind)
		if f.emptyAuth {
			b.AddASN1(asn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1Boolean(true) })
		}
		if policy != nil {
			b.AddASN1(asn1.Tag(1).Constructed().ContextSpecific(), policy)
		}
		if secret != nil {
			b.AddASN1(asn1.Tag(2).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { addSized(b, secret) })
		}
		b.AddASN1Int64(parent)
		addSized(b, f.public)
		addSized(b, f.private)
	})
	return b.BytesOrPanic()
}

// Public is the key's public part: *rsa.PublicKey or *ecdsa.PublicKey, and nil
// for an HMAC key or a sealed secret.
func (f *KeyFile) Public() crypto.PublicKey { return f.key }

// Parent is what it is loaded under; nil: the storage root key.
func (f *KeyFile) Parent() *Parent { return f.parent }

func addSized(b *cryptobyte.Builder, p []byte) {
	b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
	})
}

// unsize takes the content out of a TPM2B.
func unsize(s cryptobyte.String) (content []byte, ok bool) {
	var inner cryptobyte.String
	ok = s.ReadUint16LengthPrefixed(&inner) && s.Empty() && len(inner) > 0
	return inner, ok
}
