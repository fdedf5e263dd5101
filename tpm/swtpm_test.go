package tpm_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in a minute", what)
		}
	}
}

func healthy(d *tpm.Device) func() bool { return func() bool { return d.Healthy() == nil } }

// TestRestart: the TPM is gone for a while, as after a power cut, under an open
// Device.
func TestRestart(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s := tpmtest.StartSwtpm(t, network)
			d := open(t, s.Options())
			k := hmacKey(t, d, sha256.New, []byte("secret"))
			sealed := must[*tpm.KeyFile](t)(d.Seal(t.Context(), nil, []byte("sealed")))
			attestor, _, err := d.Attestor(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.DefineCounter(t.Context(), counterIndex, nvAuth); err != nil {
				t.Fatal(err)
			}
			counter := must[uint64](t)(d.Increment(t.Context(), counterIndex, nvAuth))
			check := func(when string) {
				t.Helper()
				if got, err := k.HMAC(t.Context(), []byte("message")); err != nil || !bytes.Equal(got, mac(sha256.New, []byte("secret"), []byte("message"))) {
					t.Errorf("%s, HMAC gives %x, %v", when, got, err)
				}
				if got, err := unseal(t, d, sealed); err != nil || string(got) != "sealed" {
					t.Errorf("%s, unsealing gives %q, %v", when, got, err)
				}
				if _, err := attestor.SignMessage(t.Context(), random(t, 2000)); err != nil {
					t.Errorf("%s, attesting: %v", when, err)
				}
				if got, err := d.ReadCounter(t.Context(), counterIndex, nvAuth); err != nil || got != counter {
					t.Errorf("%s, the counter is %d, %v; it was %d", when, got, err, counter)
				}
			}
			check("before")
			s.Kill()
			s.Start()
			check("restarted while nobody looked")
			s.Kill()
			for range 10 {
				_, err := k.HMAC(t.Context(), []byte("message"))
				wants(t, err, fault.TPMUnavailable)
			}
			s.Start()
			eventually(t, "the TPM is found again", healthy(d))
			check("after a while")
		})
	}
}

// TestKilled: the TPM dies over a command.
func TestKilled(t *testing.T) {
	s := tpmtest.StartSwtpm(t, "unix")
	killed := make(chan struct{})
	d := open(t, bending(t, s.Options(), only(tpm2.TPMCCHMAC, 1, func(command []byte, send sender) ([]byte, error) {
		s.Stop()
		time.AfterFunc(50*time.Millisecond, func() {
			s.Kill()
			close(killed)
		})
		return send(command)
	})))
	k := hmacKey(t, d, sha256.New, []byte("secret"))
	_, err := k.HMAC(t.Context(), []byte("message"))
	wants(t, err, fault.TPMUnavailable)
	<-killed
	s.Start()
	eventually(t, "the TPM is found again", healthy(d))
	must[[]byte](t)(k.HMAC(t.Context(), []byte("message")))
}

// TestHang: the TPM takes a command and never answers.
func TestHang(t *testing.T) {
	s := tpmtest.StartSwtpm(t, "unix")
	o := s.Options()
	o.Deadline = 300 * time.Millisecond
	d := open(t, o)
	k := hmacKey(t, d, sha256.New, []byte("secret"))
	s.Stop()
	start := time.Now()
	_, err := k.HMAC(t.Context(), []byte("message"))
	wants(t, err, fault.TPMUnavailable, "did not answer")
	if took := time.Since(start); took < o.Deadline {
		t.Errorf("the first caller was told after %v", took)
	}
	_, err = k.HMAC(t.Context(), []byte("message"))
	wants(t, err, fault.TPMUnavailable)
	time.Sleep(4 * o.Deadline) // it is looked for meanwhile
	s.Continue()
	eventually(t, "the TPM answers again", healthy(d))
	must[[]byte](t)(k.HMAC(t.Context(), []byte("message")))
}

