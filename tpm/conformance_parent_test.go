package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// newParent makes one as it comes back from disk.
func newParent(t *testing.T, d *tpm.Device, before *tpm.Parent) *tpm.Parent {
	t.Helper()
	p := must[*tpm.Parent](t)(d.NewParent(t.Context(), before))
	return must[*tpm.Parent](t)(tpm.ParseParent(p.Marshal()))
}

// below is the key file as it comes back from disk.
func below(t *testing.T, p *tpm.Parent, f *tpm.KeyFile) *tpm.KeyFile {
	t.Helper()
	if !f.Parent().Same(p) {
		t.Error("it says it is under another parent")
	}
	if _, err := tpm.ParseKeyFile(f.Marshal()); !errors.Is(err, fault.KeyDamaged) {
		t.Errorf("it is taken without its parent: %v", err)
	}
	return must[*tpm.KeyFile](t)(p.ParseKeyFile(f.Marshal()))
}

// everyKind makes one object of each kind under a parent.
func everyKind(t *testing.T, d *tpm.Device, p *tpm.Parent, auth []byte) map[string]*tpm.KeyFile {
	t.Helper()
	scalar := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return map[string]*tpm.KeyFile{
		"sealed":    below(t, p, must[*tpm.KeyFile](t)(d.Seal(t.Context(), p, []byte("secret")))),
		"HMAC":      below(t, p, must[*tpm.KeyFile](t)(d.ImportHMAC(t.Context(), p, crypto.SHA256, []byte("secret"), auth))),
		"generated": below(t, p, must[*tpm.KeyFile](t)(d.GenerateP256(t.Context(), p, auth))),
		"imported":  below(t, p, must[*tpm.KeyFile](t)(d.ImportECDSA(t.Context(), p, scalar, auth))),
	}
}

// opens loads an object of everyKind, and uses it.
func opens(t *testing.T, d *tpm.Device, f *tpm.KeyFile, auth []byte) error {
	t.Helper()
	if got, err := unseal(t, d, f); !errors.Is(err, fault.KeyDamaged) || string(got) != "" {
		return err
	}
	k, err := d.Load(t.Context(), f, auth)
	if err != nil {
		return err
	}
	defer k.Close() //nolint:errcheck // the TPM is there
	if k.Public() == nil {
		_, err = k.HMAC(t.Context(), []byte("message"))
	} else {
		_, err = k.Sign(t.Context(), make([]byte, sha256.Size))
	}
	return err
}

