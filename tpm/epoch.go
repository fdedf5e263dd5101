package tpm

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// epochAttributes are those of the counter that parents hang on. Everybody who reaches
// the TPM may read it, so that no lost secret locks anything out. Only the TPM's owner
// may increment it, which gives the owner nothing: who can remove the index ends as much.
var epochAttributes = tpm2.TPMANV{NT: tpm2.TPMNTCounter, AuthRead: true, OwnerRead: true, OwnerWrite: true, NoDA: true}

// epochName is the Name of the counter once it was written: an index with the same
// handle and other attributes, which could be set back, has another.
func epochName(h tpm2.TPMHandle) []byte {
	attributes := epochAttributes
	attributes.Written = true
	return name(tpm2.Marshal(tpm2.TPMSNVPublic{NVIndex: h, NameAlg: tpm2.TPMAlgSHA256, Attributes: attributes, DataSize: counterSize}))
}

// defineEpoch makes the counter, or finds the one that was made before, and gives its value.
func (c *conn) defineEpoch(h tpm2.TPMHandle, ownerAuth []byte) (uint64, error) {
	i, err := c.nvDefine(h, epochAttributes, counterSize, nil, ownerAuth)
	if err == nil && !i.written {
		err = c.endEpoch(h, ownerAuth) // it can't be read before
	}
	if err != nil {
		return 0, err
	}
	return c.epoch(h)
}

// epoch reads the counter.
func (c *conn) epoch(h tpm2.TPMHandle) (uint64, error) {
	i, err := c.nvPublic(h)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(i.name, epochName(h)) {
		return 0, fault.New(fault.TPMUnavailable, "the NV index %#x is in use for something else", uint32(h)).
			WithHint("tpm2_nvreadpublic shows what for; tpm2_nvundefine %#x removes it", uint32(h)).Because(errNVInUse)
	}
	b, err := c.nvRead(h, nil)
	if err == nil && len(b) != counterSize {
		err = errors.New("a counter is cut short")
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// endEpoch increments the counter.
func (c *conn) endEpoch(h tpm2.TPMHandle, ownerAuth []byte) error {
	i, err := c.nvPublic(h)
	if err != nil {
		return err
	}
	return explainHierarchy("owner", c.nvIncrement(owner, i, ownerAuth))
}
