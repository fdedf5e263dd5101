package tpm

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// What a TPM may or may not be able to do, as [Info] names it.
const (
	CanHMACSHA256 = "hmac-sha256"
	CanHMACSHA384 = "hmac-sha384"
	CanHMACSHA512 = "hmac-sha512"
	CanRSA2048    = "rsa-2048"
	CanRSA3072    = "rsa-3072"
	CanRSA4096    = "rsa-4096"
	CanP256       = "p256"
)

// Info is what a TPM says of itself.
type Info struct {
	Device       string   `json:"device"`
	Manufacturer string   `json:"manufacturer"` // four letters, and the vendor's own words
	Firmware     string   `json:"firmware"`
	Software     bool     `json:"software"` // a program, not a chip
	Can          []string `json:"can"`      // probed: the Can constants
	PCRs         PCRs     `json:"pcrs"`     // read by Inspect
	// The lockout counter, and where it locks. Nothing made here counts there.
	LockoutCounter uint32 `json:"lockout_counter"`
	LockoutLimit   uint32 `json:"lockout_limit"`
	LockedOut      bool   `json:"locked_out"`
	// Seconds until one failed try is forgotten.
	LockoutInterval uint32 `json:"lockout_interval_seconds"`
	MaxInput        int    `json:"max_input"` // bytes that one command takes of a message
	MaxNV           int    `json:"max_nv"`    // bytes that one command writes or reads of an NV index
}

// softwareMakers are those whose TPM is a program: IBM's libtpms (swtpm, QEMU),
// Microsoft's reference code, and simulators (manufacturer ids from the TCG's
// vendor id registry). A cloud's virtual TPM that says one of these is one.
var softwareMakers = []string{"IBM", "SW", "MSFT", "XCOM"}

// Info is what was found when the TPM was opened or Inspect was last called.
func (d *Device) Info() Info { return *d.info.Load() }

// Inspect asks the TPM again and returns what it says now.
func (d *Device) Inspect(ctx context.Context) (Info, error) {
	var found *Info
	err := d.do(ctx, "inspecting the TPM", func(c *conn) (err error) {
		if found, err = c.probe(); err == nil {
			found.PCRs, err = c.readPCRs(allPCRs())
		}
		return err
	})
	if err != nil {
		return Info{}, err
	}
	found.Device = d.opts.Device
	d.info.Store(found)
	return *found, nil
}

// needs refuses what this TPM can't do and names what it can.
func (d *Device) needs(ability string) error {
	can := d.info.Load().Can
	if slices.Contains(can, ability) {
		return nil
	}
	return fault.New(fault.KeyUnsupported, "this TPM can't do %s", ability).
		WithHint("it can do %s; protection = \"sealed\" works for every algorithm", strings.Join(can, ", "))
}

// probe asks what the TPM is and what it can do. Nothing is assumed: tables of
// what a model can do are wrong for the next firmware.
func (c *conn) probe() (*Info, error) {
	fixed, err := c.properties(tpm2.TPMPTFamilyIndicator)
	if err != nil {
		return nil, err
	}
	variable, err := c.properties(tpm2.TPMPTPermanent)
	if err != nil {
		return nil, err
	}
	maker := text(fixed[tpm2.TPMPTManufacturer])
	vendor := strings.TrimSpace(text(fixed[tpm2.TPMPTVendorString1]) + text(fixed[tpm2.TPMPTVendorString2]) +
		text(fixed[tpm2.TPMPTVendorString3]) + text(fixed[tpm2.TPMPTVendorString4]))
	v1, v2 := fixed[tpm2.TPMPTFirmwareVersion1], fixed[tpm2.TPMPTFirmwareVersion2]
	info := &Info{
		Manufacturer:    strings.TrimSpace(maker + " " + vendor),
		Firmware:        fmt.Sprintf("%d.%d.%d.%d", v1>>16, v1&0xffff, v2>>16, v2&0xffff),
		Software:        slices.Contains(softwareMakers, strings.TrimSpace(maker)),
		LockoutCounter:  variable[tpm2.TPMPTLockoutCounter],
		LockoutLimit:    variable[tpm2.TPMPTMaxAuthFail],
		LockedOut:       variable[tpm2.TPMPTPermanent]&inLockout != 0,
		LockoutInterval: variable[tpm2.TPMPTLockoutInterval],
		MaxInput:        int(cmp.Or(fixed[tpm2.TPMPTInputBuffer], defaultInput)),
		MaxNV:           int(cmp.Or(fixed[tpm2.TPMPTNVBufferMax], defaultInput)),
	}
	info.Can, err = c.abilities()
	return info, err
}