// TestLockout: a TPM that is locked out still does everything here, since nothing
// is subject to its lockout.
func TestLockout(t *testing.T) {
	o := tpmtest.Swtpm(t)
	behind(t, o, func(transport tpm.Transport) {
		created := must[*tpm2.CreatePrimaryResponse](t)(tpm2.CreatePrimary{
			PrimaryHandle: tpm2.TPMRHOwner,
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
				UserAuth: tpm2.TPM2BAuth{Buffer: []byte("1234")},
				Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: []byte("with a PIN")}),
			}},
			InPublic: tpm2.New2B(tpm2.TPMTPublic{
				Type:             tpm2.TPMAlgKeyedHash,
				NameAlg:          tpm2.TPMAlgSHA256,
				ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true},
			}),
		}.Execute(transport))
		eventually(t, "the lockout", func() bool {
			_, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{
				Handle: created.ObjectHandle, Name: created.Name, Auth: tpm2.PasswordAuth([]byte("4321")),
			}}.Execute(transport)
			return errors.Is(err, tpm2.TPMRCLockout)
		})
	})
	d := open(t, o)
	if info := d.Info(); !info.LockedOut || info.LockoutCounter < info.LockoutLimit {
		t.Errorf("the lockout isn't seen: %+v", info)
	}
	k := hmacKey(t, d, sha256.New, []byte("secret"))
	must[[]byte](t)(k.HMAC(t.Context(), []byte("message")))
	f := must[*tpm.KeyFile](t)(d.Seal(t.Context(), nil, []byte("sealed")))
	must[[]byte](t)(unseal(t, d, f))
	if err := d.DefineCounter(t.Context(), counterIndex, nvAuth); err != nil {
		t.Error(err)
	}
}

func TestOwnerAuth(t *testing.T) {
	o := tpmtest.Swtpm(t)
	auth := []byte("owner\x00of this TPM")
	behind(t, o, func(transport tpm.Transport) {
		if _, err := (tpm2.HierarchyChangeAuth{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NewAuth:    tpm2.TPM2BAuth{Buffer: auth},
		}).Execute(transport); err != nil {
			t.Fatal(err)
		}
	})
	_, err := tpm.Open(t.Context(), o)
	wants(t, err, fault.TPMUnavailable, "owner authorization", "credential")
	o.OwnerAuth = auth
	d := open(t, o)
	if err := d.DefineCounter(t.Context(), counterIndex, nvAuth); err != nil {
		t.Error(err)
	}
}

// TestPersistentSRK: where the SRK is kept in the TPM, it isn't made each time,
// and the owner isn't asked.
func TestPersistentSRK(t *testing.T) {
	plain := tpmtest.Swtpm(t)
	made := 0
	o := bending(t, plain, func(code tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
		if code == tpm2.TPMCCCreatePrimary {
			made++
		}
		return send(command)
	})
	d := must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	sealed := must[*tpm.KeyFile](t)(d.Seal(t.Context(), nil, []byte("sealed")))
	o.SRKName = d.SRKName()
	shut(t, d)
	behind(t, plain, func(transport tpm.Transport) {
		srk := must[*tpm2.CreatePrimaryResponse](t)(tpm2.CreatePrimary{
			PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate),
		}.Execute(transport))
		if _, err := (tpm2.EvictControl{
			Auth:             tpm2.TPMRHOwner,
			ObjectHandle:     &tpm2.NamedHandle{Handle: srk.ObjectHandle, Name: srk.Name},
			PersistentHandle: 0x81000001,
		}).Execute(transport); err != nil {
			t.Fatal(err)
		}
	})
	made = 0
	d = must[*tpm.Device](t)(tpm.Open(t.Context(), o))
	if got, err := unseal(t, d, sealed); err != nil || string(got) != "sealed" || made != 0 {
		t.Errorf("%q, %v, with %d SRKs made", got, err, made)
	}
	shut(t, d)
	testManyKeys(t, o)
}
