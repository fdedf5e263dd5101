package tpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Parent is a storage key of sealsign's own, below the storage root key. What is made
// under it is loaded only while the host epoch stands where it stood when the parent
// was made. The epoch is an NV counter, which never goes back: one increment ends all
// that is under the parent, for root too and whatever copies of the files there are.
// A nil Parent is the storage root key.
//
// The policy is asked at each load, in a session of its own: one that was satisfied
// before an increment would still be taken after it.
type Parent struct {
	index tpm2.TPMHandle // the NV index of the epoch
	epoch uint64
	// authority, where it isn't nil, has to have approved the PCRs for the host hostID.
	authority *Authority
	hostID    string
	public    []byte // TPMT_PUBLIC
	private   []byte // the TPM2B_PRIVATE's content
	area      tpm2.TPMTPublic
}

// ErrEpochEnded is the cause of the refusal to load what is under a parent whose epoch
// has ended.
var ErrEpochEnded = errors.New("the host epoch has ended")

// parentTemplate is the ECC P-256 storage key of the TCG's SRK template, but opened by
// the policy alone, and for nothing that needs the ADMIN role.
func parentTemplate(policy []byte) tpm2.TPMTPublic {
	t := tpm2.ECCSRKTemplate
	t.ObjectAttributes.UserWithAuth = false
	t.ObjectAttributes.AdminWithPolicy = true
	t.AuthPolicy = tpm2.TPM2BDigest{Buffer: policy}
	return t
}

// NewParent makes a parent for the epoch that is now. It hangs on the counter that the
// parent before it hung on, or where that is nil, or another TPM's, on a new one.
func (d *Device) NewParent(ctx context.Context, before *Parent) (*Parent, error) {
	if before != nil {
		p, err := d.newParent(ctx, before.index, before)
		if !errors.Is(err, ErrForeign) && !errors.Is(err, errNVInUse) {
			return p, err
		}
	}
	index, err := d.FreeNVIndex(ctx)
	if err != nil {
		return nil, err
	}
	return d.newParent(ctx, tpm2.TPMHandle(d.opts.NVBase+index), nil)
}