func testParent(t *testing.T, o tpm.Options) {
	auth := random(t, tpm.AuthSize)
	d := must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	p := newParent(t, d, nil)
	files := everyKind(t, d, p, auth)
	shut(t, d)
	d = open(t, o)
	for what, f := range files {
		if err := opens(t, d, f, auth); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	again := newParent(t, d, p)
	if again.Same(p) || again.Epoch() != p.Epoch() {
		t.Errorf("another parent of epoch %d is of %d", p.Epoch(), again.Epoch())
	}
	other := must[*tpm.KeyFile](t)(again.ParseKeyFile(files["sealed"].Marshal()))
	_, err := unseal(t, d, other)
	wants(t, err, fault.KeyDamaged, "of another TPM, or was changed")
}

// testEpoch: what was made in an epoch that has ended isn't loaded any more, whatever
// was loaded or satisfied before. What is under the storage root key isn't concerned.
func testEpoch(t *testing.T, o tpm.Options) {
	auth := random(t, tpm.AuthSize)
	d := must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	p := newParent(t, d, nil)
	sibling := newParent(t, d, p)
	index := epochIndex(p)
	files := everyKind(t, d, p, auth)
	files["of another parent"] = below(t, sibling, must[*tpm.KeyFile](t)(d.Seal(t.Context(), sibling, []byte("secret"))))
	loaded := must[*tpm.Key](t)(d.Load(t.Context(), files["HMAC"], auth))
	root := must[*tpm.KeyFile](t)(d.Seal(t.Context(), nil, []byte("root")))
	for range 2 { // the second finds it ended
		if err := d.EndEpoch(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(when string) {
		t.Helper()
		for what, f := range files {
			if err := opens(t, d, f, auth); !errors.Is(err, tpm.ErrEpochEnded) || !errors.Is(err, fault.KeyRevoked) {
				t.Errorf("%s, %s: %v", when, what, err)
			}
		}
		if _, err := d.Seal(t.Context(), p, []byte("secret")); !errors.Is(err, tpm.ErrEpochEnded) {
			t.Errorf("%s, it takes another: %v", when, err)
		}
		if got, err := unseal(t, d, root); err != nil || string(got) != "root" {
			t.Errorf("%s, under the storage root key: %q, %v", when, got, err)
		}
	}
	refused("at once")
	if _, err := loaded.HMAC(t.Context(), []byte("message")); !errors.Is(err, tpm.ErrEpochEnded) {
		t.Errorf("a key that was loaded: %v", err)
	}
	next := newParent(t, d, p)
	if next.Epoch() != p.Epoch()+1 {
		t.Errorf("epoch %d ended once, and the next is %d", p.Epoch(), next.Epoch())
	}
	shut(t, d)
	behind(t, o, func(transport tpm.Transport) { redefine(t, transport, index) })
	d = open(t, o)
	refused("after its counter was removed and made again")
	after := newParent(t, d, next)
	if err := opens(t, d, below(t, after, must[*tpm.KeyFile](t)(d.Seal(t.Context(), after, []byte("secret")))), auth); err != nil {
		t.Errorf("in the next epoch: %v", err)
	}
}

// epochIndex is the NV index that a parent hangs on, from the policy in its file.
func epochIndex(p *tpm.Parent) tpm2.TPMHandle {
	der := p.Marshal()
	at := bytes.Index(der, []byte{0, 8, 0, 0, 0, 0, 0, 0, 0, byte(p.Epoch())}) // the operand follows it
	return tpm2.TPMHandle(binary.BigEndian.Uint32(der[at-4:]))
}

// redefine removes a counter and makes it again, as the owner of the TPM can.
func redefine(t *testing.T, transport tpm.Transport, index tpm2.TPMHandle) {
	t.Helper()
	public := must[*tpm2.NVReadPublicResponse](t)(tpm2.NVReadPublic{NVIndex: index}.Execute(transport))
	contents := must[*tpm2.TPMSNVPublic](t)(public.NVPublic.Contents())
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.NVUndefineSpace{AuthHandle: owner, NVIndex: tpm2.NamedHandle{Handle: index, Name: public.NVName}}).Execute(transport); err != nil {
		t.Fatal(err)
	}
	contents.Attributes.Written = false
	if _, err := (tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(*contents)}).Execute(transport); err != nil {
		t.Fatal(err)
	}
	public = must[*tpm2.NVReadPublicResponse](t)(tpm2.NVReadPublic{NVIndex: index}.Execute(transport))
	if _, err := (tpm2.NVIncrement{AuthHandle: owner, NVIndex: tpm2.NamedHandle{Handle: index, Name: public.NVName}}).Execute(transport); err != nil {
		t.Fatal(err)
	}
}

// testEpochGone: an index that was removed, or that is something else now, which could
// be set back, ends what hung on it.
func testEpochGone(t *testing.T, o tpm.Options) {
	d := must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	p := newParent(t, d, nil)
	handle := epochIndex(p)
	index := uint32(handle) - tpm.DefaultNVBase
	f := must[*tpm.KeyFile](t)(d.Seal(t.Context(), p, []byte("secret")))
	shut(t, d)
	undefine := func(transport tpm.Transport) {
		public := must[*tpm2.NVReadPublicResponse](t)(tpm2.NVReadPublic{NVIndex: handle}.Execute(transport))
		if _, err := (tpm2.NVUndefineSpace{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: handle, Name: public.NVName},
		}).Execute(transport); err != nil {
			t.Fatal(err)
		}
	}
	behind(t, o, undefine)
	d = must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	_, err := unseal(t, d, f)
	wants(t, err, fault.KeyRevoked, "gone from the TPM")
	if on := must[bool](t)(d.InForce(t.Context(), p)); on {
		t.Error("its epoch goes on")
	}
	// Data that says the same as the counter did.
	value := []byte{0, 0, 0, 0, 0, 0, 0, byte(p.Epoch())}
	if err := d.NVDefine(t.Context(), index, len(value), nil); err != nil {
		t.Fatal(err)
	}
	if err := d.NVWrite(t.Context(), index, nil, value); err != nil {
		t.Fatal(err)
	}
	if _, err = unseal(t, d, f); !errors.Is(err, fault.KeyDamaged) && !errors.Is(err, fault.KeyRevoked) {
		t.Errorf("with another index in its place: %v", err)
	}
	if err := d.EndEpoch(t.Context(), p); err != nil {
		t.Errorf("ending it: %v", err)
	}
	if next := newParent(t, d, p); epochIndex(next) == handle {
		t.Error("the next parent hangs on what is no counter")
	}
	shut(t, d)
	behind(t, o, undefine)
}

func testChangedParent(t *testing.T, o tpm.Options) {
	d := open(t, o)
	p := newParent(t, d, nil)
	der := p.Marshal()
	f := must[*tpm.KeyFile](t)(d.Seal(t.Context(), p, []byte("secret"))).Marshal()
	for i := range der {
		changed := bytes.Clone(der)
		changed[i] ^= 0x10
		q, err := tpm.ParseParent(changed)
		if err == nil {
			if _, err := d.InForce(t.Context(), q); !errors.Is(err, tpm.ErrForeign) {
				t.Errorf("with byte %d of %d changed it isn't said to be foreign: %v", i, len(der), err)
			}
			_, err = unseal(t, d, must[*tpm.KeyFile](t)(q.ParseKeyFile(f)))
		}
		if !errors.Is(err, fault.KeyDamaged) {
			t.Errorf("with byte %d of %d changed: %v", i, len(der), err)
		}
	}
}
