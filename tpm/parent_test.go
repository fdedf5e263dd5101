package tpm_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// TestEpochEndsOnce: whether the increment or its answer is lost, the epoch ends, and
// the counter is incremented once.
func TestEpochEndsOnce(t *testing.T) {
	for what, reaches := range map[string]bool{"the answer is lost": true, "the command is lost": false} {
		t.Run(what, func(t *testing.T) {
			var armed bool
			var executed int
			d := open(t, bending(t, tpmtest.Simulator(t), func(code tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
				if code != tpm2.TPMCCNVIncrement || !armed {
					return send(command)
				}
				armed = false
				if reaches {
					executed++
					_, _ = send(command)
				}
				return nil, io.ErrUnexpectedEOF
			}))
			p := newParent(t, d, nil)
			f := must[*tpm.KeyFile](t)(d.Seal(t.Context(), p, []byte("secret")))
			armed = true
			err := d.EndEpoch(t.Context(), p)
			if !reaches {
				wants(t, err, fault.TPMUnavailable)
				must[[]byte](t)(unseal(t, d, f)) // it goes on, whole
				err = d.EndEpoch(t.Context(), p)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = unseal(t, d, f)
			wants(t, err, fault.KeyRevoked, "revoked in the TPM")
			if next := newParent(t, d, p); next.Epoch() != p.Epoch()+1 {
				t.Errorf("from epoch %d to %d", p.Epoch(), next.Epoch())
			}
		})
	}
}

// TestEpochUnseen: a TPM that doesn't load the parent, for whatever reason, hasn't shown that
// it is another one's, and so no epoch to end here.
func TestEpochUnseen(t *testing.T) {
	o := tpmtest.Simulator(t)
	for _, code := range []tpm2.TPMRC{tpm2.TPMRCAuthFail + 0x900, tpm2.TPMRCPolicyFail + 0x900, tpm2.TPMRCFailure} {
		t.Run(code.Error(), func(t *testing.T) {
			var armed bool
			d := open(t, bending(t, o, func(c tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
				if armed && c == tpm2.TPMCCLoad {
					return answers(code), nil
				}
				return send(command)
			}))
			p := newParent(t, d, nil)
			must[*tpm.KeyFile](t)(d.Seal(t.Context(), newParent(t, d, p), []byte("secret"))) // p isn't loaded then
			armed = true
			if err := d.EndEpoch(t.Context(), p); err == nil {
				t.Error("the epoch has ended")
			}
			armed = false
			if on, err := d.InForce(t.Context(), p); err != nil || !on {
				t.Errorf("when it loads again: %t, %v", on, err)
			}
		})
	}
}

// What was made on another TPM ends nothing here, though its counter has the same index
// and the same value as this one's.
func TestParentOfAnotherTPM(t *testing.T) {
	here, there := open(t, tpmtest.Swtpm(t)), open(t, tpmtest.Swtpm(t))
	p, foreign := newParent(t, here, nil), newParent(t, there, nil)
	if epochIndex(p) != epochIndex(foreign) || p.Epoch() != foreign.Epoch() {
		t.Fatalf("%x at %d, and %x at %d", epochIndex(p), p.Epoch(), epochIndex(foreign), foreign.Epoch())
	}
	if err := here.EndEpoch(t.Context(), foreign); err != nil {
		t.Error(err)
	}
	if _, err := here.InForce(t.Context(), foreign); !errors.Is(err, tpm.ErrForeign) {
		t.Errorf("it is of another TPM: %v", err)
	}
	if on, err := here.InForce(t.Context(), p); err != nil || !on {
		t.Errorf("this TPM's own: %t, %v", on, err)
	}
	if next := newParent(t, here, foreign); epochIndex(next) == epochIndex(p) {
		t.Error("the next parent hangs on another state's counter")
	}
}

// TestCommandsUnderAParent: the policy is paid at each load, and never to sign.
func TestCommandsUnderAParent(t *testing.T) {
	commands := make(map[tpm2.TPMCC]int)
	d := open(t, bending(t, tpmtest.Simulator(t), func(code tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
		commands[code]++
		return send(command)
	}))
	auth := random(t, tpm.AuthSize)
	p := newParent(t, d, nil)
	files := everyKind(t, d, p, auth)
	must[[]byte](t)(unseal(t, d, files["sealed"]))
	check := func(what string, want map[tpm2.TPMCC]int) {
		t.Helper()
		if !maps.Equal(commands, want) {
			t.Errorf("%s takes %v, want %v", what, commands, want)
		}
		clear(commands)
	}
	clear(commands)
	must[[]byte](t)(unseal(t, d, files["sealed"]))
	check("unsealing", map[tpm2.TPMCC]int{
		tpm2.TPMCCStartAuthSession: 1, tpm2.TPMCCPolicyNV: 1, tpm2.TPMCCLoad: 1, tpm2.TPMCCUnseal: 1, tpm2.TPMCCFlushContext: 2,
	})
	k := must[*tpm.Key](t)(d.Load(t.Context(), files["HMAC"], auth))
	clear(commands)
	must[[]byte](t)(k.HMAC(t.Context(), []byte("message")))
	check("signing", map[tpm2.TPMCC]int{tpm2.TPMCCHMAC: 1})
}

// parentFiles are parents as a TPM made them, by their names.
func parentFiles(t testing.TB) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for _, name := range []string{"epoch", "authority"} {
		block, rest := pem.Decode(must[[]byte](t)(os.ReadFile("testdata/parents/" + name + ".pem")))
		if block == nil || len(rest) > 0 {
			t.Fatalf("%s is no PEM file", name)
		}
		files[name] = block.Bytes
	}
	return files
}

