package tpm

import (
	"bytes"
	"errors"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// persistentSRK is where the TCG's provisioning guidance keeps the SRK.
const persistentSRK tpm2.TPMHandle = 0x81000001

// owner is the hierarchy that the SRK and NV indexes belong to. The Name of a
// hierarchy is its handle.
var owner = object{handle: tpm2.TPMRHOwner, name: tpm2.PrimaryHandleName(tpm2.TPMRHOwner)}

// openSRK finds the SRK with the pinned Name in its persistent place, or makes
// it from the TCG's ECC P-256 template, which gives the same key every time. It
// returns its Name.
func (c *conn) openSRK(pinned, ownerAuth []byte) ([]byte, error) {
	if pinned != nil {
		rsp, err := tpm2.ReadPublic{ObjectHandle: persistentSRK}.Execute(c)
		if err == nil && bytes.Equal(name(rsp.OutPublic.Bytes()), pinned) {
			return pinned, c.useSRK(persistentSRK, rsp.OutPublic.Bytes())
		}
		if err != nil && !errors.Is(err, tpm2.TPMRCHandle) {
			return nil, err
		}
	}
	// There is no key yet to salt a session to, so the owner's authorization is
	// proven by an HMAC with it alone: someone who listens may guess at it, but
	// doesn't see it.
	s, err := c.startUnsalted(tpm2.TPMSEHMAC, tpm2.TPMRHNull, nil)
	if err != nil {
		return nil, err
	}
	defer c.flush(s.handle)
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: on(owner, s.use(ownerAuth, encryptNone)),
		InPublic:      tpm2.New2B(tpm2.ECCSRKTemplate),
	}.Execute(c)
	if err != nil {
		return nil, explainHierarchy("owner", err)
	}
	public := rsp.OutPublic.Bytes()
	return name(public), c.useSRK(rsp.ObjectHandle, public)
}

func (c *conn) useSRK(handle tpm2.TPMHandle, public []byte) error {
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](public)
	if err != nil {
		return err
	}
	c.srk = object{handle: handle, name: name(public)}
	c.srkKey, err = tpm2.ImportEncapsulationKey(area)
	c.slots = transientSlots
	if handle != persistentSRK {
		c.slots--
	}
	return err
}

// loadedSession asks for the handles of loaded sessions of either kind. Those
// that are saved are the resource manager's (part 3, 30.2).
const loadedSession = tpm2.TPMHTHMACSession

// flushLeftovers frees what an earlier connection left behind. Where the kernel
// shares the TPM out there is nothing; swtpm and /dev/tpm0 forget nothing when
// a connection ends.
func (c *conn) flushLeftovers() error {
	for _, kind := range []tpm2.TPMHT{tpm2.TPMHTTransient, loadedSession} {
		rsp, err := tpm2.GetCapability{
			Capability:    tpm2.TPMCapHandles,
			Property:      uint32(kind) << 24,
			PropertyCount: 64,
		}.Execute(c)
		if err != nil {
			return err
		}
		handles, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			return err
		}
		for _, h := range handles.Handle {
			c.flush(h)
		}
	}
	return nil
}

// explainHierarchy tells a wrong authorization of a hierarchy apart: "owner" or "endorsement".
func explainHierarchy(hierarchy string, err error) error {
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return fault.New(fault.TPMUnavailable, "the TPM's %s authorization is missing or wrong", hierarchy).
			WithHint("give the daemon the %[1]s authorization as the credential tpm-%[1]s-auth: LoadCredentialEncrypted= in its unit", hierarchy).Because(err)
	}
	return err
}
