package keyring

import (
	"slices"
	"strings"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// inTPM lists what a TPM can hold, by algorithm, with the name of the ability it
// needs. What isn't here no TPM can do.
var inTPM = map[string]string{
	HMACSHA256: tpm.CanHMACSHA256,
	HMACSHA384: tpm.CanHMACSHA384,
	HMACSHA512: tpm.CanHMACSHA512,
	RSASHA256:  tpm.CanRSA2048,
	ES256:      tpm.CanP256,
}

// generated lists what is made inside the TPM: what a venue lets register.
var generated = []string{RSASHA256, ES256}

const sealedHint = "set protection = \"sealed\", which every algorithm has"

// possible refuses what no TPM can do.
func (s *Spec) possible() error {
	_, holds := inTPM[s.Algorithm]
	switch s.Protection {
	case Sealed:
		if _, isHMAC := credential.HMACHashes[s.Algorithm]; isHMAC || slices.Contains([]string{RSASHA256, Ed25519, ES256, None}, s.Algorithm) {
			return nil
		}
		return fault.New(fault.KeyUnsupported, "key %s has algorithm %q, which there is not", s.Name, s.Algorithm)
	case Resident:
		if holds {
			return nil
		}
		return fault.New(fault.KeyUnsupported, "key %s can't be resident: no TPM signs with %s", s.Name, s.Algorithm).WithHint(sealedHint)
	case Generated:
		if slices.Contains(generated, s.Algorithm) {
			return nil
		}
		return fault.New(fault.KeyUnsupported, "key %s can't be generated: that can be %s, and its algorithm is %s",
			s.Name, strings.Join(generated, " or "), s.Algorithm).WithHint(sealedHint)
	}
	return fault.New(fault.KeyUnsupported, "key %s has protection %q, which there is not", s.Name, s.Protection).
		WithHint("protection is %q, %q or %q", Sealed, Resident, Generated)
}

// possibleWith refuses what this TPM can't do.
func (s *Spec) possibleWith(can []string) error {
	if s.Protection == Sealed || slices.Contains(can, inTPM[s.Algorithm]) {
		return nil
	}
	return fault.New(fault.KeyUnsupported, "key %s can't be %s: this TPM doesn't sign with %s", s.Name, s.Protection, s.Algorithm).
		WithHint("it can do %s; or %s", strings.Join(can, ", "), sealedHint)
}

// takes refuses a passphrase that the venue doesn't have, or one that is missing.
func (s *Spec) takes(c *credential.Credential) error { return c.CheckPassphrase(s.Venue, s.Passphrase) }
