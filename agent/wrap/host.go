// Package wrap carries a credential to a host from elsewhere: the document by which a
// host tells what to wrap for, and the blob that only its TPM opens, signed by an
// importer's SSH key. It knows the format of both, and nothing of keyrings: who may
// import what is for the agent that takes the blob.
package wrap

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

const (
	hostFormat = 1
	// MaxHost is the most bytes that a host's document may have: certificates have 2 KiB.
	MaxHost = 64 << 10
)

// Host is what a host tells about itself, to be wrapped for.
type Host struct {
	Format      int    `json:"format"`
	Host        string `json:"host"`
	Environment string `json:"environment"`
	Name        string `json:"name"`        // of the sealing key, hex
	SealingKey  []byte `json:"sealing_key"` // the storage root key's TPMT_PUBLIC
	TPM         Chip   `json:"tpm"`
	// CheckpointKey is the key that signs the host's audit log, and this document, as PEM.
	CheckpointKey string `json:"checkpoint_key"`
	// Endorsement is what the chip's maker certifies, as PEM; empty where the chip has none.
	Endorsement []string `json:"endorsement_certificates"`
	// Attestation is the TPM's own word for all of the above.
	Attestation *tpm.Certification `json:"attestation,omitempty"`
}

// Chip is what a TPM says of itself.
type Chip struct {
	Manufacturer string `json:"manufacturer"`
	Firmware     string `json:"firmware"`
	Software     bool   `json:"software"` // a program, whose keys are files
}

// NewHost begins a document. What is left is the chip and the attestation.
func NewHost(name, environment string, key *tpm.StorageKey) *Host {
	return &Host{
		Format: hostFormat, Host: name, Environment: environment,
		Name: hex.EncodeToString(key.Name()), SealingKey: key.Public(), Endorsement: []string{},
	}
}

// Qualifying is the hash that the attestation is made for: of everything else.
func (h *Host) Qualifying() ([]byte, error) {
	rest := *h
	rest.Attestation = nil
	text, err := json.Marshal(rest)
	sum := sha256.Sum256(text)
	return sum[:], err
}

// ParseHost reads a document and verifies it, and gives what to wrap with.
func ParseHost(data []byte) (*Host, *tpm.StorageKey, error) {
	h := new(Host)
	if err := strictJSON(data, h, MaxHost); err != nil {
		return nil, nil, badHost("it is none: %v", err)
	}
	if h.Format != hostFormat {
		return nil, nil, badHost("it has format %d, and this sealsign knows format %d", h.Format, hostFormat)
	}
	key, err := tpm.ParseStorageKey(h.SealingKey)
	if err != nil {
		return nil, nil, err
	}
	if hex.EncodeToString(key.Name()) != h.Name {
		return nil, nil, badHost("the sealing key has another name than it says")
	}
	if h.Attestation == nil {
		return nil, nil, badHost("it has no attestation")
	}
	about, err := h.Qualifying()
	if err != nil {
		return nil, nil, err
	}
	signer, err := h.Attestation.Verify(key, about)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(signer)
	if err != nil {
		return nil, nil, err
	}
	if block, _ := pem.Decode([]byte(h.CheckpointKey)); block == nil || !bytes.Equal(block.Bytes, der) {
		return nil, nil, badHost("another key has signed it than it says")
	}
	return h, key, nil
}

func badHost(format string, args ...any) *fault.Error {
	return fault.New(fault.BadRequest, "the host's document can't be used: "+format, args...).
		WithHint("on that host, as root: sealsign host-key > HOST.json")
}

var errTooLarge = errors.New("it is too large")

// strictJSON takes no unknown field and nothing after the value.
func strictJSON(data []byte, into any, most int) error {
	if len(data) > most {
		return errTooLarge
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows its JSON")
	}
	return nil
}

// CheckpointFingerprint is the SHA-256 of the checkpoint key's
// SubjectPublicKeyInfo, written as SSH writes fingerprints, for people to compare.
func (h *Host) CheckpointFingerprint() string {
	block, _ := pem.Decode([]byte(h.CheckpointKey))
	if block == nil {
		return ""
	}
	sum := sha256.Sum256(block.Bytes)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}
