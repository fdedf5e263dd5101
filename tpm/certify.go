package tpm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// Certification is a TPM's word for its storage root key: that the key is a primary
// one of its owner hierarchy, given with a restricted key below it, which signs
// nothing but what the TPM itself says. Whether that key is in a TPM at all is for
// whoever knows it, by its checkpoints for example; or for the TPM's maker: see
// [EndorsementKey.MakeCredential].
type Certification struct {
	Attestor  []byte `json:"attestor"`  // TPMT_PUBLIC of the key that signs
	Statement []byte `json:"statement"` // TPMS_ATTEST
	Signature []byte `json:"signature"` // ECDSA P-256 with SHA-256, DER
}

// StorageKey is the public part of this TPM's storage root key.
func (d *Device) StorageKey(ctx context.Context) (*StorageKey, error) {
	var public []byte
	err := d.do(ctx, "reading the sealing key", func(c *conn) error {
		rsp, err := tpm2.ReadPublic{ObjectHandle: c.srk.handle}.Execute(c)
		if err == nil {
			public = rsp.OutPublic.Bytes()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(name(public), d.srkName) {
		return nil, fault.New(fault.TPMUnavailable, "the TPM shows another sealing key than it did")
	}
	return ParseStorageKey(public)
}

// CertifyStorageKey has the TPM vouch for its storage root key. qualifying, of at most
// 32 bytes, is what the statement is about besides.
func (a *Attestor) CertifyStorageKey(ctx context.Context, qualifying []byte) (*Certification, error) {
	own := slices.Clone(qualifying)
	var statement, raw []byte
	err := a.key.device.do(ctx, "certifying the sealing key", func(c *conn) error {
		o, err := c.place(a.key)
		if err != nil {
			return err
		}
		s, err := c.sessionFor(a.key, encryptNone)
		if err != nil {
			return err
		}
		rsp, err := tpm2.Certify{
			// The SRK's authorization value is empty, as everybody knows: nothing is given away.
			ObjectHandle:   tpm2.AuthHandle{Handle: c.srk.handle, Name: tpm2.TPM2BName{Buffer: c.srk.name}, Auth: tpm2.PasswordAuth(nil)},
			SignHandle:     on(o, s),
			QualifyingData: tpm2.TPM2BData{Buffer: own},
			InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		}.Execute(c)
		if err != nil {
			return err
		}
		statement = rsp.CertifyInfo.Bytes()
		digest := sha256.Sum256(statement)
		var ok bool
		if raw, ok = verified(a.Public(), digest[:], rsp.Signature); !ok {
			return fault.New(fault.TPMUnavailable, "the TPM made a signature that its public key doesn't confirm")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	signature, err := asn1.Marshal(split(raw))
	if err != nil {
		return nil, err
	}
	return &Certification{Attestor: a.key.file.public, Statement: statement, Signature: signature}, nil
}

// Verify checks that this is the word of a TPM for key, with these qualifying bytes,
// and gives the public key that signed it. It needs no TPM.
func (c *Certification) Verify(key *StorageKey, qualifying []byte) (*ecdsa.PublicKey, error) {
	public, err := c.verify(key, qualifying)
	if err != nil {
		return nil, fault.New(fault.BadRequest, "the attestation of the sealing key doesn't hold: %v", err).Because(err)
	}
	return public, nil
}

func (c *Certification) verify(key *StorageKey, qualifying []byte) (*ecdsa.PublicKey, error) {
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](c.Attestor)
	if err != nil {
		return nil, errors.New("its signing key can't be read")
	}
	template := attestorTemplate()
	template.Unique = area.Unique
	if area.Type != template.Type || !bytes.Equal(tpm2.Marshal(template), c.Attestor) {
		return nil, errors.New("its signing key is none that signs only what the TPM says")
	}
	public, err := p256Public(area)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(c.Statement)
	if !ecdsa.VerifyASN1(public, digest[:], c.Signature) {
		return nil, errors.New("its signature is wrong")
	}
	said, err := tpm2.Unmarshal[tpm2.TPMSAttest](c.Statement)
	if err != nil || said.Magic != tpm2.TPMGeneratedValue || said.Type != tpm2.TPMSTAttestCertify {
		return nil, errors.New("it is another statement of a TPM")
	}
	certified, err := said.Attested.Certify()
	if err != nil {
		return nil, err
	}
	// A qualified name says under which hierarchy and parents an object is (part 1, 16.5).
	primary := qualified(binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMRHOwner)), key.Name())
	switch {
	case !bytes.Equal(certified.Name.Buffer, key.Name()):
		return nil, errors.New("it is about another key")
	case !bytes.Equal(certified.QualifiedName.Buffer, primary):
		return nil, errors.New("the key is no storage root key of its TPM")
	case !bytes.Equal(said.QualifiedSigner.Buffer, qualified(primary, name(c.Attestor))):
		return nil, errors.New("its signing key is not below the key that it is about")
	case !bytes.Equal(said.ExtraData.Buffer, qualifying):
		return nil, errors.New("what it was made for was changed")
	}
	return public, nil
}

func qualified(parent, name []byte) []byte {
	sum := sha256.Sum256(slices.Concat(parent, name))
	return append(slices.Clone(name[:2]), sum[:]...)
}
