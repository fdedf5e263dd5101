package wrap_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/agent/wrap"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

func certificate(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// trusting are makers that an importer trusts.
func trusting(t testing.TB, texts ...[]byte) *wrap.Makers {
	t.Helper()
	makers := wrap.NewMakers()
	for _, text := range texts {
		if err := makers.Add(text); err != nil {
			t.Fatal(err)
		}
	}
	return makers
}

// endorsed is a request for the host of d, whose maker is trusted.
func endorsed(t testing.TB, d *tpm.Device, maker *tpmtest.Maker, certificates ...[]byte) *wrap.Request {
	t.Helper()
	r := request(t, d, signer(t))
	host, _, err := wrap.ParseHost(document(t, d, certificates...))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	r.Endorsed = must[*wrap.Endorsement](t)(host.EndorsedBy(trusting(t, maker.Roots())))
	return r
}

// released is a blob as its host opens it.
func released(t testing.TB, d *tpm.Device, data []byte) (*wrap.Blob, error) {
	t.Helper()
	b := must[*wrap.Blob](t)(wrap.Parse(data))
	ek, blob, err := b.Endorsed()
	if err != nil || ek == nil || b.KEK != nil || b.Object != nil {
		t.Fatalf("%v, %+v", err, b)
	}
	key := make([]byte, credential.KEKSize)
	if _, err = d.ActivateCredential(t.Context(), ek, blob, key); err != nil {
		return nil, err
	}
	if err := b.Release(make([]byte, len(key))); err == nil {
		t.Error("any key opens it")
	}
	digest := must[[]byte](t)(b.Digest())
	if err := b.Release(key); err != nil {
		return nil, err
	}
	if !bytes.Equal(digest, must[[]byte](t)(b.Digest())) {
		t.Error("released it is another blob")
	}
	return b, nil
}

func TestEndorsed(t *testing.T) {
	o, maker := tpmtest.Swtpm(t), tpmtest.NewMaker(t)
	for name, kind := range map[string]tpmtest.Kind{"RSA-2048": tpmtest.RSA2048, "P-256": tpmtest.P256} {
		t.Run(name, func(t *testing.T) {
			der := maker.Certify(tpmtest.EndorsementKey(t, o, kind), nil)
			d := opened(t, o)
			for _, protection := range []string{wrap.Sealed, wrap.Resident} {
				alice := signer(t)
				r := endorsed(t, d, maker, der)
				if e := r.Endorsed; e.Serial != "2a" || e.Maker != "CN=A Maker's Root CA" || e.TPM != "id:54455354, model TEST, version id:00010002" {
					t.Errorf("%+v", e)
				}
				r.Importer, r.Binding.Protection = importer(alice), protection
				data := blob(t, r, alice)
				if bytes.Contains(data, []byte(tpm.KeyFileType)) {
					t.Error("what is wrapped for the sealing key lies open")
				}
				b, err := released(t, d, data)
				if err != nil {
					t.Fatal(err)
				}
				if b.Header.Format != 2 || len(b.Header.EndorsementKey) == 0 || (b.Object != nil) != (protection == wrap.Resident) {
					t.Errorf("%+v", b.Header)
				}
				kek := make([]byte, credential.KEKSize)
				must[int](t)(d.Unseal(t.Context(), must[*tpm.KeyFile](t)(d.Import(t.Context(), b.KEK)), kek))
				if c := must[*credential.Credential](t)(b.Open(kek)); string(c.APIKey) != "id" {
					t.Errorf("%q", c.APIKey)
				}
			}
		})
	}
}

func TestChangedEndorsedBlobs(t *testing.T) {
	o, maker, alice := tpmtest.Swtpm(t), tpmtest.NewMaker(t), signer(t)
	der := maker.Certify(tpmtest.EndorsementKey(t, o, tpmtest.P256), nil)
	r := endorsed(t, opened(t, o), maker, der)
	r.Importer = importer(alice)
	data := blob(t, r, alice)
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1 << (i % 8)
		if _, err := wrap.Parse(changed); !errors.Is(err, fault.WrappedInvalid) {
			t.Fatalf("byte %d may be changed: %v", i, err)
		}
	}
}

