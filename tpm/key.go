package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"slices"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
)

// AuthSize is the length of a key's authorization value.
const AuthSize = 32

// Key is a key that signs inside the TPM. It stays usable when the TPM was lost
// and has come back, and shares the TPM's few places with the others.
type Key struct {
	device *Device
	file   *KeyFile

	mu   sync.Mutex
	auth []byte
}

// loadedKey is a key in one of the TPM's places.
type loadedKey struct {
	key    *Key
	object object
}

// Load makes sure that the TPM takes the key, whose authorization value auth is
// (32 bytes, copied).
func (d *Device) Load(ctx context.Context, f *KeyFile, auth []byte) (*Key, error) {
	if f.sealed {
		return nil, fault.New(fault.KeyDamaged, "this key file has a sealed secret in it, not a key")
	}
	if err := checkAuth(auth); err != nil {
		return nil, err
	}
	return d.load(ctx, f, slices.Clone(auth))
}

func (d *Device) load(ctx context.Context, f *KeyFile, auth []byte) (*Key, error) {
	k := &Key{device: d, file: f, auth: auth}
	err := d.do(ctx, "loading a key", func(c *conn) error {
		_, err := c.place(k)
		return err
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

func checkAuth(auth []byte) error {
	if len(auth) != AuthSize {
		return fault.New(fault.InternalError, "a key's authorization value has %d bytes, not %d", AuthSize, len(auth))
	}
	return nil
}

// Public is the public key, and nil for an HMAC key.
func (k *Key) Public() crypto.PublicKey { return k.file.key }

// Close frees the key's place in the TPM and wipes its authorization value.
func (k *Key) Close() error {
	err := k.device.do(context.Background(), "unloading a key", func(c *conn) error {
		c.unplace(k)
		return nil
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.auth)
	if k.device.Healthy() != nil {
		return nil // there is nothing loaded in a TPM that is gone
	}
	return err
}

// place gives the key's object, which is loaded if it is not.
func (c *conn) place(k *Key) (object, error) {
	for i, l := range c.loaded {
		if l.key == k {
			c.loaded = append(slices.Delete(c.loaded, i, i+1), l)
			return l.object, nil
		}
	}
	o, err := c.loadObject(k.file)
	if err != nil {
		return object{}, err
	}
	c.loaded = append(c.loaded, loadedKey{key: k, object: o})
	return o, nil
}

func (c *conn) unplace(k *Key) {
	for i, l := range c.loaded {
		if l.key == k {
			c.flush(l.object.handle)
			c.loaded = slices.Delete(c.loaded, i, i+1)
			return
		}
	}
}

// makeRoom frees places until one more object can be loaded: first the parent's, which
// no key needs once it is loaded.
func (c *conn) makeRoom() {
	if len(c.loaded)+2 > c.slots {
		c.unplaceParent()
	}
	c.evict(1)
}

// evict frees keys' places until there are n for other objects, the keys that were not
// used for longest first.
func (c *conn) evict(n int) {
	for len(c.loaded) > 0 && len(c.loaded)+n > c.slots {
		c.flush(c.loaded[0].object.handle)
		c.loaded = slices.Delete(c.loaded, 0, 1)
	}
}

// HMAC is the HMAC of a message of any length.
func (k *Key) HMAC(ctx context.Context, message []byte) ([]byte, error) {
	if k.file.key != nil {
		return nil, fault.New(fault.InternalError, "this key makes no HMACs")
	}
	own := slices.Clone(message)
	var mac []byte
	err := k.device.do(ctx, "signing", func(c *conn) error {
		o, err := c.place(k)
		if err != nil {
			return err
		}
		if len(own) <= c.maxInput {
			mac, err = c.hmac(o, k, own)
		} else {
			mac, err = c.hmacSequence(o, k, own)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return mac, nil
}

func (c *conn) hmac(o object, k *Key, message []byte) (mac []byte, err error) {
	s, err := c.sessionFor(k, encryptBoth)
	if err != nil {
		return nil, err
	}
	err = c.run(tpm2.TPMCCHMAC, []authorized{{o, s}}, func(w *writer) {
		w.sized(message)
		w.u16(uint16(k.file.hash))
	}, func(r *reader) error {
		mac = bytes.Clone(r.sized())
		return nil
	})
	return mac, err
}

// hmacSequence feeds a long message piece by piece.
func (c *conn) hmacSequence(o object, k *Key, message []byte) (mac []byte, err error) {
	c.makeRoom() // the key was used last, so it stays
	s, err := c.sessionFor(k, encryptNone)
	if err != nil {
		return nil, err
	}
	started, err := tpm2.HmacStart{Handle: on(o, s), HashAlg: tpm2.TPMAlgNull}.Execute(c)
	if err != nil {
		return nil, err
	}
	done, err := c.sequence(started.SequenceHandle, tpm2.TPMRHNull, message)
	if err != nil {
		return nil, err
	}
	return done.Result.Buffer, nil
}

// sequence hashes message in a sequence that was started, and ends it, whatever
// happens: a sequence left behind would keep one of the TPM's places.
func (c *conn) sequence(h tpm2.TPMHandle, hierarchy tpm2.TPMHandle, message []byte) (*tpm2.SequenceCompleteResponse, error) {
	rest := message
	for len(rest) > c.maxInput {
		s, err := c.session(encryptIn)
		if err == nil {
			_, err = tpm2.SequenceUpdate{
				SequenceHandle: on(object{handle: h}, s),
				Buffer:         tpm2.TPM2BMaxBuffer{Buffer: rest[:c.maxInput]},
			}.Execute(c)
		}
		if err != nil {
			c.flush(h)
			return nil, err
		}
		rest = rest[c.maxInput:]
	}
	s, err := c.session(encryptBoth)
	if err != nil {
		c.flush(h)
		return nil, err
	}
	rsp, err := tpm2.SequenceComplete{
		SequenceHandle: on(object{handle: h}, s),
		Buffer:         tpm2.TPM2BMaxBuffer{Buffer: rest},
		Hierarchy:      hierarchy,
	}.Execute(c)
	if err != nil {
		c.flush(h)
	}
	return rsp, err
}

// Sign signs a SHA-256 digest: PKCS#1 v1.5 with an RSA key, r and s of 32 bytes
// each with a P-256 key. A signature that the public key doesn't confirm is not
// returned: a fault in the chip could give the key away.
func (k *Key) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	if k.file.key == nil || len(digest) != sha256.Size {
		return nil, fault.New(fault.InternalError, "this key signs no digest of %d bytes", len(digest))
	}
	own := slices.Clone(digest)
	var signature []byte
	err := k.device.do(ctx, "signing", func(c *conn) error {
		o, err := c.place(k)
		if err != nil {
			return err
		}
		signature, err = c.sign(o, k, own, tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck})
		return err
	})
	if err != nil {
		return nil, err
	}
	return signature, nil
}

func (c *conn) sign(o object, k *Key, digest []byte, ticket tpm2.TPMTTKHashCheck) ([]byte, error) {
	s, err := c.sessionFor(k, encryptIn)
	if err != nil {
		return nil, err
	}
	rsp, err := tpm2.Sign{
		KeyHandle:  on(o, s),
		Digest:     tpm2.TPM2BDigest{Buffer: digest},
		InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		Validation: ticket,
	}.Execute(c)
	if err != nil {
		return nil, err
	}
	signature, ok := verified(k.file.key, digest, rsp.Signature)
	if !ok {
		return nil, fault.New(fault.TPMUnavailable, "the TPM made a signature that its public key doesn't confirm").
			WithHint("check the TPM's firmware for updates; protection = \"sealed\" signs without it")
	}
	return signature, nil
}

func verified(public crypto.PublicKey, digest []byte, signature tpm2.TPMTSignature) ([]byte, bool) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		s, err := signature.Signature.RSASSA()
		if err != nil {
			return nil, false
		}
		return s.Sig.Buffer, rsa.VerifyPKCS1v15(public, crypto.SHA256, digest, s.Sig.Buffer) == nil
	case *ecdsa.PublicKey:
		s, err := signature.Signature.ECDSA()
		if err != nil || len(s.SignatureR.Buffer) > p256Size || len(s.SignatureS.Buffer) > p256Size {
			return nil, false
		}
		raw := make([]byte, 2*p256Size)
		copy(raw[p256Size-len(s.SignatureR.Buffer):], s.SignatureR.Buffer)
		copy(raw[2*p256Size-len(s.SignatureS.Buffer):], s.SignatureS.Buffer)
		rs := split(raw)
		return raw, ecdsa.Verify(public, digest, rs.R, rs.S)
	}
	return nil, false
}

// ecdsaSignature is an ECDSA signature as DER has it.
type ecdsaSignature struct{ R, S *big.Int }

func split(raw []byte) ecdsaSignature {
	return ecdsaSignature{new(big.Int).SetBytes(raw[:p256Size]), new(big.Int).SetBytes(raw[p256Size:])}
}
