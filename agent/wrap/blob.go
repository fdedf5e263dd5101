package wrap

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// A blob is PEM: what follows, the wrapped key-encryption key, for a resident key the
// wrapped key itself, and last a signature over all before it, byte for byte:
//
//	-----BEGIN SEALSIGN WRAPPED-----        JSON: header, nonce, ciphertext
//	-----BEGIN TSS2 PRIVATE KEY-----        importable: opens the ciphertext
//	-----BEGIN TSS2 PRIVATE KEY-----        importable: signs in the TPM
//	-----BEGIN SSH SIGNATURE-----           PROTOCOL.sshsig of OpenSSH
//
// One that is endorsed has its TSS2 keys encrypted, under a key that the target's TPM
// releases only where it holds the endorsement key that its maker certified and the
// storage root key too:
//
//	-----BEGIN SEALSIGN WRAPPED-----        as above
//	-----BEGIN SEALSIGN ENDORSED-----       JSON: credential blob, nonce, ciphertext
//	-----BEGIN SSH SIGNATURE-----
//
// So whoever wants to look at one needs no sealsign: sed '/BEGIN SSH SIG/,$d' BLOB |
// ssh-keygen -Y verify says who made it.
const (
	format       = 1 // not endorsed
	formatEK     = 2 // endorsed
	blobPEM      = "SEALSIGN WRAPPED"
	endorsedPEM  = "SEALSIGN ENDORSED"
	signaturePEM = "SSH SIGNATURE"

	// Namespace is that of the signature: one that was made for anything else, a
	// login or a commit, is none.
	Namespace = "sealsign-wrap"
	// MaxBlob is the most bytes that a blob may have: a credential of 64 KiB has 120
	// KiB after two rounds of base64.
	MaxBlob = 256 << 10
)

// Header is what a blob says of itself. Who can't open the blob can read it; nobody
// can change it.
type Header struct {
	Format  int    `json:"format"`
	Key     string `json:"key"`
	Binding        // what the version will be bound to
	// Target is the Name (hex) of the storage root key that can open it, and TargetHost
	// what that host calls itself.
	Target     string `json:"target"`
	TargetHost string `json:"target_host"`
	PublicKey  []byte `json:"public_key,omitempty"` // SubjectPublicKeyInfo of a resident asymmetric key
	// EndorsementKey (SubjectPublicKeyInfo) is that of the target's TPM, which its maker
	// certified; of a blob that is not endorsed it is empty.
	EndorsementKey []byte    `json:"endorsement_key,omitempty"`
	Created        time.Time `json:"created"`
	Importer       Importer  `json:"importer"`
}

// Binding is what the importer's config says of the key, and the target's has to say too.
type Binding struct {
	Venue          string   `json:"venue"`
	Environment    string   `json:"environment"`
	Algorithm      string   `json:"algorithm"`
	Protection     string   `json:"protection"`
	SecretEncoding string   `json:"secret_encoding"`
	Hosts          []string `json:"hosts"` // ascending
	CA             string   `json:"ca"`
	Template       string   `json:"template"`
}

// Importer is who signed, as the blob says. The fingerprint is proved by the signature.
type Importer struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"` // as ssh-keygen -l prints it
}

type body struct {
	Header json.RawMessage `json:"header"`
	credential.Sealed
}

// endorsed is what holds the wrapped keys of a blob that is endorsed.
type endorsed struct {
	tpm.CredentialBlob
	credential.Sealed // the keys' PEM
}

// Blob is a blob that was read. Its signature is that of Signer, whoever that is.
type Blob struct {
	Header Header
	Signer ssh.PublicKey
	KEK    *tpm.Wrapped // nil until Release, if the blob is endorsed
	Object *tpm.Wrapped // nil unless the key is resident

	body      body
	endorsed  *endorsed // nil: it isn't
	signature *sshsig.Signature
}