func TestWhoIsNotEndorsed(t *testing.T) {
	o, maker, other := tpmtest.Swtpm(t), tpmtest.NewMaker(t), tpmtest.NewMaker(t)
	key := tpmtest.EndorsementKey(t, o, tpmtest.P256)
	d := opened(t, o)
	p384 := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	good := maker.Certify(key, nil)
	tampered := bytes.Clone(good)
	tampered[len(tampered)-5] ^= 1
	unknown := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}
	for what, c := range map[string]struct {
		der   []byte
		trust []byte
		says  string
	}{
		"nothing":              {nil, maker.Roots(), "without an endorsement certificate"},
		"another maker":        {good, other.Roots(), "unknown authority"},
		"no intermediate":      {good, maker.Root(), "unknown authority"},
		"a changed one":        {tampered, maker.Roots(), "unknown authority"},
		"noise":                {[]byte("noise"), maker.Roots(), "malformed certificate"},
		"another curve":        {maker.Certify(p384.Public(), nil), maker.Roots(), "neither RSA-2048 nor P-256"},
		"another usage":        {maker.Certify(key, func(c *x509.Certificate) { c.UnknownExtKeyUsage[0][4] = 3 }), maker.Roots(), "something else"},
		"any usage":            {maker.Certify(key, func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }), maker.Roots(), "something else"},
		"a CA":                 {maker.Certify(key, func(c *x509.Certificate) { c.IsCA = true }), maker.Roots(), "something else"},
		"no name":              {maker.Certify(key, func(c *x509.Certificate) { c.ExtraExtensions = nil }), maker.Roots(), "doesn't name a TPM"},
		"a host's name":        {maker.Certify(key, func(c *x509.Certificate) { c.ExtraExtensions, c.DNSNames = nil, []string{"a.example"} }), maker.Roots(), "doesn't name a TPM"},
		"an unreadable name":   {maker.Certify(key, func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte{0x30, 4, 0xa4, 2, 5, 0} }), maker.Roots(), "can't be read"},
		"an unknown extension": {maker.Certify(key, func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, unknown) }), maker.Roots(), "unhandled critical extension"},
		"issued before its CA": {maker.Certify(key, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(-30 * 365 * 24 * time.Hour) }), maker.Roots(), "expired or is not yet valid"},
	} {
		t.Run(what, func(t *testing.T) {
			var certificates [][]byte
			if c.der != nil {
				certificates = [][]byte{c.der}
			}
			host, _, err := wrap.ParseHost(document(t, d, certificates...))
			if err != nil {
				t.Fatal(err)
			}
			_, err = host.EndorsedBy(trusting(t, c.trust))
			refused(t, err, fault.BadRequest, c.says)
		})
	}
	// A chip outlives its certificate, and one certificate that holds is enough.
	expired := maker.Certify(key, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	host, _, err := wrap.ParseHost(document(t, d, tampered, expired))
	if err != nil {
		t.Fatal(err)
	}
	must[*wrap.Endorsement](t)(host.EndorsedBy(trusting(t, other.Roots(), maker.Roots())))
}

func TestMakers(t *testing.T) {
	makers, maker := wrap.NewMakers(), tpmtest.NewMaker(t)
	key := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}})
	for _, text := range [][]byte{nil, []byte("noise"), key, []byte(certificate([]byte("noise")))} {
		if err := makers.Add(text); err == nil {
			t.Errorf("%.30q is taken", text)
		}
	}
	intermediate := maker.Roots()[:len(maker.Roots())-len(maker.Root())]
	if err := makers.Add(intermediate); err != nil || makers.HasRoot() {
		t.Errorf("%v, or an intermediate is trusted", err)
	}
	if err := makers.Add(maker.Root()); err != nil || !makers.HasRoot() {
		t.Errorf("%v, or a root is not trusted", err)
	}
}

