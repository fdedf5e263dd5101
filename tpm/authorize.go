package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// Authority is a key, kept elsewhere, whose owner approves values of PCRs. A parent with
// one is used only while the PCRs have values that it has approved for this host, and
// needs no change when others are approved (TPM2_PolicyAuthorize: part 3, 23.16).
type Authority struct {
	key  crypto.PublicKey
	area tpm2.TPMTPublic
}

// authorityRSA is the size, in bits, of an RSA authority: that of which every TPM
// verifies signatures.
const authorityRSA = 2048

// NewAuthority takes a P-256 or RSA-2048 key.
func NewAuthority(key crypto.PublicKey) (*Authority, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if point, err := key.Bytes(); err == nil && key.Curve == elliptic.P256() {
			return &Authority{key, p256Template(point[1:1+p256Size], point[1+p256Size:])}, nil
		}
	case *rsa.PublicKey:
		if key.N.BitLen() == authorityRSA && key.E == defaultExponent {
			return &Authority{key, rsaTemplate(authorityRSA, key.N.Bytes())}, nil
		}
	}
	return nil, fault.New(fault.ConfigInvalid, "an authority's key is P-256 or RSA-%d", authorityRSA).
		WithHint("openssl ecparam -genkey -noout -name prime256v1 -out pcr-authority-key.pem")
}

func parseAuthority(public []byte) (*Authority, error) {
	f, err := newKeyFile(public, nil)
	if err != nil || f.key == nil {
		return nil, errors.New("its authority can't be read")
	}
	return NewAuthority(f.key)
}

func (a *Authority) same(o *Authority) bool {
	return a == o || a != nil && o != nil && slices.Equal(a.public(), o.public())
}

func (a *Authority) public() []byte { return tpm2.Marshal(a.area) }

// Approval says which values of PCRs are good for one host. Approvals are no secret.
type Approval struct {
	HostID    string `json:"host_id"`
	PCRs      PCRs   `json:"pcrs"`
	Signature []byte `json:"signature,omitempty"`
}

// hostIDSize is how many bytes of the storage root key's Name are the host's id: with
// refPrefix and as hex they fill the 32 bytes that every TPM takes of a policyRef.
const hostIDSize, refPrefix = 11, "sealsign/"

// HostID is whose approvals count on this host.
func (d *Device) HostID() string { return hex.EncodeToString(d.srkName[2 : 2+hostIDSize]) }

func policyRef(hostID string) []byte { return []byte(refPrefix + hostID) }

// ParseApproval reads the JSON of an approval, or of one that is to be signed, whose
// further members are of no interest. It fails with BAD_REQUEST.
func ParseApproval(data []byte) (*Approval, error) {
	a := new(Approval)
	err := a.read(data)
	if err == nil {
		err = a.check()
	}
	if err != nil {
		return nil, fault.New(fault.BadRequest, "this is no approval of PCRs, nor a request for one: %v", err).
			WithHint("sealsign pcr show --json, on the host, prints what is to be approved")
	}
	return a, nil
}

// read takes each member once and in one spelling, so that nobody reads other values in
// what they sign than are signed.
func (a *Approval) read(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	err := expect(d, json.Delim('{'))
	seen := make(map[json.Token]bool)
	for err == nil && d.More() {
		var name json.Token
		if name, err = d.Token(); err != nil {
			return err
		}
		if seen[name] {
			return fmt.Errorf("%q is there twice", name)
		}
		seen[name] = true
		switch name {
		case "host_id":
			err = d.Decode(&a.HostID)
		case "pcrs":
			a.PCRs, err = readPCRs(d)
		case "signature":
			err = d.Decode(&a.Signature)
		default:
			err = d.Decode(new(json.RawMessage))
		}
	}
	if err == nil {
		err = expect(d, json.Delim('}'))
	}
	if _, end := d.Token(); err == nil && !errors.Is(end, io.EOF) {
		err = errors.New("something follows it")
	}
	return err
}

func (a *Approval) check() error {
	for pcr := range a.PCRs {
		if pcr < 0 || pcr > maxPCR {
			return fmt.Errorf("there is no PCR %d", pcr)
		}
	}
	if len(a.PCRs) == 0 {
		return errors.New("it has no PCRs")
	}
	if id, err := hex.DecodeString(a.HostID); err != nil || len(id) != hostIDSize {
		return errors.New("its host_id is none")
	}
	return nil
}

// ToSign is what the authority signs, with SHA-256: the digest of the policy that asks
// for these PCRs, and the policyRef.
func (a *Approval) ToSign() ([]byte, error) {
	_, policy, err := bind(a.PCRs)
	return append(policy, policyRef(a.HostID)...), err
}

// Approves tells whether the approval is signed by the authority: in DER, as
// `openssl dgst -sha256 -sign` does.
func (a *Authority) Approves(approval *Approval) bool {
	text, err := approval.ToSign()
	if err != nil {
		return false
	}
	digest := sha256.Sum256(text)
	switch key := a.key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, digest[:], approval.Signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], approval.Signature) == nil
	}
	return false
}

// signature is that of an approval in the TPM's own form.
func (a *Authority) signature(approval *Approval) (tpm2.TPMTSignature, error) {
	if _, isRSA := a.key.(*rsa.PublicKey); isRSA {
		return tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSASSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA, &tpm2.TPMSSignatureRSA{
			Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: approval.Signature},
		})}, nil
	}
	var rs ecdsaSignature
	_, err := asn1.Unmarshal(approval.Signature, &rs)
	if err != nil {
		return tpm2.TPMTSignature{}, err
	}
	return tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash:       tpm2.TPMAlgSHA256,
		SignatureR: tpm2.TPM2BECCParameter{Buffer: rs.R.FillBytes(make([]byte, p256Size))},
		SignatureS: tpm2.TPM2BECCParameter{Buffer: rs.S.FillBytes(make([]byte, p256Size))},
	})}, nil
}

