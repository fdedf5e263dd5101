package keyring

import (
	"context"
	"encoding/pem"
	"errors"
	"slices"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// parentPEM is the PEM type of a parent. Its content is a TPM 2.0 key file, too.
const parentPEM = "SEALSIGN PARENT"

// hostEpoch is what new versions hang on in the TPM. A version's file has its own copy
// of the parent it is under, so that it needs nothing else; the manifest has the one that
// new versions are made under. It never changes: another one takes its place.
type hostEpoch struct {
	Parent string `json:"parent"` // PEM
	// Ended: everything under the parent is revoked, which the TPM is told last.
	Ended bool `json:"ended,omitempty"`

	parent *tpm.Parent
}

func newEpoch(p *tpm.Parent) *hostEpoch {
	return &hostEpoch{Parent: string(pem.EncodeToMemory(parentBlock(p))), parent: p}
}

func parentBlock(p *tpm.Parent) *pem.Block {
	if p == nil {
		return nil
	}
	return &pem.Block{Type: parentPEM, Bytes: p.Marshal()}
}

// check reads the parent.
func (e *hostEpoch) check() error {
	if e == nil {
		return nil
	}
	block, rest := pem.Decode([]byte(e.Parent))
	if block == nil || block.Type != parentPEM || len(rest) > 0 {
		return errors.New("the parent of its keys can't be read")
	}
	var err error
	e.parent, err = tpm.ParseParent(block.Bytes)
	return err
}

func (e *hostEpoch) same(o *hostEpoch) bool {
	return e == o || e != nil && o != nil && e.Parent == o.Parent && e.Ended == o.Ended
}

// ended is the number of the epoch if it has ended, or is to; else 0.
func (e *hostEpoch) ended() uint64 {
	if e == nil || !e.Ended {
		return 0
	}
	return e.parent.Epoch()
}

// endLocked has the epoch end: it is told to the TPM later.
func (r *Ring) endLocked() {
	if r.epoch != nil && !r.epoch.Ended {
		r.epoch = &hostEpoch{Parent: r.epoch.Parent, Ended: true, parent: r.epoch.parent}
	}
}

// inForce gives the epoch that new versions are made in, and makes its parent where there
// is none yet, where the one before it has ended, or is lost.
func (r *Ring) inForce(ctx context.Context, device *tpm.Device) (*hostEpoch, error) {
	r.parenting.Lock()
	defer r.parenting.Unlock()
	for {
		if err := r.endEpoch(ctx, device); err != nil { // or it would end what is made now
			return nil, err
		}
		r.mu.RLock()
		e := r.epoch
		r.mu.RUnlock()
		var before *tpm.Parent
		if e != nil {
			before = e.parent
			on, err := device.InForce(ctx, before)
			if on && !e.Ended {
				return e, nil
			}
			if err != nil && !errors.Is(err, tpm.ErrForeign) {
				return nil, err
			}
		}
		p, err := device.NewParent(ctx, before)
		if err != nil {
			return nil, err
		}
		next := newEpoch(p)
		r.mu.Lock()
		if r.epoch == e { // else it was ended meanwhile
			r.epoch = next
			r.mu.Unlock()
			return next, nil
		}
		r.mu.Unlock()
	}
}

// endEpoch has the TPM end the epoch, if it is to end and that wasn't seen yet.
func (r *Ring) endEpoch(ctx context.Context, device *tpm.Device) error {
	r.mu.RLock()
	e, pending := r.epoch, r.endingLocked()
	r.mu.RUnlock()
	if !pending {
		return nil
	}
	if err := device.EndEpoch(ctx, e.parent); err != nil {
		return err
	}
	r.log.Info("the TPM has ended the host epoch: what was revoked opens nowhere", "epoch", e.parent.Epoch())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = e
	return nil
}

// endingLocked tells whether the TPM is yet to end the epoch.
func (r *Ring) endingLocked() bool {
	return r.epoch != nil && r.epoch.Ended && r.refused != r.epoch
}

// finishEpoch is endEpoch for who hasn't got the TPM.
func (r *Ring) finishEpoch(ctx context.Context) error {
	r.mu.RLock()
	pending := r.endingLocked()
	r.mu.RUnlock()
	if !pending {
		return nil
	}
	device, err := r.tpm()
	if err == nil {
		err = r.endEpoch(ctx, device)
	}
	if err != nil {
		r.saveLater()
	}
	return err
}

// errEnding is what the TPM hasn't done yet.
func errEnding() *fault.Error {
	return fault.New(fault.TPMUnavailable, "the TPM has not ended the host epoch yet: what is revoked opens from a copy of the state folder, for root on this host").
		WithHint("it is tried again every few seconds; until then keep the machine and copies of the state folder from others")
}

// adoptEpoch takes over, of what a state folder says that nobody vouches for, the epoch
// that goes on in this TPM, or else the last that did. That it is one, the TPM tells: it
// loads no parent that it didn't make. Who may use the TPM could have had it make one,
// which asks for no less than the agent's own.
func (r *Ring) adoptEpoch(ctx context.Context, device *tpm.Device, found map[string]map[int]State) error {
	if err := r.endEpoch(ctx, device); err != nil { // or another parent would stand for it
		return err
	}
	r.mu.RLock()
	candidates := []*hostEpoch{r.epoch}
	r.mu.RUnlock()
	others, err := r.parentsOf(found)
	if err != nil {
		return err
	}
	for _, e := range others {
		if candidates[0] == nil || candidates[0].Parent != e.Parent {
			candidates = append(candidates, e)
		}
	}
	var adopted *hostEpoch
	for _, e := range candidates {
		if e == nil {
			continue
		}
		on, err := device.InForce(ctx, e.parent)
		if errors.Is(err, tpm.ErrForeign) {
			continue
		}
		if err != nil {
			return err
		}
		if on || adopted == nil {
			adopted = e
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch = adopted
	return nil
}

// parentsOf gives the parents that the files of these versions have, each once. What is
// damaged has none; STORE_UNAVAILABLE: there may be others.
func (r *Ring) parentsOf(found map[string]map[int]State) (all []*hostEpoch, err error) {
	for name, versions := range found {
		for n := range versions {
			f, unread := r.readVersion(name, n)
			if errors.Is(unread, fault.StoreUnavailable) {
				err = unread
			}
			if unread != nil || f.parent() == nil {
				continue
			}
			if e := newEpoch(f.parent()); !slices.ContainsFunc(all, e.same) {
				all = append(all, e)
			}
		}
	}
	return all, err
}
