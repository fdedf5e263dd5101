package tpm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// MaxSeal is the most bytes that every TPM seals (MAX_SYM_DATA: part 2, A).
const MaxSeal = 128

// ErrForeign is the cause of the refusal to load what this TPM didn't make, or not as it
// is: the TPM takes offence at the blob itself. Other refusals to load it, of an
// authorization for example, don't say so.
var ErrForeign = errors.New("this TPM didn't make it")

// Seal gives secret to the TPM, which returns it from the key file alone, on
// this machine alone, while parent can be used, and with the PCRs of Options as they are now.
func (d *Device) Seal(ctx context.Context, parent *Parent, secret []byte) (*KeyFile, error) {
	return d.seal(ctx, parent, secret, func(c *conn) (PCRs, error) { return c.needPCRs(d.boundTo()) })
}

// SealTo is Seal with PCRs that have these values; without any, the secret opens
// whatever the PCRs are.
func (d *Device) SealTo(ctx context.Context, parent *Parent, secret []byte, to PCRs) (*KeyFile, error) {
	return d.seal(ctx, parent, secret, func(*conn) (PCRs, error) { return to, nil })
}

func (d *Device) seal(ctx context.Context, parent *Parent, secret []byte, to func(*conn) (PCRs, error)) (*KeyFile, error) {
	if len(secret) == 0 || len(secret) > MaxSeal {
		return nil, fault.New(fault.InternalError, "%d bytes can't be sealed: 1 to %d can", len(secret), MaxSeal)
	}
	own := slices.Clone(secret)
	return d.makeKey(ctx, "sealing", func(c *conn) (*KeyFile, error) {
		bound, err := to(c)
		if err != nil {
			return nil, err
		}
		pcrs, policy, err := bind(bound)
		if err != nil {
			return nil, err
		}
		f, err := c.create(parent, sealedTemplate(policy), nil, own)
		if err != nil {
			return nil, err
		}
		f.sealed, f.emptyAuth, f.pcrs = true, true, pcrs
		return f, nil
	}, own)
}

// Unseal copies the sealed secret into dst, which is to be guarded memory, and
// says how many bytes it has. KEY_LOCKED: a PCR has changed.
func (d *Device) Unseal(ctx context.Context, f *KeyFile, dst []byte) (n int, err error) {
	if !f.sealed {
		return 0, fault.New(fault.KeyDamaged, "this key file has a key in it, not a sealed secret")
	}
	j := &job{ctx: ctx, doing: "unsealing"}
	j.run = func(c *conn) error {
		return c.unseal(f, func(secret []byte) error {
			if len(secret) > len(dst) {
				return fault.New(fault.KeyDamaged, "the sealed secret has %d bytes, %d were expected", len(secret), len(dst))
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

// makeKey runs what makes a key file. secrets are copies that are wiped then.
func (d *Device) makeKey(ctx context.Context, doing string, run func(*conn) (*KeyFile, error), secrets ...[]byte) (*KeyFile, error) {
	var f *KeyFile
	err := d.submit(&job{ctx: ctx, doing: doing, secrets: secrets, run: func(c *conn) (err error) {
		f, err = run(c)
		return err
	}})
	if err != nil {
		return nil, err // f belongs to the job still, if its caller has left
	}
	return f, nil
}

func (c *conn) unseal(f *KeyFile, give func(secret []byte) error) error {
	o, err := c.loadObject(f)
	if err != nil {
		return err
	}
	defer c.flush(o.handle)
	var s *session
	if f.pcrs == nil {
		s, err = c.session(encryptOut)
	} else if s, err = c.satisfy(f.pcrs); err == nil {
		defer c.end(s)
		s.use(nil, encryptOut)
	}
	if err != nil {
		return err
	}
	err = c.run(tpm2.TPMCCUnseal, []authorized{{o, s}}, func(*writer) {}, func(r *reader) error { return give(r.sized()) })
	if errors.Is(err, tpm2.TPMRCPolicyFail) {
		return fault.New(fault.KeyDamaged, "the key file's policy is not the one the secret was sealed with").Because(err)
	}
	return err
}

// create makes an object under a parent: with a secret of ours, or, if that is
// empty, one of the TPM's own.
func (c *conn) create(parent *Parent, template tpm2.TPMTPublic, auth, secret []byte) (f *KeyFile, err error) {
	above, s, done, err := c.under(parent, encryptIn)
	if err != nil {
		return nil, err
	}
	defer done()
	err = c.run(tpm2.TPMCCCreate, []authorized{{above, s}}, func(w *writer) {
		w.u16(uint16(2 + len(auth) + 2 + len(secret))) // TPM2B_SENSITIVE_CREATE
		w.sized(auth)
		w.sized(secret)
		w.sized(tpm2.Marshal(template))
		w.u16(0) // outsideInfo: none
		w.u32(0) // creationPCR: none
	}, func(r *reader) error {
		private, public := r.sized(), r.sized()
		if f, err = newKeyFile(public, private); err == nil {
			f.parent = parent
		}
		r.b = nil // the creation data and its ticket are of no use here
		return err
	})
	return f, err
}

// under gives what to make or load an object under, with a session that may do so once.
// The caller calls done.
func (c *conn) under(parent *Parent, encrypt direction) (above object, s *session, done func(), err error) {
	if parent == nil {
		s, err = c.session(encrypt)
		return c.srk, s, func() {}, err
	}
	if above, s, err = c.openParent(parent, encrypt != encryptNone); err != nil {
		return above, nil, nil, err
	}
	return above, s.use(nil, encrypt), func() { c.end(s) }, nil
}

// loadObject loads a key file's object, making room for it. The caller flushes
// it, or keeps it among the loaded keys.
func (c *conn) loadObject(f *KeyFile) (object, error) {
	if f.parent == nil {
		c.makeRoom()
	}
	above, s, done, err := c.under(f.parent, encryptNone)
	if err != nil {
		return object{}, err
	}
	defer done()
	return c.load(above, s, f.public, f.private)
}

func (c *conn) load(above object, s *session, public, private []byte) (object, error) {
	rsp, err := tpm2.Load{
		ParentHandle: on(above, s),
		InPrivate:    tpm2.TPM2BPrivate{Buffer: private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](public),
	}.Execute(c)
	if refusesParameter(err) {
		return object{}, fault.New(fault.KeyDamaged, "the key file is of another TPM, or was changed").
			WithHint("bring the file back from a backup of this machine, or import the credential again").Because(fmt.Errorf("%w: %w", ErrForeign, err))
	}
	if errors.Is(err, tpm2.TPMRCPolicyFail) {
		return object{}, fault.New(fault.KeyDamaged, "the policy of the key file's parent is not the one that it was made with").Because(err)
	}
	if err != nil {
		return object{}, err
	}
	return object{handle: rsp.ObjectHandle, name: name(public)}, nil
}