// A parent as it is kept is read by what comes after.
func TestParentFiles(t *testing.T) {
	for name, der := range parentFiles(t) {
		p := must[*tpm.Parent](t)(tpm.ParseParent(der))
		if p.Epoch() != 1 || !bytes.Equal(p.Marshal(), der) {
			t.Errorf("%s is read as another, of epoch %d", name, p.Epoch())
		}
		_, err := tpm.ParseKeyFile(der)
		wants(t, err, fault.KeyDamaged)
		for n := range der {
			if _, err := tpm.ParseParent(der[:n]); err == nil {
				t.Errorf("%s is taken when cut to %d of %d bytes", name, n, len(der))
			}
		}
		for i := range der {
			changed := bytes.Clone(der)
			changed[i] ^= 1
			if q, err := tpm.ParseParent(changed); err == nil && !bytes.Equal(q.Marshal(), changed) {
				t.Errorf("%s with byte %d changed is read as another", name, i)
			}
		}
	}
	for name, der := range keyFiles(t) {
		if _, err := tpm.ParseParent(der); err == nil {
			t.Errorf("%s is taken for a parent", name)
		}
	}
}

func FuzzParent(f *testing.F) {
	for _, der := range parentFiles(f) {
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if p, err := tpm.ParseParent(der); err == nil && !bytes.Equal(p.Marshal(), der) {
			t.Errorf("%x is written as %x", der, p.Marshal())
		}
	})
}

// FuzzApproval: what is read can be written, and says the same.
func FuzzApproval(f *testing.F) {
	f.Add([]byte(`{"host_id":"0123456789abcdef012345","pcrs":{"7":"` + strings.Repeat("ab", 32) + `"},"signature":"MAA="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := tpm.ParseApproval(data)
		if err != nil {
			return
		}
		again := must[*tpm.Approval](t)(tpm.ParseApproval(must[[]byte](t)(json.Marshal(a))))
		if !bytes.Equal(must[[]byte](t)(a.ToSign()), must[[]byte](t)(again.ToSign())) {
			t.Errorf("%s approves something else when written again", data)
		}
	})
}
