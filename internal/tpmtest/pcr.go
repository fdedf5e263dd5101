package tpmtest

import (
	"crypto/sha256"
	"net"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/sealsign/sealsign/tpm"
)

// measured is what Extend extends PCRs with.
var measured = sha256.Sum256([]byte("another kernel"))

// Extend changes a PCR, as a boot with another kernel would.
func Extend(t testing.TB, device transport.TPM, pcr int) {
	t.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: measured[:]}}},
	}.Execute(device)
	if err != nil {
		t.Fatalf("extending PCR %d: %v", pcr, err)
	}
}

// Extended is what a PCR holds after Extend.
func Extended(value tpm.PCRValue) tpm.PCRValue {
	return sha256.Sum256(append(value[:], measured[:]...))
}

// Reset sets a PCR back, which only those for applications and tests let it: 16 and 23.
func Reset(t testing.TB, device transport.TPM, pcr int) {
	t.Helper()
	if _, err := (tpm2.PCRReset{PCRHandle: tpm2.TPMHandle(pcr)}).Execute(device); err != nil {
		t.Fatalf("resetting PCR %d: %v", pcr, err)
	}
}

// Extend changes a PCR. Nobody may be connected: swtpm serves one after the other.
func (s *Software) Extend(pcr int) {
	s.t.Helper()
	conn, err := net.Dial(s.network, s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	Extend(s.t, transport.FromReadWriter(conn), pcr)
}
