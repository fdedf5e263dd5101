package keyring

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// The levels of protection, as the config names them.
const (
	Sealed    = "sealed"    // sealed on disk, unsealed into guarded memory
	Resident  = "resident"  // imported into the TPM, which signs
	Generated = "generated" // made by the TPM, which signs
)

// The origins of a version.
const (
	OriginImported  = "imported"
	OriginGenerated = "generated"
	OriginRemote    = "imported-remote" // wrapped on another machine
)

// Spec is what the config says of one key.
type Spec struct {
	Name        string
	Venue       string
	Environment string
	Algorithm   string
	Protection  string
	// SecretEncoding of the venue's HMAC secrets: "raw" or "base64".
	SecretEncoding string
	Hosts          []string
	CA             string // the SHA-256 of the CA file as hex, or empty
	Template       string // of a configured venue
	Version        int    // the one that is to sign; 0: the newest imported
	Passphrase     bool   // the venue needs one
	Probe          string // when a version is tried with the venue before it signs: ProbeOff, ProbeAuto or ProbeRequired

	MaxAge    time.Duration // until a rotation is due; 0: never
	Expires   time.Time     // it signs nothing from then on; zero: never
	IdleAfter time.Duration // without use until it is idle; 0: never
}

func (s *Spec) equal(o *Spec) bool {
	return s.Name == o.Name && s.Venue == o.Venue && s.Environment == o.Environment && s.Algorithm == o.Algorithm &&
		s.Protection == o.Protection && s.SecretEncoding == o.SecretEncoding && slices.Equal(s.Hosts, o.Hosts) &&
		s.CA == o.CA && s.Template == o.Template && s.Version == o.Version && s.Passphrase == o.Passphrase &&
		s.MaxAge == o.MaxAge && s.Expires.Equal(o.Expires) && s.IdleAfter == o.IdleAfter && s.Probe == o.Probe
}

// metadata is sealed with a version: who can't unseal the version can't change it.
type metadata struct {
	Name           string    `json:"name"`
	Version        int       `json:"version"`
	Venue          string    `json:"venue"`
	Environment    string    `json:"environment"`
	Algorithm      string    `json:"algorithm"`
	Protection     string    `json:"protection"`
	Origin         string    `json:"origin"`
	Hosts          []string  `json:"hosts"`
	CA             string    `json:"ca"`
	Template       string    `json:"template"`
	SecretEncoding string    `json:"secret_encoding"`
	ImportedAt     time.Time `json:"imported_at"`
	// Importer is who wrapped the credential elsewhere, as enrolled, and the
	// fingerprint of the key that signed it.
	Importer string `json:"importer,omitempty"`
	// PublicKey is the SubjectPublicKeyInfo of an asymmetric key.
	PublicKey []byte `json:"public_key,omitempty"`
	// Object is the SHA-256 of the file's TPM key object, where it has one.
	Object []byte `json:"object,omitempty"`
}

// encode gives the bytes that are sealed with the version.
func (m *metadata) encode() ([]byte, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fault.New(fault.InternalError, "metadata can't be written").Because(err)
	}
	return raw, nil
}

// bind copies what a version is bound to from the config.
func (m *metadata) bind(s *Spec) {
	m.Venue, m.Environment, m.Algorithm = s.Venue, s.Environment, s.Algorithm
	m.Protection, m.SecretEncoding = s.Protection, s.SecretEncoding
	m.Hosts, m.CA, m.Template = slices.Sorted(slices.Values(s.Hosts)), s.CA, s.Template
}

// reimport refuses a config that asks for another credential than this version
// is: no rebinding makes it one.
func (m *metadata) reimport(s *Spec) error {
	return m.compare(s, []difference{
		{"venue", m.Venue, s.Venue},
		{"environment", m.Environment, s.Environment}, // what was issued for one is never used in another
		{"algorithm", m.Algorithm, s.Algorithm},
		{"protection", m.Protection, s.Protection},
		{"secret encoding", m.SecretEncoding, s.SecretEncoding},
	}, "import the credential again: sealsign key import %s; or set the config back")
}

// bound refuses a config that would use this version otherwise than it was
// sealed for, so that an edit alone can't send a key elsewhere.
func (m *metadata) bound(s *Spec) error {
	if err := m.reimport(s); err != nil {
		return err
	}
	if hosts := slices.Sorted(slices.Values(s.Hosts)); !slices.Equal(m.Hosts, hosts) {
		return m.differs(s, "hosts", rebindHint)
	}
	return m.compare(s, []difference{
		{"CA", m.CA, s.CA},
		{"template", m.Template, s.Template},
	}, rebindHint)
}

const rebindHint = "if the change is meant: sealsign key rebind %s"

type difference struct{ what, sealed, config string }

func (m *metadata) compare(s *Spec, all []difference, hint string) error {
	for _, d := range all {
		if d.sealed != d.config {
			return m.differs(s, d.what, hint)
		}
	}
	return nil
}

func (m *metadata) differs(s *Spec, what, hint string) error {
	return fault.New(fault.KeyRebindRequired, "version %d of key %s was sealed with other %s than the config has", m.Version, s.Name, what).
		WithHint(hint, s.Name)
}