func (d *Device) newParent(ctx context.Context, index tpm2.TPMHandle, before *Parent) (*Parent, error) {
	var p *Parent
	err := d.do(ctx, "making a parent", func(c *conn) error {
		if before != nil { // else the counter may be another state's, on another TPM
			if err := c.placeParent(before); err != nil {
				return err
			}
		}
		now, err := c.defineEpoch(index, d.opts.OwnerAuth)
		if err != nil {
			return err
		}
		made := &Parent{index: index, epoch: now}
		if d.opts.Authority != nil {
			made.authority, made.hostID = d.opts.Authority, d.HostID()
		}
		policy, err := made.policy()
		if err != nil {
			return err
		}
		f, err := c.create(nil, parentTemplate(policy), nil, nil)
		if err != nil {
			return err
		}
		made.public, made.private, made.area = f.public, f.private, f.area
		p = made
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Epoch is the counter's value at which the parent can be used.
func (p *Parent) Epoch() uint64 { return p.epoch }

// Same tells whether two parents are one. Nil is the storage root key.
func (p *Parent) Same(o *Parent) bool {
	return p == o || p != nil && o != nil && bytes.Equal(p.public, o.public)
}

// policyNV asks that the counter equals the epoch. The counter's authorization value is
// empty: whoever reaches the TPM may read it.
func (p *Parent) policyNV(session tpm2.TPMHandle) tpm2.PolicyNV {
	return tpm2.PolicyNV{
		AuthHandle:    tpm2.AuthHandle{Handle: p.index, Name: tpm2.TPM2BName{Buffer: epochName(p.index)}, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:       tpm2.NamedHandle{Handle: p.index, Name: tpm2.TPM2BName{Buffer: epochName(p.index)}},
		PolicySession: session,
		OperandB:      tpm2.TPM2BOperand{Buffer: binary.BigEndian.AppendUint64(nil, p.epoch)},
		Operation:     tpm2.TPMEOEq,
	}
}

func (p *Parent) policy() ([]byte, error) {
	calculator, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return nil, err
	}
	if p.authority != nil { // first: it replaces all that was asked for before
		if err := p.authorization().Update(calculator); err != nil {
			return nil, err
		}
	}
	if err := p.policyNV(0).Update(calculator); err != nil {
		return nil, err
	}
	return calculator.Hash().Digest, nil
}

// satisfy meets the policy in a session.
func (p *Parent) satisfy(c *conn, s *session) error {
	if p.authority != nil {
		if err := c.authorize(p, s); err != nil {
			return err
		}
	}
	return p.inEpoch(c, s)
}

// inEpoch shows in a policy session that the epoch goes on.
func (p *Parent) inEpoch(c *conn, s *session) error {
	_, err := p.policyNV(s.handle).Execute(c)
	switch {
	case errors.Is(err, tpm2.TPMRCPolicy):
		return fault.New(fault.KeyRevoked, "it was revoked in the TPM, with all that was sealed before").
			WithHint("import the credential again").Because(ErrEpochEnded)
	case errors.Is(err, tpm2.TPMRCHandle):
		if _, missing := c.nvPublic(p.index); errors.Is(missing, ErrNVUndefined) {
			return fault.New(fault.KeyRevoked, "the NV index %#x that it hangs on is gone from the TPM, which ends it for good", uint32(p.index)).
				WithHint("import the credential again").Because(ErrEpochEnded)
		}
	}
	return err
}

// loadedParent is a parent in one of the TPM's places.
type loadedParent struct {
	of     *Parent
	object object
}

// openParent places the parent and starts a session in which its policy is satisfied, for one
// command. With salt the session may encrypt. The caller ends it.
func (c *conn) openParent(p *Parent, salt bool) (object, *session, error) {
	if err := c.placeParent(p); err != nil {
		return object{}, nil, err
	}
	var s *session
	var err error
	if salt {
		s, err = c.startSession(tpm2.TPMSEPolicy)
	} else {
		// A load carries no secret, and what is loaded is known by its Name from then on:
		// a salt, which costs the TPM more than all the rest, would add nothing.
		s, err = c.startUnsalted(tpm2.TPMSEPolicy, tpm2.TPMRHNull, nil)
	}
	if err != nil {
		return object{}, nil, err
	}
	if err := p.satisfy(c, s); err != nil {
		c.end(s)
		return object{}, nil, err
	}
	return c.parent.object, s, nil
}

// placeParent makes sure that the parent is loaded, with room for one object beside it.
func (c *conn) placeParent(p *Parent) error {
	c.evict(2)
	if c.parent != nil && bytes.Equal(c.parent.of.public, p.public) && bytes.Equal(c.parent.of.private, p.private) {
		return nil
	}
	c.unplaceParent()
	s, err := c.session(encryptNone)
	if err != nil {
		return err
	}
	o, err := c.load(c.srk, s, p.public, p.private)
	if err != nil {
		return err
	}
	c.parent = &loadedParent{of: p, object: o}
	return nil
}

func (c *conn) unplaceParent() {
	if c.parent != nil {
		c.flush(c.parent.object.handle)
		c.parent = nil
	}
}

// InForce tells whether new things are to be made under the parent: its epoch goes on,
// and its authority is the one of Options, for this host. It fails with [ErrForeign] where the
// parent is another TPM's.
func (d *Device) InForce(ctx context.Context, p *Parent) (bool, error) {
	on, err := d.goesOn(ctx, p)
	mine := p.authority == nil || p.hostID == d.HostID() // else another host's approvals count
	return on && mine && p.authority.same(d.opts.Authority), err
}

func (d *Device) goesOn(ctx context.Context, p *Parent) (bool, error) {
	var now uint64
	err := d.do(ctx, "reading the host epoch", func(c *conn) (err error) {
		if err = c.placeParent(p); err == nil {
			now, err = c.epoch(p.index)
		}
		return err
	})
	if errors.Is(err, ErrNVUndefined) || errors.Is(err, errNVInUse) {
		return false, nil
	}
	return err == nil && now == p.epoch, err
}

// EndEpoch ends the parent's epoch, if it goes on still and is this TPM's: what is under
// it can't be loaded any more, what is loaded is flushed, and the TPM is seen to refuse.
// It is to be called again after TPM_UNAVAILABLE; the counter is incremented once in all.
func (d *Device) EndEpoch(ctx context.Context, p *Parent) error {
	d.counting.Lock()
	defer d.counting.Unlock()
	on, err := d.goesOn(ctx, p)
	switch {
	case errors.Is(err, ErrForeign):
		return nil
	case err != nil:
		return err
	case on:
		incremented := d.submit(&job{ctx: ctx, doing: "ending the host epoch", once: true, run: func(c *conn) error {
			return c.endEpoch(p.index, d.opts.OwnerAuth)
		}})
		if _, lost := errors.AsType[lostAnswer](incremented); incremented != nil && !lost {
			return incremented
		}
		if on, err = d.goesOn(ctx, p); err != nil {
			return err
		} else if on {
			return incremented
		}
	}
	return d.do(ctx, "seeing that the host epoch has ended", func(c *conn) error {
		c.unplaceParent()
		c.evict(c.slots)
		s, err := c.startUnsalted(tpm2.TPMSEPolicy, tpm2.TPMRHNull, nil)
		if err != nil {
			return err
		}
		defer c.end(s)
		err = p.inEpoch(c, s)
		if errors.Is(err, ErrEpochEnded) {
			return nil
		}
		if _, other := c.epoch(p.index); errors.Is(other, errNVInUse) { // which no policy here is met with
			return nil
		}
		if err == nil {
			err = fault.New(fault.TPMUnavailable, "the TPM takes a parent whose epoch has ended").
				WithHint("check the TPM's firmware for updates, and delete every key at its venue")
		}
		return err
	})
}

// Marshal gives the DER of a [KeyFile] whose policy is TPM2_PolicyAuthorize, where there
// is an authority, with its public area and the policyRef, and TPM2_PolicyNV, with the
// index, the operand, the offset and the operation.
func (p *Parent) Marshal() []byte {
	f := &KeyFile{emptyAuth: true, public: p.public, private: p.private}
	return marshalKeyFile(oidLoadable, f, nil, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			if p.authority != nil {
				addStep(b, tpm2.TPMCCPolicyAuthorize, slices.Concat(
					tpm2.Marshal(tpm2.New2B(p.authority.area)), tpm2.Marshal(tpm2.TPM2BDigest{Buffer: policyRef(p.hostID)})))
			}
			addStep(b, tpm2.TPMCCPolicyNV, p.parameters())
		})
	})
}