// forger makes a host's document in software, beside the certificate of a genuine TPM.
type forger struct {
	testing.TB
	srk *ecdsa.PrivateKey
}

// public is the TPMT_PUBLIC of a software key.
func (f *forger) public(template tpm2.TPMTPublic, key *ecdsa.PrivateKey) []byte {
	point := must[[]byte](f)(key.PublicKey.Bytes())
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
	})
	return tpm2.Marshal(template)
}

func nameOf(public []byte) []byte {
	sum := sha256.Sum256(public)
	return append([]byte{0, 0xb}, sum[:]...)
}

// document passes all checks of a document: a statement that no TPM made is signed by a
// key that is in none. like is a genuine one.
func (f *forger) document(like *wrap.Host, der []byte) []byte {
	f.Helper()
	public := f.public(tpm2.ECCSRKTemplate, f.srk)
	h := wrap.NewHost("alpha", "production", must[*tpm.StorageKey](f)(tpm.ParseStorageKey(public)))
	signing := must[*ecdsa.PrivateKey](f)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	area := must[*tpm2.TPMTPublic](f)(tpm2.Unmarshal[tpm2.TPMTPublic](like.Attestation.Attestor))
	attestor := f.public(*area, signing)
	h.TPM, h.Endorsement = like.TPM, []string{certificate(der)}
	spki := must[[]byte](f)(x509.MarshalPKIXPublicKey(signing.Public()))
	h.CheckpointKey = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	qualified := func(parent, public []byte) []byte { return nameOf(slices.Concat(parent, nameOf(public))) }
	primary := qualified([]byte{0x40, 0, 0, 1}, public)
	statement := tpm2.Marshal(tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestCertify,
		QualifiedSigner: tpm2.TPM2BName{Buffer: qualified(primary, attestor)},
		ExtraData:       tpm2.TPM2BData{Buffer: must[[]byte](f)(h.Qualifying())},
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestCertify, &tpm2.TPMSCertifyInfo{
			Name: tpm2.TPM2BName{Buffer: nameOf(public)}, QualifiedName: tpm2.TPM2BName{Buffer: primary},
		}),
	})
	digest := sha256.Sum256(statement)
	signature := must[[]byte](f)(ecdsa.SignASN1(rand.Reader, signing, digest[:]))
	h.Attestation = &tpm.Certification{Attestor: attestor, Statement: statement, Signature: signature}
	return must[[]byte](f)(json.Marshal(h))
}

// open opens what was wrapped for the software key, as a TPM would (part 1, 23.3), and
// gives the secret.
func (f *forger) open(w *tpm.Wrapped) []byte {
	f.Helper()
	var file struct {
		OID             asn1.ObjectIdentifier
		EmptyAuth       bool   `asn1:"optional,explicit,tag:0"`
		Secret          []byte `asn1:"explicit,tag:2"`
		Parent          int
		Public, Private []byte
	}
	if rest, err := asn1.Unmarshal(w.Marshal(), &file); err != nil || len(rest) > 0 {
		f.Fatal(err)
	}
	ephemeral := must[*tpm2.TPMSECCPoint](f)(tpm2.Unmarshal[tpm2.TPMSECCPoint](file.Secret[2:]))
	point := slices.Concat([]byte{4}, ephemeral.X.Buffer, ephemeral.Y.Buffer)
	theirs := must[*ecdsa.PublicKey](f)(ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point))
	own := must[[]byte](f)(f.srk.PublicKey.Bytes())
	z := must[[]byte](f)(must[*ecdh.PrivateKey](f)(f.srk.ECDH()).ECDH(must[*ecdh.PublicKey](f)(theirs.ECDH())))
	seed := tpm2.KDFe(crypto.SHA256, z, "DUPLICATE", ephemeral.X.Buffer, own[1:33], 256)
	key := tpm2.KDFa(crypto.SHA256, seed, "STORAGE", nameOf(file.Public[2:]), nil, 128)
	sensitive := bytes.Clone(file.Private[2+2+sha256.Size:])
	cipher.NewCFBDecrypter(must[cipher.Block](f)(aes.NewCipher(key)), make([]byte, aes.BlockSize)).XORKeyStream(sensitive, sensitive) //nolint:staticcheck // the TPM's own mode
	content := must[*tpm2.TPMTSensitive](f)(tpm2.Unmarshal[tpm2.TPMTSensitive](sensitive[2:]))
	return must[*tpm2.TPM2BSensitiveData](f)(content.Sensitive.Bits()).Buffer
}

