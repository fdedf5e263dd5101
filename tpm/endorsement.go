package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// MaxActivation is the most bytes that a credential blob may hold: a digest of the
// endorsement key's name algorithm (part 1, 24.3).
const MaxActivation = digestSize

// endorsement is the hierarchy that the endorsement key belongs to.
var endorsement = object{handle: tpm2.TPMRHEndorsement, name: tpm2.PrimaryHandleName(tpm2.TPMRHEndorsement)}

// EndorsementKey is the public part of some TPM's endorsement key (EK), which its maker
// certifies.
type EndorsementKey struct {
	public crypto.PublicKey
	key    tpm2.LabeledEncapsulationKey
}

// NewEndorsementKey takes the public key of an endorsement certificate, RSA-2048 or
// P-256. Its TPM makes the private part from the default template for such a key.
func NewEndorsementKey(public crypto.PublicKey) (*EndorsementKey, error) {
	template, err := endorsementTemplate(public)
	if err != nil {
		return nil, err
	}
	switch key := public.(type) {
	case *rsa.PublicKey:
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()})
	case *ecdsa.PublicKey:
		point, err := key.Bytes() // 4, x, y
		if err != nil {
			return nil, fault.New(fault.BadRequest, "the endorsement key is not valid: %v", err)
		}
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1 : 1+p256Size]},
			Y: tpm2.TPM2BECCParameter{Buffer: point[1+p256Size:]},
		})
	}
	key, err := tpm2.ImportEncapsulationKey(&template)
	if err != nil {
		return nil, fault.New(fault.BadRequest, "the endorsement key can't be used").Because(err)
	}
	return &EndorsementKey{public: public, key: key}, nil
}

// endorsementTemplate is the default one that a TPM makes its endorsement key from: L-1
// for RSA-2048, L-2 for P-256 (TCG EK Credential Profile 2.5, B.3.3 and B.3.4).
func endorsementTemplate(public crypto.PublicKey) (tpm2.TPMTPublic, error) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() == 2048 && key.E == defaultExponent {
			return tpm2.RSAEKTemplate, nil
		}
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return tpm2.ECCEKTemplate, nil
		}
	}
	return tpm2.TPMTPublic{}, fault.New(fault.KeyUnsupported, "the endorsement key is neither RSA-2048 nor P-256")
}

// Public is the key: *rsa.PublicKey or *ecdsa.PublicKey.
func (k *EndorsementKey) Public() crypto.PublicKey { return k.public }

// CredentialBlob is a secret that only TPM2_ActivateCredential gives out, and only
// where both the endorsement key and the key it was made for are in one TPM.
type CredentialBlob struct {
	IDObject []byte `json:"id_object"`        // TPMS_ID_OBJECT
	Secret   []byte `json:"encrypted_secret"` // the TPM2B_ENCRYPTED_SECRET's content
}

// MakeCredential makes a blob of up to [MaxActivation] bytes that is released to the
// holder of target alone: its Name says that a TPM made that key and keeps it (part 1,
// 24). It needs no TPM.
func (k *EndorsementKey) MakeCredential(target *StorageKey, secret []byte) (*CredentialBlob, error) {
	if len(secret) == 0 || len(secret) > MaxActivation {
		return nil, fault.New(fault.InternalError, "%d bytes make no credential blob: 1 to %d do", len(secret), MaxActivation)
	}
	object, encrypted, err := tpm2.CreateCredential(rand.Reader, k.key, target.Name(), secret)
	if err != nil {
		return nil, fault.New(fault.InternalError, "a credential blob can't be made").Because(err)
	}
	return &CredentialBlob{IDObject: object, Secret: encrypted}, nil
}

// ActivateCredential copies what a blob holds for this TPM's storage root key into dst,
// which is to be guarded memory, and says how many bytes it has. WRAPPED_MISMATCH: this
// TPM's endorsement key, or storage root key, is not the one that it was made for.
func (d *Device) ActivateCredential(ctx context.Context, ek *EndorsementKey, blob *CredentialBlob, dst []byte) (n int, err error) {
	if len(blob.IDObject) > maxIDObject || len(blob.Secret) > maxSecret {
		return 0, errNotActivated("it is no credential blob")
	}
	j := &job{ctx: ctx, doing: "activating a credential"}
	j.run = func(c *conn) error {
		return c.activate(ek, blob, d.opts.EndorsementAuth, func(secret []byte) error {
			if len(secret) > len(dst) {
				return errNotActivated("it holds %d bytes, and %d were expected", len(secret), len(dst))
			}
			j.give(func() { n = copy(dst, secret) })
			return nil
		})
	}
	if err := d.submit(j); err != nil {
		return 0, err
	}
	return n, nil
}

const (
	maxIDObject = 2 + digestSize + 2 + MaxActivation // TPMS_ID_OBJECT: part 2, 12.4.2
	maxSecret   = 256                                // an RSA-2048 ciphertext; two P-256 coordinates are less
)

