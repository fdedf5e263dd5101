package keyring

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// approvePCRs has the tests' own authority approve a PCR as it is now.
func approvePCRs(t *testing.T, device *tpm.Device, pcr int) {
	t.Helper()
	info, err := device.Inspect(t.Context())
	must(t, err)
	a := &tpm.Approval{HostID: device.HostID(), PCRs: tpm.PCRs{pcr: info.PCRs[pcr]}}
	text, err := a.ToSign()
	must(t, err)
	digest := sha256.Sum256(text)
	a.Signature, err = p256Key().Sign(rand.Reader, digest[:], crypto.SHA256)
	must(t, err)
	device.SetApprovals([]*tpm.Approval{a})
}

// An authority is enrolled on a host that has keys: those go on, and what comes after
// hangs on its word, whatever its protection. What it hasn't approved locks that alone.
func TestAnAuthorityForPCRs(t *testing.T) {
	const pcr = 16
	o := tpmtest.Simulator(t)
	p := &place{t: t, dir: newDir(t), device: openTPM(t, o), clock: newPlaceClock()}
	before := hmacSpec("before")
	r := p.open(before)
	mustImport(t, r, "before", "old")
	r.Close()
	must(t, p.device.Close())

	authority, err := tpm.NewAuthority(p256Key().Public())
	must(t, err)
	with := o
	with.PCRs, with.Authority = []int{pcr}, authority
	p.device = openTPM(t, with)
	specs := append(everyProtection(), before)
	r = p.open(specs...)
	_, err = r.Import(t.Context(), "sealed", hmacCredential("alpha"))
	refused(t, err, fault.KeyLocked, "sealsign pcr approve")
	approvePCRs(t, p.device, pcr)
	importEvery(t, r)
	signsWith(t, r, "before", "old")
	signsWith(t, r, "sealed", "alpha")
	r.Close()
	must(t, p.device.Close())

	behind, err := o.Dial()
	must(t, err)
	tpmtest.Extend(t, behind, pcr)
	p.device = openTPM(t, with)
	r = p.open(specs...)
	for _, s := range everyProtection() {
		useRefused(t, r, s.Name, fault.KeyLocked, "sealsign pcr approve")
		if i := infoOf(t, r, s.Name); i.State != "locked" {
			t.Errorf("got %+v", i)
		}
	}
	signsWith(t, r, "before", "old")
	must(t, r.Anchored())
	approvePCRs(t, p.device, pcr)
	r.Unlock()
	signsWith(t, r, "sealed", "alpha")
	mustUse(t, r, "resident")
	mustUse(t, r, "generated")
	copied := p.image()
	p.device.SetApprovals(nil) // revoking asks for no approval
	_, err = r.RevokeAll(t.Context())
	must(t, err)
	approvePCRs(t, p.device, pcr)
	opensNothing(t, p.device, copied)
	if _, err := r.Import(t.Context(), "sealed", hmacCredential("beta")); err != nil || errors.Is(err, fault.KeyLocked) {
		t.Error(err)
	}
}
