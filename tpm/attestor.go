package tpm

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/asn1"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// Attestor is a restricted P-256 key: it signs what the TPM has hashed itself
// and nothing that could be taken for a statement of the TPM's own.
type Attestor struct{ key *Key }

// Attestor loads the attestor that f has, or makes one where f is nil. The key
// file is the one to keep. Its authorization value is empty: it vouches for this
// TPM, and who may use the TPM may use it.
func (d *Device) Attestor(ctx context.Context, f *KeyFile) (*Attestor, *KeyFile, error) {
	if f == nil {
		if err := d.needs(CanP256); err != nil {
			return nil, nil, err
		}
		made, err := d.makeKey(ctx, "making the checkpoint key", func(c *conn) (*KeyFile, error) {
			f, err := c.create(nil, attestorTemplate(), nil, nil)
			if err == nil {
				f.emptyAuth = true
			}
			return f, err
		})
		if err != nil {
			return nil, nil, err
		}
		f = made
	}
	if !f.area.ObjectAttributes.Restricted || f.area.Type != tpm2.TPMAlgECC {
		return nil, nil, fault.New(fault.KeyDamaged, "this key file has no checkpoint key in it")
	}
	k, err := d.load(ctx, f, nil)
	if err != nil {
		return nil, nil, err
	}
	return &Attestor{key: k}, f, nil
}

// Public is the key that verifies.
func (a *Attestor) Public() *ecdsa.PublicKey { return a.key.file.key.(*ecdsa.PublicKey) }

// Close frees the attestor's place in the TPM.
func (a *Attestor) Close() error { return a.key.Close() }

// SignMessage signs the SHA-256 of a message of any length, and returns an
// ECDSA signature in DER.
func (a *Attestor) SignMessage(ctx context.Context, message []byte) ([]byte, error) {
	own, digest := slices.Clone(message), sha256.Sum256(message)
	var raw []byte
	err := a.key.device.do(ctx, "signing a checkpoint", func(c *conn) error {
		o, err := c.place(a.key)
		if err != nil {
			return err
		}
		ticket, err := c.hash(own)
		if err != nil {
			return err
		}
		raw, err = c.sign(o, a.key, digest[:], ticket)
		return err
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(split(raw))
}

// hash has the TPM hash a message, and gives its word for having done so.
func (c *conn) hash(message []byte) (ticket tpm2.TPMTTKHashCheck, err error) {
	if len(message) <= c.maxInput {
		rsp, err := tpm2.Hash{
			Data:      tpm2.TPM2BMaxBuffer{Buffer: message},
			HashAlg:   tpm2.TPMAlgSHA256,
			Hierarchy: tpm2.TPMRHOwner,
		}.Execute(c)
		if err != nil {
			return ticket, err
		}
		return rsp.Validation, nil
	}
	c.makeRoom() // the key was used last, so it stays
	started, err := tpm2.HashSequenceStart{HashAlg: tpm2.TPMAlgSHA256}.Execute(c)
	if err != nil {
		return ticket, err
	}
	rsp, err := c.sequence(started.SequenceHandle, tpm2.TPMRHOwner, message)
	if err != nil {
		return ticket, err
	}
	return rsp.Validation, nil
}