const (
	inLockout    = 1 << 9 // TPMA_PERMANENT.inLockout: part 2, 8.6
	defaultInput = 1024   // what every TPM seen takes
	maxChunk     = 2048   // keeps a command below maxMessage whatever the TPM says
)

// text reads a property of up to four letters.
func text(property uint32) string {
	b := binary.BigEndian.AppendUint32(nil, property)
	return string(bytes.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, b))
}

func (c *conn) properties(from tpm2.TPMPT) (map[tpm2.TPMPT]uint32, error) {
	rsp, err := tpm2.GetCapability{
		Capability:    tpm2.TPMCapTPMProperties,
		Property:      uint32(from),
		PropertyCount: 64,
	}.Execute(c)
	if err != nil {
		return nil, err
	}
	list, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil {
		return nil, err
	}
	found := make(map[tpm2.TPMPT]uint32)
	for _, p := range list.TPMProperty {
		found[p.Property] = p.Value
	}
	return found, nil
}

// abilities has the TPM check the parameters of each kind of key.
func (c *conn) abilities() ([]string, error) {
	hmac := func(hash tpm2.TPMAlgID) tpm2.TPMTPublicParms {
		return tpm2.TPMTPublicParms{Type: tpm2.TPMAlgKeyedHash, Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, hmacParms(hash))}
	}
	rsa := func(bits int) tpm2.TPMTPublicParms {
		return tpm2.TPMTPublicParms{Type: tpm2.TPMAlgRSA, Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, rsaParms(bits))}
	}
	if ok, err := c.accepts(aesParms()); err != nil {
		return nil, err
	} else if !ok {
		return nil, fault.New(fault.TPMUnavailable, "this TPM has no AES-128-CFB to encrypt what goes over its bus")
	}
	var can []string
	for _, a := range []struct {
		name  string
		parms tpm2.TPMTPublicParms
	}{
		{CanHMACSHA256, hmac(tpm2.TPMAlgSHA256)},
		{CanHMACSHA384, hmac(tpm2.TPMAlgSHA384)},
		{CanHMACSHA512, hmac(tpm2.TPMAlgSHA512)},
		{CanRSA2048, rsa(2048)},
		{CanRSA3072, rsa(3072)},
		{CanRSA4096, rsa(4096)},
		{CanP256, tpm2.TPMTPublicParms{Type: tpm2.TPMAlgECC, Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, p256Parms())}},
	} {
		ok, err := c.accepts(a.parms)
		if err != nil {
			return nil, err
		}
		if ok {
			can = append(can, a.name)
		}
	}
	return can, nil
}

func aesParms() tpm2.TPMTPublicParms {
	sym := aes128CFB()
	return tpm2.TPMTPublicParms{
		Type: tpm2.TPMAlgSymCipher,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgSymCipher, &tpm2.TPMSSymCipherParms{
			Sym: tpm2.TPMTSymDefObject{Algorithm: sym.Algorithm, KeyBits: sym.KeyBits, Mode: sym.Mode},
		}),
	}
}

// accepts is whether TestParms says yes. A TPM may say no in many words.
func (c *conn) accepts(parms tpm2.TPMTPublicParms) (bool, error) {
	_, err := tpm2.TestParms{Parameters: parms}.Execute(c)
	if code, ok := errors.AsType[tpm2.TPMRC](err); ok && remedyFor(code) == tell {
		return false, nil
	}
	return err == nil, err
}

func allPCRs() []int {
	all := make([]int, maxPCR+1)
	for i := range all {
		all[i] = i
	}
	return all
}

// readPCRs reads PCRs of the SHA-256 bank. A TPM gives up to eight at a time, and
// none of a bank that it doesn't keep. The answers are seen to be the TPM's: who is on
// its bus could else have a credential sealed to a boot of their own.
func (c *conn) readPCRs(which []int) (PCRs, error) {
	values := make(PCRs)
	for pcrs := range slices.Chunk(which, 8) {
		s, err := c.session(audited)
		if err != nil {
			return nil, err
		}
		rsp, err := tpm2.PCRRead{PCRSelectionIn: pcrSelection(pcrs...)}.Execute(c, s)
		if err != nil {
			return nil, err
		}
		if len(rsp.PCRValues.Digests) != len(pcrs) {
			continue
		}
		for i, digest := range rsp.PCRValues.Digests {
			if len(digest.Buffer) == len(PCRValue{}) {
				values[pcrs[i]] = PCRValue(digest.Buffer)
			}
		}
	}
	return values, nil
}

func pcrSelection(pcrs ...int) tpm2.TPMLPCRSelection {
	which := make([]uint, len(pcrs))
	for i, pcr := range pcrs {
		which[i] = uint(pcr)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash:      tpm2.TPMAlgSHA256,
		PCRSelect: tpm2.PCClientCompatible.PCRs(which...),
	}}}
}