// A document of a storage root key in software, with a genuine TPM's certificate beside
// it, passes every check that can be made without that TPM. What is wrapped for it opens,
// unless it is endorsed: then it doesn't, not even with the genuine TPM at hand.
func TestForgedDocument(t *testing.T) {
	o, maker, alice := tpmtest.Swtpm(t), tpmtest.NewMaker(t), signer(t)
	der := maker.Certify(tpmtest.EndorsementKey(t, o, tpmtest.RSA2048), nil)
	d := opened(t, o)
	genuine, _, err := wrap.ParseHost(document(t, d, der))
	if err != nil {
		t.Fatal(err)
	}
	mallory := &forger{t, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	r := request(t, d, alice)
	if r.Host, r.Target, err = wrap.ParseHost(mallory.document(genuine, der)); err != nil {
		t.Fatal(err)
	}
	b := must[*wrap.Blob](t)(wrap.Parse(blob(t, r, alice)))
	if c := must[*credential.Credential](t)(b.Open(mallory.open(b.KEK))); string(c.Secret) != "FAKE-secret" {
		t.Fatalf("this attack doesn't even open what isn't endorsed: %q", c.Secret)
	}

	r.Endorsed = must[*wrap.Endorsement](t)(r.Host.EndorsedBy(trusting(t, maker.Roots())))
	data := blob(t, r, alice)
	b = must[*wrap.Blob](t)(wrap.Parse(data))
	if b.KEK != nil || b.Object != nil || bytes.Contains(data, []byte(tpm.KeyFileType)) {
		t.Error("there is a key that the forged one opens")
	}
	_, err = released(t, d, data)
	refused(t, err, fault.WrappedMismatch, "not in the TPM that has the endorsement key")
}

// The certificate that swtpm_setup leaves in an swtpm holds by the CA of swtpm_localca.
func TestSwtpmCertificate(t *testing.T) {
	h := &wrap.Host{Endorsement: []string{string(must[[]byte](t)(os.ReadFile("testdata/ek.pem")))}}
	e := must[*wrap.Endorsement](t)(h.EndorsedBy(trusting(t, must[[]byte](t)(os.ReadFile("testdata/makers.pem")))))
	if e.Maker != "CN=swtpm-localca-rootca" || e.TPM != "id:00001014, model swtpm, version id:20191023" {
		t.Errorf("%+v", e)
	}
}

// FuzzEndorsementCertificate: nothing crashes what reads certificates, and none holds that
// no maker has signed.
func FuzzEndorsementCertificate(f *testing.F) {
	block, _ := pem.Decode(must[[]byte](f)(os.ReadFile("testdata/ek.pem")))
	f.Add(block.Bytes)
	f.Add(block.Bytes[:len(block.Bytes)/2])
	makers := trusting(f, must[[]byte](f)(os.ReadFile("testdata/makers.pem")))
	f.Fuzz(func(t *testing.T, der []byte) {
		h := &wrap.Host{Endorsement: []string{certificate(der)}}
		if e, err := h.EndorsedBy(makers); err == nil && !bytes.Equal(der, block.Bytes) {
			t.Fatalf("another certificate holds: %+v", e)
		}
	})
}
