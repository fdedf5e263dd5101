package wrap

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// Makers are the CAs of TPM makers that an importer trusts to certify endorsement keys.
type Makers struct {
	roots, intermediates *x509.CertPool
	hasRoot              bool
}

// NewMakers trusts nobody yet.
func NewMakers() *Makers {
	return &Makers{roots: x509.NewCertPool(), intermediates: x509.NewCertPool()}
}

// Add takes certificates as PEM. Those that signed themselves are roots; the others only
// help to get from one to a TPM.
func (m *Makers) Add(text []byte) error {
	found := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("it has a %s", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		if found++; bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(c) == nil {
			m.roots.AddCert(c)
			m.hasRoot = true
		} else {
			m.intermediates.AddCert(c)
		}
	}
	if found == 0 {
		return errors.New("it has no certificate in PEM")
	}
	return nil
}

// HasRoot tells whether there is any to trust.
func (m *Makers) HasRoot() bool { return m.hasRoot }

// Endorsement is a maker's word for a TPM: that it made the chip that has this
// endorsement key. Whose chip it is, it doesn't say.
type Endorsement struct {
	Maker  string `json:"maker"`  // the subject of the root that it goes back to
	TPM    string `json:"tpm"`    // manufacturer, model and version as the certificate has them
	Serial string `json:"serial"` // of the certificate, hex
	SHA256 string `json:"sha256"` // of the certificate, hex
	key    *tpm.EndorsementKey
}

// EndorsedBy verifies that one of the makers has certified an endorsement key of the
// host's TPM. That the sealing key is in that TPM is yet to be proved, by the TPM that
// opens what [New] makes with the Endorsement.
func (h *Host) EndorsedBy(makers *Makers) (*Endorsement, error) {
	if len(h.Endorsement) == 0 {
		return nil, fault.New(fault.BadRequest, "host %s has a TPM without an endorsement certificate: no maker vouches for it", h.Host).
			WithHint("wrap without --endorsed-by, and compare the checkpoint key with the host's: sealsign audit public-key")
	}
	var reasons []string
	for _, text := range h.Endorsement {
		block, rest := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
			reasons = append(reasons, "it is no certificate in PEM")
			continue
		}
		e, err := makers.verify(block.Bytes)
		if err == nil {
			return e, nil
		}
		reasons = append(reasons, err.Error())
	}
	return nil, fault.New(fault.BadRequest, "no maker's certificate holds for the TPM of host %s: %v", h.Host, strings.Join(reasons, "; ")).
		WithHint("--endorsed-by takes the root and intermediate certificates that the TPM's maker publishes, as PEM")
}

var (
	// oidEKCertificate is tcg-kp-EKCertificate, the extended key usage of an endorsement
	// certificate, and oidTPM what the attributes of the TPM in its alternative name begin
	// with: manufacturer 1, model 2, version 3 (TCG EK Credential Profile 2.5, 3.2).
	oidEKCertificate = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidTPM           = asn1.ObjectIdentifier{2, 23, 133, 2}
	oidSubjectAltNam = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// verify checks an endorsement certificate (DER) as of the time when it was issued. A chip
// doesn't stop being genuine: the profile has 9999-12-31 for the end of most certificates,
// the makers' CAs and older chips' certificates end before the chips do. Whether a maker
// has revoked it is not looked up.
func (m *Makers) verify(der []byte) (*Endorsement, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	chip, err := chipOf(c)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(c.UnknownExtKeyUsage, oidEKCertificate.Equal) || c.IsCA {
		return nil, errors.New("it certifies something else than an endorsement key")
	}
	chains, err := c.Verify(x509.VerifyOptions{
		Roots: m.roots, Intermediates: m.intermediates, CurrentTime: c.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, err
	}
	key, err := tpm.NewEndorsementKey(c.PublicKey)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return &Endorsement{
		Maker: chains[0][len(chains[0])-1].Subject.String(), TPM: chip,
		Serial: c.SerialNumber.Text(16), SHA256: hex.EncodeToString(sum[:]), key: key,
	}, nil
}

// chipOf reads the alternative name of an endorsement certificate, which names the kind
// of TPM. Mostly there is no subject, so the extension is critical, and crypto/x509 knows
// no names of that form: here it is handled. Any other that is critical and unknown is
// left for Verify to refuse.
func chipOf(c *x509.Certificate) (string, error) {
	at := slices.IndexFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSubjectAltNam) })
	if at < 0 {
		return "", errors.New("it doesn't name a TPM")
	}
	var names []asn1.RawValue
	if rest, err := asn1.Unmarshal(c.Extensions[at].Value, &names); err != nil || len(rest) > 0 {
		return "", errors.New("the name of its TPM can't be read")
	}
	var found [3]string
	for _, name := range names {
		var directory pkix.RDNSequence
		if name.Class != asn1.ClassContextSpecific || name.Tag != 4 { // directoryName: RFC 5280, 4.2.1.6
			continue
		}
		if rest, err := asn1.Unmarshal(name.Bytes, &directory); err != nil || len(rest) > 0 {
			return "", errors.New("the name of its TPM can't be read")
		}
		for _, attribute := range slices.Concat(directory...) {
			number := len(oidTPM)
			value, isText := attribute.Value.(string)
			if isText && len(attribute.Type) == number+1 && attribute.Type[:number].Equal(oidTPM) && 1 <= attribute.Type[number] && attribute.Type[number] <= 3 {
				found[attribute.Type[number]-1] = value
			}
		}
	}
	if slices.Contains(found[:], "") {
		return "", errors.New("it doesn't name a TPM")
	}
	c.UnhandledCriticalExtensions = slices.DeleteFunc(c.UnhandledCriticalExtensions, oidSubjectAltNam.Equal)
	return fmt.Sprintf("%s, model %s, version %s", found[0], found[1], found[2]), nil
}
