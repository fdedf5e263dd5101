package tpm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// A secret bound to PCRs has one PolicyPCR for each of them, not one for all:
// when it won't open, it can be said which PCR has changed.

// needPCRs reads PCRs, each of which this TPM is to have.
func (c *conn) needPCRs(pcrs []int) (PCRs, error) {
	now, err := c.readPCRs(pcrs)
	if err != nil {
		return nil, err
	}
	for _, pcr := range pcrs {
		if _, known := now[pcr]; !known {
			return nil, fault.New(fault.KeyUnsupported, "this TPM has no SHA-256 value of PCR %d", pcr).
				WithHint("leave pcrs empty under [tpm], or enable the SHA-256 bank in the firmware")
		}
	}
	return now, nil
}

// bind gives the policy that asks for these values, part by part and as a digest.
func bind(to PCRs) (values []pcrValue, policy []byte, err error) {
	for _, pcr := range slices.Sorted(maps.Keys(to)) {
		values = append(values, pcrValue{pcr: pcr, digest: digestOfPCR(to[pcr])})
	}
	policy, err = policyOf(values)
	return values, policy, err
}

// policyOf is the digest of a policy that asks for these values, or nil.
func policyOf(values []pcrValue) ([]byte, error) {
	if len(values) == 0 {
		return nil, nil
	}
	calculator, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return nil, err
	}
	for _, v := range values {
		if err := v.command(0).Update(calculator); err != nil {
			return nil, err
		}
	}
	return calculator.Hash().Digest, nil
}

func (v pcrValue) command(session tpm2.TPMHandle) tpm2.PolicyPCR {
	return tpm2.PolicyPCR{
		PolicySession: session,
		PcrDigest:     tpm2.TPM2BDigest{Buffer: v.digest},
		Pcrs:          pcrSelection(v.pcr),
	}
}

// satisfy starts a session in which the PCRs have been shown to be what they were.
func (c *conn) satisfy(values []pcrValue) (*session, error) {
	s, err := c.startSession(tpm2.TPMSEPolicy)
	if err != nil {
		return nil, err
	}
	for _, v := range values {
		if _, err := v.command(s.handle).Execute(c); err != nil {
			c.flush(s.handle)
			if errors.Is(err, tpm2.TPMRCValue) {
				err = fault.New(fault.KeyLocked, "PCR %d has changed since this was sealed", v.pcr).
					WithHint("if the change was yours (firmware, boot loader, kernel), import the credential again").Because(err)
			}
			return nil, err
		}
	}
	return s, nil
}

// addPolicy writes the policy as TPM2_PolicyPCR commands: command code, and its
// parameters.
func addPolicy(b *cryptobyte.Builder, values []pcrValue) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, v := range values {
			addStep(b, tpm2.TPMCCPolicyPCR, v.parameters())
		}
	})
}

// addStep writes one command of a policy.
func addStep(b *cryptobyte.Builder, code tpm2.TPMCC, parameters []byte) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(code)) })
		b.AddASN1(asn1.Tag(1).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(parameters) })
	})
}

// readStep reads the parameters of one command of a policy, if it is this one.
func readStep(list *cryptobyte.String, code tpm2.TPMCC, parameters *cryptobyte.String) bool {
	var entry, number, octets cryptobyte.String
	var cc int64
	return list.ReadASN1(&entry, asn1.SEQUENCE) &&
		entry.ReadASN1(&number, asn1.Tag(0).Constructed().ContextSpecific()) &&
		entry.ReadASN1(&octets, asn1.Tag(1).Constructed().ContextSpecific()) &&
		entry.Empty() &&
		number.ReadASN1Integer(&cc) && tpm2.TPMCC(cc) == code &&
		octets.ReadASN1(parameters, asn1.OCTET_STRING)
}

func (v pcrValue) parameters() []byte {
	return append(tpm2.Marshal(tpm2.TPM2BDigest{Buffer: v.digest}), tpm2.Marshal(pcrSelection(v.pcr))...)
}

func parsePolicy(s cryptobyte.String) ([]pcrValue, error) {
	var list cryptobyte.String
	if !s.ReadASN1(&list, asn1.SEQUENCE) || !s.Empty() || list.Empty() {
		return nil, errPolicy
	}
	var values []pcrValue
	for !list.Empty() {
		var parameters cryptobyte.String
		if !readStep(&list, tpm2.TPMCCPolicyPCR, &parameters) {
			return nil, errPolicy
		}
		v, ok := parsePCR(parameters)
		if !ok || len(values) > 0 && v.pcr <= values[len(values)-1].pcr {
			return nil, errPolicy
		}
		values = append(values, v)
	}
	return values, nil
}

var errPolicy = fmt.Errorf("its policy isn't one of PCRs")

// parsePCR reads parameters: a sized digest, then a count of one selection, its
// hash, and three bytes of which one bit is set (part 2, 10.6.2).
func parsePCR(s cryptobyte.String) (v pcrValue, ok bool) {
	var digest cryptobyte.String
	var count uint32
	var hash uint16
	var size uint8
	var mask []byte
	if !s.ReadUint16LengthPrefixed(&digest) || len(digest) != sha256.Size ||
		!s.ReadUint32(&count) || !s.ReadUint16(&hash) || !s.ReadUint8(&size) || !s.ReadBytes(&mask, int(size)) {
		return v, false
	}
	v = pcrValue{pcr: -1, digest: digest}
	for bit := range 8 * len(mask) {
		if mask[bit/8]>>(bit%8)&1 == 1 {
			v.pcr = bit
		}
	}
	return v, v.pcr >= 0 && v.pcr <= maxPCR
}
