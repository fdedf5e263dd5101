package tpm_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// approve signs values of PCRs as an authority does, and reads them as from a file.
func approve(t *testing.T, key crypto.Signer, hostID string, pcrs tpm.PCRs) *tpm.Approval {
	t.Helper()
	a := &tpm.Approval{HostID: hostID, PCRs: pcrs}
	digest := sha256.Sum256(must[[]byte](t)(a.ToSign()))
	a.Signature = must[[]byte](t)(key.Sign(rand.Reader, digest[:], crypto.SHA256))
	return must[*tpm.Approval](t)(tpm.ParseApproval(must[[]byte](t)(json.Marshal(a))))
}

// extended is the debug PCR's value after an event, from nothing.
func extended(event string) tpm.PCRValue {
	digest := sha256.Sum256([]byte(event))
	return sha256.Sum256(append(make([]byte, sha256.Size), digest[:]...))
}

// testAuthority: what is under a parent with an authority is loaded while the PCRs have
// values that it approved, those of now or of later, and in this epoch.
func testAuthority(t *testing.T, o tpm.Options, key crypto.Signer) {
	reset := func(transport tpm.Transport) {
		if _, err := (tpm2.PCRReset{PCRHandle: tpm2.TPMHandle(debugPCR)}).Execute(transport); err != nil {
			t.Fatal(err)
		}
	}
	behind(t, o, reset)
	plain := o
	o.PCRs = []int{7, debugPCR}
	o.Authority = must[*tpm.Authority](t)(tpm.NewAuthority(key.Public()))
	d := must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	parent := newParent(t, d, nil)
	_, err := d.Seal(t.Context(), parent, []byte("secret"))
	wants(t, err, fault.KeyLocked, "no values of PCRs are approved", "sealsign pcr approve")
	now := must[tpm.PCRs](t)(d.ReadPCRs(t.Context(), o.PCRs))
	later := maps.Clone(now)
	later[debugPCR] = extended("another boot loader")
	other := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	for what, bad := range map[string]*tpm.Approval{
		"another's":    approve(t, other, d.HostID(), now),
		"another host": approve(t, key, "0123456789abcdef012345", now),
	} {
		d.SetApprovals([]*tpm.Approval{bad})
		if _, err := d.Seal(t.Context(), parent, []byte("secret")); err == nil {
			t.Errorf("%s approval is taken", what)
		}
	}
	d.SetApprovals([]*tpm.Approval{approve(t, key, d.HostID(), later), approve(t, key, d.HostID(), now)})
	auth := random(t, tpm.AuthSize)
	files := everyKind(t, d, parent, auth)
	opened := func(when string) {
		t.Helper()
		for what, f := range files {
			if err := opens(t, d, f, auth); err != nil {
				t.Errorf("%s, %s: %v", when, what, err)
			}
		}
	}
	opened("as approved")
	if !must[bool](t)(d.InForce(t.Context(), parent)) || must[bool](t)(d.InForce(t.Context(), parent.OfHostForTest("0123456789abcdef012345"))) {
		t.Error("new things are made under another host's parent, or not under this one's")
	}
	if err := d.Approved(t.Context()); err != nil {
		t.Error(err)
	}
	shut(t, d)
	behind(t, o, func(transport tpm.Transport) { extend(t, transport, "another boot loader") })
	d = must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	d.SetApprovals([]*tpm.Approval{approve(t, key, d.HostID(), now)})
	for _, f := range files {
		wants(t, opens(t, d, f, auth), fault.KeyLocked, "what is in PCR 16 now", "sealsign pcr show --json", "sealsign pcr install")
	}
	wants(t, d.Approved(t.Context()), fault.KeyLocked, "PCR 16")
	d.SetApprovals([]*tpm.Approval{approve(t, key, d.HostID(), now), approve(t, key, d.HostID(), later)})
	opened("after the change that was approved before it")
	shut(t, d)

	d = must[*tpm.Device](t)(tpm.Open(t.Context(), plain))
	if on := must[bool](t)(d.InForce(t.Context(), parent)); on {
		t.Error("the parent is in force without its authority")
	}
	if err := d.EndEpoch(t.Context(), parent); err != nil {
		t.Errorf("an epoch is to end whatever the PCRs are: %v", err)
	}
	shut(t, d)
	d = open(t, o)
	d.SetApprovals([]*tpm.Approval{approve(t, key, d.HostID(), later)})
	for _, f := range files {
		wants(t, opens(t, d, f, auth), fault.KeyRevoked, "revoked in the TPM")
	}
	if next := newParent(t, d, parent); next.Epoch() != parent.Epoch()+1 {
		t.Errorf("epoch %d after %d", next.Epoch(), parent.Epoch())
	}
}

func extend(t *testing.T, transport tpm.Transport, event string) {
	t.Helper()
	if _, err := (tpm2.PCREvent{
		PCRHandle: tpm2.AuthHandle{Handle: debugPCR, Auth: tpm2.PasswordAuth(nil)},
		EventData: tpm2.TPM2BEvent{Buffer: []byte(event)},
	}).Execute(transport); err != nil {
		t.Fatal(err)
	}
}
