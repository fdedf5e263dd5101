package wrap

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/hiddeco/sshsig"

	"github.com/sealsign/sealsign/agent/credential"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/secmem"
	"github.com/sealsign/sealsign/tpm"
)

// The levels of protection that a credential can be wrapped for, as the config names them.
const (
	Sealed   = "sealed"
	Resident = "resident"
)

// Request is what is to be wrapped, for whom and by whom.
type Request struct {
	Key      string
	Binding  Binding
	Host     *Host
	Target   *tpm.StorageKey // of Host
	Endorsed *Endorsement    // of Host; nil: nobody vouches for its TPM
	Importer Importer
	Created  time.Time
}

// Draft is a blob that is yet to be signed.
type Draft struct{ blob Blob }

// New wraps a credential, which it neither changes nor wipes.
func New(r *Request, given *credential.Credential) (*Draft, error) {
	if r.Host.Environment != r.Binding.Environment {
		return nil, fault.New(fault.WrappedMismatch, "host %s serves the environment %s, and key %s belongs to %s",
			r.Host.Host, r.Host.Environment, r.Key, r.Binding.Environment).
			WithHint("wrap it for the hosts of %s; keys of one environment never go to another", r.Binding.Environment)
	}
	d := &Draft{Blob{Header: Header{
		Format: format, Key: r.Key, Binding: r.Binding, Target: hex.EncodeToString(r.Target.Name()), TargetHost: r.Host.Host,
		Created: r.Created.UTC().Round(0), Importer: r.Importer,
	}}}
	if r.Endorsed != nil {
		var err error
		d.blob.Header.Format = formatEK
		if d.blob.Header.EndorsementKey, err = x509.MarshalPKIXPublicKey(r.Endorsed.key.Public()); err != nil {
			return nil, err
		}
	}
	if err := given.CheckSigns(r.Binding.Algorithm, r.Binding.SecretEncoding); err != nil {
		return nil, err
	}
	kept := given
	switch r.Binding.Protection {
	case Sealed:
	case Resident:
		var err error
		if kept, err = d.moveOut(r, given); err != nil {
			return nil, err
		}
		defer kept.Wipe()
	default:
		return nil, fault.New(fault.KeyUnsupported, "key %s is %s: there is nothing to wrap", r.Key, r.Binding.Protection).
			WithHint("on the host: sealsign key generate %s", r.Key)
	}
	if err := d.seal(r.Target, kept); err != nil || r.Endorsed == nil {
		return d, err
	}
	return d, d.endorse(r)
}

// moveOut wraps what signs as a key of the target's TPM, and gives what is left of the
// credential, with what authorizes the key's use.
func (d *Draft) moveOut(r *Request, given *credential.Credential) (kept *credential.Credential, err error) {
	auth, kept, err := credential.NewAuth()
	if err != nil {
		return nil, err
	}
	defer auth.Release()
	if d.blob.Object, err = object(r, given, auth.Bytes()); err == nil && d.blob.Object.Public() != nil {
		d.blob.Header.PublicKey, err = x509.MarshalPKIXPublicKey(d.blob.Object.Public())
	}
	if err != nil {
		kept.Wipe()
		return nil, err
	}
	kept.APIKey, kept.Passphrase = given.APIKey, given.Passphrase
	return kept, nil
}

// object wraps a secret or a private key.
func object(r *Request, given *credential.Credential, auth []byte) (*tpm.Wrapped, error) {
	algorithm := r.Binding.Algorithm
	if h, isHMAC := credential.HMACHashes[algorithm]; isHMAC {
		secret, memory, err := credential.HMACSecret(algorithm, r.Binding.SecretEncoding, given)
		if err != nil {
			return nil, err
		}
		defer memory.Release()
		return r.Target.WrapHMAC(h, secret, auth)
	}
	key, err := credential.PrivateKey(algorithm, given)
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return r.Target.WrapRSA(key, auth)
	case *ecdsa.PrivateKey:
		return r.Target.WrapECDSA(key, auth)
	}
	return nil, fault.New(fault.KeyUnsupported, "no TPM signs with %s", algorithm).WithHint("set protection = %q", Sealed)
}

// seal encrypts the credential under a key that only the target can unseal.
func (d *Draft) seal(target *tpm.StorageKey, kept *credential.Credential) error {
	header, err := json.Marshal(d.blob.Header)
	if err != nil {
		return fault.New(fault.InternalError, "a header can't be written").Because(err)
	}
	sealed, kek, err := kept.Seal(header)
	if err != nil {
		return err
	}
	defer kek.Release()
	d.blob.body = body{Header: header, Sealed: *sealed}
	d.blob.KEK, err = target.WrapSecret(kek.Bytes())
	return err
}

// endorse encrypts the wrapped keys under one that only the target's TPM releases.
func (d *Draft) endorse(r *Request) error {
	key, err := secmem.New(credential.KEKSize)
	if err != nil {
		return err
	}
	defer key.Release()
	rand.Read(key.Bytes()) // never fails
	blob, err := r.Endorsed.key.MakeCredential(r.Target, key.Bytes())
	if err != nil {
		return err
	}
	sealed, err := credential.Encrypt(key.Bytes(), d.blob.keys(), d.blob.body.Header)
	if err != nil {
		return err
	}
	d.blob.endorsed, d.blob.KEK, d.blob.Object = &endorsed{*blob, *sealed}, nil, nil
	return nil
}

// Text is what the importer signs, in the namespace of this package.
func (d *Draft) Text() ([]byte, error) { return d.blob.signed() }

// Finish adds the signature, as ssh-keygen -Y sign prints it, and gives the blob. It
// refuses one that the target would refuse.
func (d *Draft) Finish(armored []byte) ([]byte, error) {
	var err error
	if d.blob.signature, err = sshsig.Unarmor(armored); err != nil {
		return nil, fault.New(fault.BadRequest, "the signature can't be read: %v", err)
	}
	if err := d.blob.verify(); err != nil {
		return nil, err
	}
	return d.blob.encode()
}