// SetApprovals sets the approvals that there are, signed by whomever.
func (d *Device) SetApprovals(all []*Approval) { d.approvals.Store(&all) }

// moved finds the approval of the PCRs as they are now, or else the PCRs that differ
// from the one that is nearest.
func moved(approvals []*Approval, now PCRs) (fits *Approval, differ []int) {
	for _, a := range approvals {
		var other []int
		for _, pcr := range slices.Sorted(maps.Keys(a.PCRs)) {
			if value, known := now[pcr]; !known || value != a.PCRs[pcr] {
				other = append(other, pcr)
			}
		}
		if other == nil {
			return a, nil
		}
		if differ == nil || len(other) < len(differ) {
			differ = other
		}
	}
	return nil, differ
}

// approved picks the approval, for this host and by this authority, of the PCRs as they
// are now. KEY_LOCKED names the PCRs that moved, or says that there is none yet.
func (c *conn) approved(by *Authority, hostID string) (*Approval, error) {
	var known []*Approval
	if all := c.approvals.Load(); all != nil {
		known = slices.DeleteFunc(slices.Clone(*all), func(a *Approval) bool { return a.HostID != hostID || !by.Approves(a) })
	}
	const next = "have them approved: sealsign pcr show --json > request.json; sealsign pcr approve --identity KEY request.json > approval.json; sealsign pcr install approval.json"
	if len(known) == 0 {
		return nil, fault.New(fault.KeyLocked, "no values of PCRs are approved for this host").WithHint(next)
	}
	asked := make(map[int]bool)
	for _, a := range known {
		for pcr := range a.PCRs {
			asked[pcr] = true
		}
	}
	now, err := c.readPCRs(slices.Sorted(maps.Keys(asked)))
	if err != nil {
		return nil, err
	}
	fits, differ := moved(known, now)
	if fits == nil {
		return nil, fault.New(fault.KeyLocked, "nobody has approved what is in %s now", PCRNames(differ)).
			WithHint("if the change was yours (firmware, boot loader, kernel), " + next)
	}
	return fits, nil
}

// Approved is nil where the PCRs have values that the authority of Options has approved,
// or where there is no authority; else KEY_LOCKED.
func (d *Device) Approved(ctx context.Context) error {
	if d.opts.Authority == nil {
		return nil
	}
	return d.do(ctx, "reading PCRs", func(c *conn) error {
		_, err := c.approved(d.opts.Authority, d.HostID())
		return err
	})
}

// authorize shows in a policy session that the PCRs are approved.
func (c *conn) authorize(p *Parent, s *session) error {
	a, err := c.approved(p.authority, p.hostID)
	if err != nil {
		return err
	}
	values, policy, err := bind(a.PCRs)
	if err != nil {
		return err
	}
	for _, v := range values {
		if _, err := v.command(s.handle).Execute(c); err != nil {
			if errors.Is(err, tpm2.TPMRCValue) {
				err = tpm2.TPMRCPCRChanged // since they were read: once more
			}
			return err
		}
	}
	ticket, err := c.ticket(p.authority, a)
	if err != nil {
		return err
	}
	_, err = tpm2.PolicyAuthorize{
		PolicySession:  s.handle,
		ApprovedPolicy: tpm2.TPM2BDigest{Buffer: policy},
		PolicyRef:      tpm2.TPM2BDigest{Buffer: policyRef(p.hostID)},
		KeySign:        tpm2.TPM2BName{Buffer: name(p.authority.public())},
		CheckTicket:    ticket,
	}.Execute(c)
	return err
}

// ticket is the TPM's own word, kept as long as the connection, that the authority
// signed an approval.
func (c *conn) ticket(by *Authority, a *Approval) (tpm2.TPMTTKVerified, error) {
	if t, known := c.tickets[a]; known {
		return t, nil
	}
	loaded, err := tpm2.LoadExternal{InPublic: tpm2.New2B(by.area), Hierarchy: tpm2.TPMRHOwner}.Execute(c)
	if err != nil {
		return tpm2.TPMTTKVerified{}, err
	}
	defer c.flush(loaded.ObjectHandle)
	signature, err := by.signature(a)
	if err != nil {
		return tpm2.TPMTTKVerified{}, err
	}
	text, err := a.ToSign()
	if err != nil {
		return tpm2.TPMTTKVerified{}, err
	}
	digest := sha256.Sum256(text)
	verified, err := tpm2.VerifySignature{KeyHandle: loaded.ObjectHandle, Digest: tpm2.TPM2BDigest{Buffer: digest[:]}, Signature: signature}.Execute(c)
	if err != nil {
		return tpm2.TPMTTKVerified{}, err
	}
	if c.tickets == nil {
		c.tickets = make(map[*Approval]tpm2.TPMTTKVerified)
	}
	c.tickets[a] = verified.Validation
	return verified.Validation, nil
}

// authorization is the policy's first command.
func (p *Parent) authorization() tpm2.PolicyAuthorize {
	return tpm2.PolicyAuthorize{
		PolicyRef: tpm2.TPM2BDigest{Buffer: policyRef(p.hostID)},
		KeySign:   tpm2.TPM2BName{Buffer: name(p.authority.public())},
	}
}