// Digest tells blobs apart by what was signed: a signature can be made again.
func (b *Blob) Digest() ([]byte, error) {
	text, err := b.signed()
	sum := sha256.Sum256(text)
	return sum[:], err
}

// Open decrypts the credential with the key that KEK wraps.
func (b *Blob) Open(kek []byte) (*credential.Credential, error) {
	c, err := b.body.Open(kek, b.body.Header)
	if errors.Is(err, credential.ErrChanged) {
		return nil, Refuse("the wrapped key doesn't open it")
	}
	return c, err
}

// Endorsed gives what TPM2_ActivateCredential takes for Release, and nil for a blob that
// isn't endorsed.
func (b *Blob) Endorsed() (*tpm.EndorsementKey, *tpm.CredentialBlob, error) {
	if b.endorsed == nil {
		return nil, nil, nil
	}
	public, err := x509.ParsePKIXPublicKey(b.Header.EndorsementKey)
	if err != nil {
		return nil, nil, Refuse("its endorsement key can't be read")
	}
	key, err := tpm.NewEndorsementKey(public)
	return key, &b.endorsed.CredentialBlob, err
}

// Release decrypts the wrapped keys with what the TPM released.
func (b *Blob) Release(key []byte) error {
	text, err := b.endorsed.Decrypt(key, b.body.Header, nil)
	if err != nil {
		return Refuse("what the TPM released doesn't open it")
	}
	rest, err := b.splitKeys(text)
	if err == nil && len(rest) > 0 {
		err = errors.New("something follows its keys")
	}
	if err != nil {
		return Refuse("it was made wrong: %v", err)
	}
	return nil
}

// Refuse says why a blob isn't taken.
func Refuse(format string, args ...any) *fault.Error {
	return fault.New(fault.WrappedInvalid, "the wrapped credential isn't taken: "+format, args...).
		WithHint("wrap it again: sealsign key wrap NAME --config FILE --host-key FILE --identity SSH_KEY")
}

// Parse reads a blob, of which no byte was changed, and verifies its signature. That
// the signer may import is not looked at.
func Parse(data []byte) (*Blob, error) {
	if len(data) > MaxBlob {
		return nil, Refuse("it has more than %d KiB", MaxBlob>>10)
	}
	b, err := split(data)
	if err != nil {
		return nil, Refuse("it is cut short or was changed: %v", err)
	}
	if again, err := b.encode(); err != nil || !bytes.Equal(again, data) {
		return nil, Refuse("it is cut short or was changed")
	}
	if err := b.verify(); err != nil {
		return nil, err
	}
	return b, nil
}

// split takes the blob apart.
func split(data []byte) (*Blob, error) {
	b := new(Blob)
	block, rest := pem.Decode(data)
	if block == nil || block.Type != blobPEM {
		return nil, fmt.Errorf("it doesn't begin with %s", blobPEM)
	}
	if err := strictJSON(block.Bytes, &b.body, MaxBlob); err != nil {
		return nil, err
	}
	if err := strictJSON(b.body.Header, &b.Header, MaxBlob); err != nil {
		return nil, err
	}
	if again, err := json.Marshal(b.Header); err != nil || !bytes.Equal(again, b.body.Header) {
		return nil, errors.New("its header isn't in the one form it is written in")
	}
	if f := b.Header.Format; f != format && f != formatEK {
		return nil, fmt.Errorf("it has format %d, and this sealsign knows the formats %d and %d", f, format, formatEK)
	}
	if (b.Header.Format == formatEK) != (b.Header.EndorsementKey != nil) || !b.body.Valid() {
		return nil, errors.New("a part is missing")
	}
	var err error
	if b.Header.EndorsementKey != nil {
		rest, err = b.splitEndorsed(rest)
	} else {
		rest, err = b.splitKeys(rest)
	}
	if err != nil {
		return nil, err
	}
	if block, _ = pem.Decode(rest); block == nil || block.Type != signaturePEM {
		return nil, errors.New("a part is missing")
	}
	b.signature, err = sshsig.ParseSignature(block.Bytes)
	return b, err
}

