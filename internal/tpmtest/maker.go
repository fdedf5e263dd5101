package tpmtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/sealsign/sealsign/tpm"
)

// The kinds of endorsement key that a TPM's maker certifies.
var (
	RSA2048 = Kind{tpm2.RSAEKTemplate, 0x01c00002}
	P256    = Kind{tpm2.ECCEKTemplate, 0x01c0000a}
)

// Kind is one of them: what it is made from, and the NV index of its certificate.
type Kind struct {
	template tpm2.TPMTPublic
	index    tpm2.TPMHandle
}

// Connect opens a connection to a TPM that no Device has open.
func Connect(t testing.TB, o tpm.Options) tpm.Transport {
	t.Helper()
	if o.Dial != nil {
		c, err := o.Dial()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	network, address, _ := strings.Cut(o.Device, ":")
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return transport.FromReadWriteCloser(c)
}

// EndorsementKey makes the TPM's endorsement key and gives its public part.
func EndorsementKey(t testing.TB, o tpm.Options, kind Kind) crypto.PublicKey {
	t.Helper()
	c := Connect(t, o)
	defer func() { _ = c.Close() }()
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(kind.template)}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: made.ObjectHandle}).Execute(c); err != nil {
		t.Fatal(err)
	}
	area, err := made.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm2.Pub(*area)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Maker is a maker of TPMs: a root and an intermediate CA.
type Maker struct {
	t                  testing.TB
	root, intermediate *x509.Certificate
	key                *ecdsa.PrivateKey // of the intermediate
}

// NewMaker founds one.
func NewMaker(t testing.TB) *Maker {
	t.Helper()
	m := &Maker{t: t}
	ca := x509.Certificate{
		NotBefore: time.Now().Add(-20 * 365 * 24 * time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var rootKey *ecdsa.PrivateKey
	rootKey, m.key = newKey(t), newKey(t)
	ca.SerialNumber, ca.Subject = big.NewInt(1), pkix.Name{CommonName: "A Maker's Root CA"}
	m.root = certify(t, &ca, &ca, rootKey.Public(), rootKey)
	ca.SerialNumber, ca.Subject = big.NewInt(2), pkix.Name{CommonName: "A Maker's TPM CA"}
	m.intermediate = certify(t, &ca, m.root, m.key.Public(), rootKey)
	return m
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certify(t testing.TB, template, parent *x509.Certificate, key crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// Roots is what the maker publishes, as PEM.
func (m *Maker) Roots() []byte {
	return append(pemOf(m.intermediate), pemOf(m.root)...)
}

// Root is the root alone.
func (m *Maker) Root() []byte { return pemOf(m.root) }

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// Certify makes an endorsement certificate (DER), as the TCG's profile has it: with a
// critical name of the TPM that is no host's, and without a subject. change may be nil.
func (m *Maker) Certify(key crypto.PublicKey, change func(*x509.Certificate)) []byte {
	m.t.Helper()
	attribute := func(number int, value string) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 23, 133, 2, number}, Value: value}
	}
	names, err := asn1.Marshal(pkix.RDNSequence{{attribute(1, "id:54455354")}, {attribute(2, "TEST")}, {attribute(3, "id:00010002")}})
	if err != nil {
		m.t.Fatal(err)
	}
	san, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: names}})
	if err != nil {
		m.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x2a), NotBefore: time.Now().Add(-10 * 365 * 24 * time.Hour), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageKeyEncipherment,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}},
		ExtraExtensions:    []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: san}},
	}
	if change != nil {
		change(template)
	}
	return certify(m.t, template, m.intermediate, key, m.key).Raw
}

// Endorse certifies the TPM's endorsement key, and leaves the certificate in it.
func (m *Maker) Endorse(o tpm.Options, kind Kind) {
	m.t.Helper()
	Leave(m.t, o, kind, m.Certify(EndorsementKey(m.t, o, kind), nil))
}

// Leave writes a certificate to where the maker of a TPM leaves it, with what fills the
// index behind it.
func Leave(t testing.TB, o tpm.Options, kind Kind, certificate []byte) {
	t.Helper()
	data := append(append([]byte(nil), certificate...), 0xff, 0xff, 0xff)
	c := Connect(t, o)
	defer func() { _ = c.Close() }()
	public := tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: kind.index, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(data)),
		Attributes: tpm2.TPMANV{OwnerWrite: true, AuthRead: true, NoDA: true, NT: tpm2.TPMNTOrdinary},
	})
	if _, err := (tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: public}).Execute(c); err != nil {
		t.Fatal(err)
	}
	index, err := tpm2.NVReadPublic{NVIndex: kind.index}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); {
		piece := data[at:min(at+512, len(data))]
		_, err := tpm2.NVWrite{
			AuthHandle: tpm2.TPMRHOwner, NVIndex: tpm2.NamedHandle{Handle: kind.index, Name: index.NVName},
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: piece}, Offset: uint16(at),
		}.Execute(c)
		if err != nil {
			t.Fatal(err)
		}
		at += len(piece)
	}
}