func (p *Parent) parameters() []byte {
	nv := p.policyNV(0)
	b := binary.BigEndian.AppendUint32(nil, uint32(p.index))
	b = append(b, tpm2.Marshal(nv.OperandB)...)
	b = binary.BigEndian.AppendUint16(b, nv.Offset)
	return binary.BigEndian.AppendUint16(b, uint16(nv.Operation))
}

// ParseParent reads the DER of a parent that Marshal could have written, to the byte.
// It fails with KEY_DAMAGED.
func ParseParent(der []byte) (*Parent, error) {
	p, err := parseParent(der)
	if err != nil {
		return nil, fault.New(fault.KeyDamaged, "this is no parent of sealsign's: %v", err).
			WithHint("bring the file back from a backup, or import the credential again")
	}
	return p, nil
}

func parseParent(der []byte) (*Parent, error) {
	parts, err := splitKeyFile(der)
	if err != nil {
		return nil, err
	}
	public, ok := unsize(parts.public)
	private, ok2 := unsize(parts.private)
	var steps cryptobyte.String
	if !ok || !ok2 || !parts.policy.ReadASN1(&steps, asn1.SEQUENCE) {
		return nil, errEpochPolicy
	}
	f, err := newKeyFile(public, private)
	if err != nil {
		return nil, err
	}
	p := &Parent{public: f.public, private: f.private, area: f.area}
	if err := p.readPolicy(steps); err != nil {
		return nil, err
	}
	policy, err := p.policy()
	if err != nil {
		return nil, err
	}
	template := parentTemplate(policy)
	template.Unique = p.area.Unique
	if !bytes.Equal(tpm2.Marshal(template), p.public) || !bytes.Equal(p.Marshal(), der) {
		return nil, fmt.Errorf("it isn't as sealsign makes one")
	}
	return p, nil
}

var errEpochPolicy = errors.New("its policy isn't one of the host epoch")

// readPolicy reads what Marshal writes of the policy.
func (p *Parent) readPolicy(steps cryptobyte.String) error {
	var parameters, operand cryptobyte.String
	var index uint32
	if with := steps; readStep(&with, tpm2.TPMCCPolicyAuthorize, &parameters) {
		var public, ref cryptobyte.String
		if !parameters.ReadUint16LengthPrefixed(&public) || !parameters.ReadUint16LengthPrefixed(&ref) {
			return errEpochPolicy
		}
		var err error
		if p.authority, err = parseAuthority(public); err != nil {
			return err
		}
		p.hostID = strings.TrimPrefix(string(ref), refPrefix)
		steps = with
	}
	if !readStep(&steps, tpm2.TPMCCPolicyNV, &parameters) || !parameters.ReadUint32(&index) ||
		!parameters.ReadUint16LengthPrefixed(&operand) || len(operand) != counterSize {
		return errEpochPolicy
	}
	p.index, p.epoch = tpm2.TPMHandle(index), binary.BigEndian.Uint64(operand)
	return nil
}