// splitKeys reads the wrapped keys, and gives what is left.
func (b *Blob) splitKeys(text []byte) (rest []byte, err error) {
	var wrapped []*tpm.Wrapped
	for block, after := pem.Decode(text); block != nil && block.Type == tpm.KeyFileType; block, after = pem.Decode(text) {
		w, err := tpm.ParseWrapped(block.Bytes)
		if err != nil {
			return nil, err
		}
		wrapped, text = append(wrapped, w), after
	}
	if len(wrapped) < 1 || len(wrapped) > 2 {
		return nil, errors.New("a part is missing")
	}
	if b.KEK = wrapped[0]; !b.KEK.Sealed() {
		return nil, errors.New("its first key opens nothing")
	}
	if len(wrapped) == 2 {
		if b.Object = wrapped[1]; b.Object.Sealed() {
			return nil, errors.New("its second key signs nothing")
		}
	}
	return text, nil
}

// splitEndorsed reads what stands in the place of the wrapped keys.
func (b *Blob) splitEndorsed(text []byte) (rest []byte, err error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != endorsedPEM {
		return nil, errors.New("a part is missing")
	}
	b.endorsed = new(endorsed)
	if err := strictJSON(block.Bytes, b.endorsed, MaxBlob); err != nil {
		return nil, err
	}
	if !b.endorsed.Valid() {
		return nil, errors.New("a part is missing")
	}
	_, _, err = b.Endorsed()
	return rest, err
}

// verify checks the signature, the form of which split has read.
func (b *Blob) verify() error {
	text, err := b.signed()
	if err != nil {
		return err
	}
	s := b.signature
	switch err := sshsig.Verify(bytes.NewReader(text), s, s.PublicKey, s.HashAlgorithm, Namespace); {
	case errors.Is(err, sshsig.ErrNamespaceMismatch):
		return Refuse("its signature was made for %q, not for %q", s.Namespace, Namespace)
	case err != nil, len(s.Signature.Rest) > 0 && !strings.HasPrefix(s.Signature.Format, "sk-"): // only a security key adds to it
		return Refuse("its signature is wrong")
	case ssh.FingerprintSHA256(s.PublicKey) != b.Header.Importer.Fingerprint:
		return Refuse("another key has signed it than it says")
	}
	b.Signer = s.PublicKey
	return nil
}

// signed is what the signature is over.
func (b *Blob) signed() ([]byte, error) {
	text, err := blockOf(blobPEM, b.body)
	if err != nil {
		return nil, err
	}
	if b.endorsed == nil {
		return append(text, b.keys()...), nil
	}
	keys, err := blockOf(endorsedPEM, b.endorsed)
	return append(text, keys...), err
}

// blockOf is a value as JSON in PEM.
func blockOf(kind string, value any) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fault.New(fault.InternalError, "a blob can't be written").Because(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: text}), nil
}

// keys is the PEM of the wrapped keys.
func (b *Blob) keys() (text []byte) {
	for _, w := range []*tpm.Wrapped{b.KEK, b.Object} {
		if w != nil {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: tpm.KeyFileType, Bytes: w.Marshal()})...)
		}
	}
	return text
}

// encode gives the blob's bytes.
func (b *Blob) encode() ([]byte, error) {
	text, err := b.signed()
	if err != nil {
		return nil, err
	}
	return append(text, pem.EncodeToMemory(&pem.Block{Type: signaturePEM, Bytes: b.signature.Marshal()})...), nil
}

// LooksWhole tells whether data ends as a blob does, or is as long as one can be.
func LooksWhole(data []byte) bool {
	return len(data) > MaxBlob || bytes.HasSuffix(data, []byte("-----END "+signaturePEM+"-----\n"))
}
