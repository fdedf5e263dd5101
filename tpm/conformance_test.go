package tpm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// conformance is what every TPM has to pass. Each case opens the TPM itself, and
// finds what the one before has left.
var conformance = []struct {
	name string
	test func(*testing.T, tpm.Options)
}{
	{"info", testInfo},
	{"another TPM than pinned is refused", testPinned},
	{"seal and unseal", testSeal},
	{"a changed key file is refused", testChangedFile},
	{"a secret bound to PCRs", testPCRs},
	{"a secret bound to PCRs as they will be", testSealTo},
	{"HMAC keys", testHMAC},
	{"authorization values with zero bytes", testZeroBytes},
	{"RSA keys", testRSA},
	{"P-256 keys", testP256},
	{"what it can't do is refused", testUnsupported},
	{"more keys than places", testManyKeys},
	{"attestor", testAttestor},
	{"wrapped secrets", testWrappedSecrets},
	{"wrapped HMAC keys", testWrappedHMAC},
	{"wrapped RSA and P-256 keys", testWrappedKeys},
	{"a changed wrapped file is refused", testWrappedChanged},
	{"a certified sealing key", testCertified},
	{"an activated credential", testActivated},
	{"counter", testCounter},
	{"NV data", testNVData},
	{"a parent", testParent},
	{"a changed parent is refused", testChangedParent},
	{"an epoch that has ended", testEpoch},
	{"PCRs that a P-256 key approves", func(t *testing.T, o tpm.Options) {
		testAuthority(t, o, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	}},
	{"PCRs that an RSA key approves", func(t *testing.T, o tpm.Options) {
		testAuthority(t, o, must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048)))
	}},
	{"an epoch whose counter is gone", testEpochGone},
	{"many callers, some of them impatient", testImpatient},
}

func TestConformance(t *testing.T) {
	for _, target := range targets() {
		t.Run(target.name, func(t *testing.T) {
			o := target.start(t)
			for _, c := range conformance {
				t.Run(c.name, func(t *testing.T) { c.test(t, o) })
			}
		})
	}
}

func testInfo(t *testing.T, o tpm.Options) {
	d := open(t, o)
	if err := d.Healthy(); err != nil {
		t.Error(err)
	}
	if n := len(d.SRKName()); n != 2+sha256.Size {
		t.Errorf("the SRK's Name has %d bytes", n)
	}
	info := must[tpm.Info](t)(d.Inspect(t.Context()))
	if info.Manufacturer == "" || info.Firmware == "" || len(info.Can) == 0 || len(info.PCRs) != 24 || info.LockoutLimit == 0 {
		t.Errorf("something is missing: %+v", info)
	}
	t.Logf("%s, firmware %s, can do %v", info.Manufacturer, info.Firmware, info.Can)
}

func testPinned(t *testing.T, o tpm.Options) {
	d := must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	o.SRKName = d.SRKName()
	shut(t, d)
	d = must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	shut(t, d)
	o.SRKName[5] ^= 1
	_, err := tpm.Open(t.Context(), o)
	wants(t, err, fault.TPMUnavailable, "another TPM", "cleared", "import every credential again", fmt.Sprintf("%x", d.SRKName()))
}

func testSeal(t *testing.T, o tpm.Options) {
	d := open(t, o)
	for _, size := range []int{1, 32, tpm.MaxSeal} {
		secret := random(t, size)
		f := must[*tpm.KeyFile](t)(d.Seal(t.Context(), nil, secret))
		if f.Public() != nil {
			t.Error("a sealed secret has a public key")
		}
		got, err := unseal(t, d, reparsed(t, f))
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%d bytes came back as %x, %v; they were %x", size, got, err, secret)
		}
		_, err = d.Unseal(t.Context(), f, make([]byte, size-1))
		wants(t, err, fault.KeyDamaged)
	}
	for _, size := range []int{0, tpm.MaxSeal + 1} {
		_, err := d.Seal(t.Context(), nil, make([]byte, size))
		wants(t, err, fault.InternalError)
	}
	f := must[*tpm.KeyFile](t)(d.Seal(t.Context(), nil, []byte("no key")))
	_, err := d.Load(t.Context(), f, make([]byte, tpm.AuthSize))
	wants(t, err, fault.KeyDamaged)
}

func testChangedFile(t *testing.T, o tpm.Options) {
	d := open(t, o)
	secret := random(t, 32)
	der := must[*tpm.KeyFile](t)(d.Seal(t.Context(), nil, secret)).Marshal()
	for i := range der {
		changed := bytes.Clone(der)
		changed[i] ^= 0x10
		f, err := tpm.ParseKeyFile(changed)
		if err == nil {
			_, err = unseal(t, d, f)
		}
		if !errors.Is(err, fault.KeyDamaged) {
			t.Errorf("with byte %d of %d changed: %v", i, len(der), err)
		}
	}
}

// debugPCR is the one that anybody may extend and reset.
const debugPCR = 16

func testPCRs(t *testing.T, o tpm.Options) {
	reset := func(transport tpm.Transport) { tpmtest.Reset(t, transport, debugPCR) }
	behind(t, o, reset)
	o.PCRs = []int{debugPCR, 7, debugPCR}
	d := must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	f := reparsed(t, must[*tpm.KeyFile](t)(d.Seal(t.Context(), nil, []byte("bound"))))
	if got, err := unseal(t, d, f); err != nil || string(got) != "bound" {
		t.Errorf("before the change: %q, %v", got, err)
	}
	shut(t, d)
	behind(t, o, func(transport tpm.Transport) { tpmtest.Extend(t, transport, debugPCR) })
	d = must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	_, err := unseal(t, d, f)
	wants(t, err, fault.KeyLocked, "PCR 16", "import the credential again")
	shut(t, d)
	behind(t, o, reset)
	d = open(t, o)
	if got, err := unseal(t, d, f); err != nil || string(got) != "bound" {
		t.Errorf("after the change was undone: %q, %v", got, err)
	}
}

// testImpatient has callers that leave while the TPM works for them, and that
// overwrite what they gave it at once.
func testImpatient(t *testing.T, o tpm.Options) {
	d := open(t, o)
	secret := random(t, 32)
	sealed := must[*tpm.KeyFile](t)(d.Seal(t.Context(), nil, []byte("sealed")))
	k := hmacKey(t, d, sha256.New, secret)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for n := range 10 {
				ctx, leave := impatience(t, i)
				message := fmt.Appendf(nil, "message %d of caller %d", n, i)
				want := mac(sha256.New, secret, message)
				got, err := k.HMAC(ctx, message)
				clear(message)
				if err == nil && !bytes.Equal(got, want) || err != nil && i%2 == 0 {
					t.Errorf("caller %d got %x, %v; want %x", i, got, err, want)
				}
				dst := make([]byte, 6)
				_, err = d.Unseal(ctx, sealed, dst)
				if err == nil && string(dst) != "sealed" || err != nil && i%2 == 0 {
					t.Errorf("caller %d got %q, %v", i, dst, err)
				}
				clear(dst)
				leave()
			}
		})
	}
	all.Wait()
	if err := d.Healthy(); err != nil {
		t.Error(err)
	}
}