// activate makes the endorsement key and has it release the blob. The EK takes the
// second transient slot; keys that are loaded make room.
func (c *conn) activate(ek *EndorsementKey, blob *CredentialBlob, auth []byte, give func(secret []byte) error) error {
	c.makeRoom()
	o, err := c.makeEndorsementKey(ek, auth)
	if err != nil {
		return err
	}
	defer c.flush(o.handle)
	policy, err := c.satisfyEndorsement(auth)
	if err != nil {
		return err
	}
	defer c.flush(policy.handle)
	defer policy.wipe()
	s, err := c.session(encryptOut)
	if err != nil {
		return err
	}
	err = c.run(tpm2.TPMCCActivateCredential, []authorized{{c.srk, s}, {o, policy}}, func(w *writer) {
		w.sized(blob.IDObject)
		w.sized(blob.Secret)
	}, func(r *reader) error { return give(r.sized()) })
	if refusesParameter(err) {
		return errNotActivated("the sealing key that it was made for is not in the TPM that has the endorsement key, or it was changed").Because(err)
	}
	return err
}

// makeEndorsementKey makes this TPM's endorsement key of the same kind as ek, and
// refuses it unless it is ek.
func (c *conn) makeEndorsementKey(ek *EndorsementKey, auth []byte) (object, error) {
	template, err := endorsementTemplate(ek.public)
	if err != nil {
		return object{}, err
	}
	s, err := c.session(encryptNone)
	if err != nil {
		return object{}, err
	}
	var rsp *tpm2.CreatePrimaryResponse
	err = c.slowly(generateTime, func() error {
		rsp, err = tpm2.CreatePrimary{
			PrimaryHandle: on(endorsement, s.use(auth, encryptNone)),
			InPublic:      tpm2.New2B(template),
		}.Execute(c)
		return err
	})
	if err != nil {
		return object{}, explainHierarchy("endorsement", err)
	}
	o := object{handle: rsp.ObjectHandle, name: name(rsp.OutPublic.Bytes())}
	if !ek.is(rsp.OutPublic.Bytes()) {
		c.flush(o.handle)
		return object{}, errNotActivated("it was made for another endorsement key than this TPM makes from the default template")
	}
	return o, nil
}

// is tells whether a public area is the key's.
func (k *EndorsementKey) is(public []byte) bool {
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](public)
	if err != nil {
		return false
	}
	switch key := k.public.(type) {
	case *rsa.PublicKey:
		made, err := rsaPublic(area)
		return err == nil && key.Equal(made)
	case *ecdsa.PublicKey:
		made, err := p256Public(area)
		return err == nil && key.Equal(made)
	}
	return false
}

// satisfyEndorsement starts a session that satisfies the templates' policy: the
// endorsement hierarchy's authorization (PolicyA of the TCG EK Credential Profile).
func (c *conn) satisfyEndorsement(auth []byte) (*session, error) {
	policy, err := c.startSession(tpm2.TPMSEPolicy)
	if err != nil {
		return nil, err
	}
	s, err := c.session(encryptNone)
	if err == nil {
		_, err = tpm2.PolicySecret{AuthHandle: on(endorsement, s.use(auth, encryptNone)), PolicySession: policy.handle}.Execute(c)
	}
	if err != nil {
		c.flush(policy.handle)
		policy.wipe()
		return nil, explainHierarchy("endorsement", err)
	}
	return policy.use(nil, encryptNone), nil
}

func errNotActivated(format string, args ...any) *fault.Error {
	return fault.New(fault.WrappedMismatch, "the TPM doesn't release what was wrapped: "+format, args...).
		WithHint("wrap it again with this host's newest sealsign host-key; without --endorsed-by it needs no endorsement key")
}

// The NV indexes of the endorsement key's certificates, for P-256 and RSA-2048 (TCG EK
// Credential Profile 2.5, 2.2.1.5 and 2.2.1.4). The first is preferred: a chip makes that
// key at once, and an RSA key in seconds, in which it does nothing else.
var endorsementIndexes = []tpm2.TPMHandle{0x01c0000a, 0x01c00002}

// EndorsementCertificates reads the X.509 certificates (DER) that the maker of the TPM
// has put into it. Many have none, software ones hardly ever.
func (d *Device) EndorsementCertificates(ctx context.Context) (found [][]byte, err error) {
	for _, index := range endorsementIndexes {
		var data []byte
		err := d.do(ctx, "reading an endorsement certificate", func(c *conn) (err error) {
			data, err = c.nvRead(index, nil)
			return err
		})
		if errors.Is(err, fault.TPMUnavailable) && d.Healthy() != nil {
			return nil, err
		}
		if certificate := certificateIn(data); err == nil && certificate != nil {
			found = append(found, certificate)
		}
	}
	return found, nil
}

// certificateIn cuts off what fills the index after the certificate.
func certificateIn(data []byte) []byte {
	var value asn1.RawValue
	if _, err := asn1.Unmarshal(data, &value); err != nil || value.Tag != asn1.TagSequence {
		return nil
	}
	return value.FullBytes
}
