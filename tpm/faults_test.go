package tpm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// bent is a connection to a TPM on which something goes wrong. bend is given
// each command and sends it on, or doesn't.
type bent struct {
	tpm.Transport
	bend func(code tpm2.TPMCC, command []byte, send sender) ([]byte, error)
}

type sender = func(command []byte) ([]byte, error)

func (b bent) Send(command []byte) ([]byte, error) {
	return b.bend(tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])), command, b.Transport.Send)
}

// bending is o with something that goes wrong.
func bending(t testing.TB, o tpm.Options, bend func(code tpm2.TPMCC, command []byte, send sender) ([]byte, error)) tpm.Options {
	t.Helper()
	straight := o
	o.Dial = func() (tpm.Transport, error) {
		transport, err := tpm.DialForTest(straight)
		return bent{transport, bend}, err
	}
	return o
}

// answers is the whole answer that a TPM gives with this response code.
func answers(code tpm2.TPMRC) []byte {
	return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, uint32(code))
}

// only is a bend that meets one kind of command, the first n times.
func only(code tpm2.TPMCC, n int32, meet func(command []byte, send sender) ([]byte, error)) func(tpm2.TPMCC, []byte, sender) ([]byte, error) {
	var met atomic.Int32
	return func(c tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
		if c == code && met.Add(1) <= n {
			return meet(command, send)
		}
		return send(command)
	}
}

// TestHealed has faults that no caller notices.
func TestHealed(t *testing.T) {
	codes := []tpm2.TPMRC{
		tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate, tpm2.TPMRCNVUnavailable, tpm2.TPMRCCanceled,
		tpm2.TPMRCContextGap, tpm2.TPMRCObjectMemory, tpm2.TPMRCSessionMemory, tpm2.TPMRCSessionHandles, tpm2.TPMRCMemory,
		tpm2.TPMRCReferenceH0, tpm2.TPMRCReferenceS0, tpm2.TPMRCHandle + 0x100, tpm2.TPMRCInitialize,
		0x000b0000 | tpm2.TPMRCSessionMemory, // as the kernel's resource manager says it
	}
	faults := make(map[string]func([]byte, sender) ([]byte, error))
	for _, code := range codes {
		faults[code.Error()] = func([]byte, sender) ([]byte, error) { return answers(code), nil }
	}
	faults["the connection ends"] = func([]byte, sender) ([]byte, error) { return nil, io.ErrUnexpectedEOF }
	faults["an empty answer"] = func([]byte, sender) ([]byte, error) { return nil, nil }
	faults["an answer with another size than it says"] = func(command []byte, send sender) ([]byte, error) {
		answer, err := send(command)
		return answer[:len(answer)-1], err
	}
	faults["an answer with an unknown tag"] = func(command []byte, send sender) ([]byte, error) {
		answer, err := send(command)
		answer[1] = 0xc4
		return answer, err
	}
	faults["the answer of another command"] = func([]byte, sender) ([]byte, error) { return answers(tpm2.TPMRCSuccess), nil }
	const changed = "an answer with a changed byte"
	faults[changed] = func(command []byte, send sender) ([]byte, error) {
		answer, err := send(command)
		answer[20] ^= 1
		return answer, err
	}
	o := tpmtest.Simulator(t)
	ek := endorsement(t, o, tpmtest.P256)
	for name, meet := range faults {
		for _, code := range []tpm2.TPMCC{
			tpm2.TPMCCHMAC, tpm2.TPMCCLoad, tpm2.TPMCCStartAuthSession, tpm2.TPMCCUnseal, tpm2.TPMCCFlushContext, tpm2.TPMCCActivateCredential,
		} {
			if name == changed && (code == tpm2.TPMCCStartAuthSession || code == tpm2.TPMCCFlushContext) {
				continue // it has no authorization; TestSpoiledSession
			}
			t.Run(fmt.Sprintf("%s to command %#x", name, uint32(code)), func(t *testing.T) {
				d := open(t, bending(t, o, only(code, 1, meet)))
				k := hmacKey(t, d, sha256.New, []byte("secret"))
				got, err := k.HMAC(t.Context(), []byte("message"))
				if err != nil || !bytes.Equal(got, mac(sha256.New, []byte("secret"), []byte("message"))) {
					t.Errorf("HMAC gives %x, %v", got, err)
				}
				f := must[*tpm.KeyFile](t)(d.Seal(t.Context(), nil, []byte("sealed")))
				if got, err := unseal(t, d, f); err != nil || string(got) != "sealed" {
					t.Errorf("unsealing gives %q, %v", got, err)
				}
				blob := must[*tpm.CredentialBlob](t)(ek.MakeCredential(storageKey(t, d), []byte("released")))
				if got, err := activate(t, d, ek, blob); err != nil || string(got) != "released" {
					t.Errorf("activating gives %q, %v", got, err)
				}
				if err := d.Healthy(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestSpoiledSession: the nonce that a session begins with was read wrong.
func TestSpoiledSession(t *testing.T) {
	var started int
	d := open(t, bending(t, tpmtest.Simulator(t), func(code tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
		answer, err := send(command)
		if code == tpm2.TPMCCStartAuthSession {
			if started++; started == 2 { // the first makes the SRK
				answer[20] ^= 1
			}
		}
		return answer, err
	}))
	k := hmacKey(t, d, sha256.New, []byte("secret"))
	must[[]byte](t)(k.HMAC(t.Context(), []byte("message")))
}

// TestHangOverFlush: the TPM stops answering when all that was asked is done.
func TestHangOverFlush(t *testing.T) {
	o := tpmtest.Simulator(t)
	o.Deadline = 100 * time.Millisecond
	hangs := make(chan struct{})
	var armed atomic.Bool
	d := open(t, bending(t, o, func(code tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
		if code == tpm2.TPMCCFlushContext && armed.CompareAndSwap(true, false) {
			<-hangs
			return nil, io.EOF
		}
		return send(command)
	}))
	f := must[*tpm.KeyFile](t)(d.Seal(t.Context(), nil, []byte("sealed")))
	armed.Store(true)
	_, err := unseal(t, d, f)
	wants(t, err, fault.TPMUnavailable, "did not answer")
	close(hangs)
	eventually(t, "the TPM answers again", healthy(d))
	if got, err := unseal(t, d, f); err != nil || string(got) != "sealed" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestTold has faults that a caller is told of, in words that help.
func TestTold(t *testing.T) {
	o := tpmtest.Simulator(t)
	for _, c := range []struct {
		code   tpm2.TPMRC
		reason fault.Reason
		says   []string
	}{
		{tpm2.TPMRCFailure, fault.TPMUnavailable, []string{"failure mode", "restart the machine"}},
		{tpm2.TPMRCLockout, fault.TPMUnavailable, []string{"locked out", "tpm2_dictionarylockout"}},
		{tpm2.TPMRCBadAuth + 0x900, fault.KeyDamaged, []string{"authorization"}},
		{tpm2.TPMRCCommandCode, fault.TPMUnavailable, []string{"TPM_RC_COMMAND_CODE"}},
	} {
		t.Run(c.code.Error(), func(t *testing.T) {
			d := open(t, bending(t, o, only(tpm2.TPMCCHMAC, 2, func([]byte, sender) ([]byte, error) { return answers(c.code), nil })))
			k := hmacKey(t, d, sha256.New, []byte("secret"))
			_, err := k.HMAC(t.Context(), []byte("message"))
			wants(t, err, c.reason, c.says...)
		})
	}
}

// TestLostIncrement: the TPM has incremented, its answer is lost.
func TestLostIncrement(t *testing.T) {
	o := tpmtest.Simulator(t)
	var executed int
	d := open(t, bending(t, o, func(code tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
		answer, err := send(command)
		if code == tpm2.TPMCCNVIncrement {
			if executed++; executed == 2 { // the first is DefineCounter's
				return nil, io.ErrUnexpectedEOF
			}
		}
		return answer, err
	}))
	if err := d.DefineCounter(t.Context(), counterIndex, nvAuth); err != nil {
		t.Fatal(err)
	}
	before := must[uint64](t)(d.ReadCounter(t.Context(), counterIndex, nvAuth))
	after, err := d.Increment(t.Context(), counterIndex, nvAuth)
	if err != nil || after != before+1 || executed != 2 {
		t.Errorf("from %d to %d with %d increments, %v", before, after, executed, err)
	}
}

// TestFailedIncrement: the command never came to the TPM.
func TestFailedIncrement(t *testing.T) {
	o := tpmtest.Simulator(t)
	var sent int
	d := open(t, bending(t, o, func(code tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
		if code == tpm2.TPMCCNVIncrement {
			if sent++; sent == 2 {
				return nil, io.ErrUnexpectedEOF
			}
		}
		return send(command)
	}))
	if err := d.DefineCounter(t.Context(), counterIndex, nvAuth); err != nil {
		t.Fatal(err)
	}
	before := must[uint64](t)(d.ReadCounter(t.Context(), counterIndex, nvAuth))
	_, err := d.Increment(t.Context(), counterIndex, nvAuth)
	wants(t, err, fault.TPMUnavailable)
	if now := must[uint64](t)(d.ReadCounter(t.Context(), counterIndex, nvAuth)); now != before || sent != 2 {
		t.Errorf("from %d to %d with %d increments", before, now, sent)
	}
}

// TestBusy: a TPM that stays busy is given up after five seconds; the clock is
// the test's.
func TestBusy(t *testing.T) {
	o := tpmtest.Simulator(t)
	synctest.Test(t, func(t *testing.T) {
		var tries int
		d := must[*tpm.Device](t)(tpm.Open(t.Context(), bending(t, o, func(code tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
			if code == tpm2.TPMCCHMAC {
				tries++
				return answers(tpm2.TPMRCRetry), nil
			}
			return send(command)
		})))
		defer shut(t, d)
		k := hmacKey(t, d, sha256.New, []byte("secret"))
		start := time.Now()
		_, err := k.HMAC(t.Context(), []byte("message"))
		wants(t, err, fault.TPMUnavailable, "busy", "TPM_RC_RETRY")
		if took := time.Since(start); took < 4*time.Second || took > 5*time.Second || tries < 10 || tries > 30 {
			t.Errorf("given up after %v and %d tries", took, tries)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		_, err = k.HMAC(ctx, []byte("message"))
		wants(t, err, fault.TPMUnavailable, "in time")
		if took := time.Since(start); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller with a second left after %v: %v", took, err)
		}
	})
}

// TestGone: while the TPM is gone, callers are told at once, and it is looked for
// in growing intervals until it is back.
func TestGone(t *testing.T) {
	o := tpmtest.Simulator(t)
	synctest.Test(t, func(t *testing.T) {
		var gone atomic.Bool
		var dialed atomic.Int32
		here := bending(t, o, func(_ tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
			if gone.Load() {
				return nil, io.EOF
			}
			return send(command)
		})
		o := here
		o.Device = "/dev/tpmrm0" // for the hint
		o.Dial = func() (tpm.Transport, error) {
			if dialed.Add(1); gone.Load() {
				return nil, errors.New("no such device")
			}
			return here.Dial()
		}
		d := must[*tpm.Device](t)(tpm.Open(t.Context(), o))
		defer shut(t, d)
		k := hmacKey(t, d, sha256.New, []byte("secret"))
		gone.Store(true)
		start := time.Now()
		for range 3 {
			_, err := k.HMAC(t.Context(), []byte("message"))
			wants(t, err, fault.TPMUnavailable)
		}
		wants(t, d.Healthy(), fault.TPMUnavailable, "no such device", "group tss")
		if time.Since(start) != 0 {
			t.Errorf("the callers waited %v", time.Since(start))
		}
		time.Sleep(time.Minute)
		if n := dialed.Load(); n < 10 || n > 25 {
			t.Errorf("it was looked for %d times in a minute", n)
		}
		gone.Store(false)
		time.Sleep(6 * time.Second)
		if got, err := k.HMAC(t.Context(), []byte("message")); err != nil || !bytes.Equal(got, mac(sha256.New, []byte("secret"), []byte("message"))) {
			t.Errorf("when it is back: %x, %v", got, err)
		}
	})
}

// TestForgedPCRs: values that the TPM didn't give are not taken.
func TestForgedPCRs(t *testing.T) {
	d := open(t, bending(t, tpmtest.Simulator(t), func(code tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
		answer, err := send(command)
		if code == tpm2.TPMCCPCRRead && err == nil {
			last := 61 // byte of the one value
			if tpm2.TPMST(binary.BigEndian.Uint16(answer)) == tpm2.TPMSTSessions {
				last += 4 // the parameters' size is before them
			}
			answer[last] ^= 1
		}
		return answer, err
	}))
	if values, err := d.ReadPCRs(t.Context(), []int{7}); err == nil {
		t.Errorf("got %v", values)
	}
}

// TestSessions: one session serves many commands, and is not held for long.
func TestSessions(t *testing.T) {
	o := tpmtest.Simulator(t)
	synctest.Test(t, func(t *testing.T) {
		var started, flushed atomic.Int32
		d := must[*tpm.Device](t)(tpm.Open(t.Context(), bending(t, o, func(code tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
			switch {
			case code == tpm2.TPMCCStartAuthSession:
				started.Add(1)
			case code == tpm2.TPMCCFlushContext && command[10] == byte(tpm2.TPMHTHMACSession):
				flushed.Add(1)
			}
			return send(command)
		})))
		defer shut(t, d)
		k := hmacKey(t, d, sha256.New, []byte("secret"))
		started.Store(0)
		flushed.Store(0)
		for range 400 {
			must[[]byte](t)(k.HMAC(t.Context(), []byte("message")))
		}
		if s := started.Load(); s != 4 || flushed.Load() != s {
			t.Errorf("400 commands took %d new sessions, %d old ones were flushed", s, flushed.Load())
		}
		time.Sleep(90 * time.Second)
		if s := started.Load(); flushed.Load() != s+1 {
			t.Error("an idle session is held")
		}
	})
}

// TestTooLong: what doesn't fit is not sent.
func TestTooLong(t *testing.T) {
	o := tpmtest.Simulator(t)
	longest := 0
	d := open(t, bending(t, o, func(_ tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
		longest = max(longest, len(command))
		return send(command)
	}))
	k := hmacKey(t, d, sha256.New, []byte("secret"))
	message := random(t, 70_000)
	got, err := k.HMAC(t.Context(), message)
	if err != nil || !bytes.Equal(got, mac(sha256.New, []byte("secret"), message)) {
		t.Errorf("%x, %v", got, err)
	}
	if longest > 1200 {
		t.Errorf("a command had %d bytes", longest)
	}
}

// TestGarbled: whatever the answers, nothing breaks, and nothing wrong is taken
// for right.
func TestGarbled(t *testing.T) {
	o := tpmtest.Simulator(t)
	ek := endorsement(t, o, tpmtest.P256)
	for seed := range uint64(100) {
		r := mathrand.New(mathrand.NewPCG(seed, 0))
		left := int(r.Uint64N(55)) // commands until it happens
		garbled := bending(t, o, func(_ tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
			answer, err := send(command)
			if left--; left == 0 {
				answer = garble(r, answer)
			}
			return answer, err
		})
		d, err := tpm.Open(t.Context(), garbled)
		if err != nil {
			continue // what is read when it is opened has no authorization
		}
		auth := bytes.Repeat([]byte{5}, tpm.AuthSize)
		f, err := d.ImportHMAC(t.Context(), nil, crypto.SHA256, []byte("secret"), auth)
		if err == nil {
			var k *tpm.Key
			if k, err = d.Load(t.Context(), f, auth); err == nil {
				message := make([]byte, 1500)
				var got []byte
				got, err = k.HMAC(t.Context(), message)
				if err == nil && !bytes.Equal(got, mac(sha256.New, []byte("secret"), message)) {
					t.Errorf("seed %d: HMAC gives %x", seed, got)
				}
			}
		}
		if err != nil {
			t.Logf("seed %d: %v", seed, err)
		}
		if f, err := d.Seal(t.Context(), nil, []byte("sealed")); err == nil {
			if got, err := unseal(t, d, f); err == nil && string(got) != "sealed" {
				t.Errorf("seed %d: unsealing gives %q", seed, got)
			}
		}
		if key, err := d.StorageKey(t.Context()); err == nil {
			blob := must[*tpm.CredentialBlob](t)(ek.MakeCredential(key, []byte("released")))
			if got, err := activate(t, d, ek, blob); err == nil && string(got) != "released" {
				t.Errorf("seed %d: activating gives %q", seed, got)
			}
		}
		shut(t, d)
	}
}

// garble changes a few bytes of an answer, or cuts it, or lengthens it.
func garble(r *mathrand.Rand, answer []byte) []byte {
	switch r.Uint64N(3) {
	case 0:
		answer = answer[:headerSize+r.IntN(len(answer)-headerSize+1)]
	case 1:
		answer = append(answer, make([]byte, r.IntN(20))...)
	}
	for range r.IntN(4) {
		if at := r.IntN(len(answer)); at < 2 || at >= 6 {
			answer[at] = byte(r.Uint64())
		}
	}
	binary.BigEndian.PutUint32(answer[2:], uint32(len(answer)))
	return answer
}

const headerSize = 10

func TestSoftwareIsRefused(t *testing.T) {
	o := tpmtest.Simulator(t)
	o.AllowSoftware = false
	_, err := tpm.Open(t.Context(), o)
	wants(t, err, fault.TPMUnavailable, "software TPM", "allow_software = true")
}

func TestOptions(t *testing.T) {
	for device, says := range map[string]string{
		"":                      "is no TPM",
		"tpmrm0":                "is no TPM",
		"udp:127.0.0.1:1":       "is no TPM",
		"/dev/no-such-tpm":      "no such file",
		"/dev":                  "is a directory",
		"/etc/passwd":           "not a device",
		"unix:/run/no-such-tpm": "no such file",
		"tcp:127.0.0.1:1":       "connection refused",
	} {
		_, err := tpm.Open(t.Context(), tpm.Options{Device: device})
		wants(t, err, fault.TPMUnavailable, says)
	}
	_, err := tpm.Open(t.Context(), tpm.Options{Device: "/dev/tpmrm0", PCRs: []int{24}})
	wants(t, err, fault.ConfigInvalid, "PCR 24", "0 to 23")
}

// TestMayNotOpen: a device that the daemon's user may not open is told apart from none.
func TestMayNotOpen(t *testing.T) {
	_, err := tpm.Open(t.Context(), tpm.Options{Device: "/dev/tpmrm0", Dial: func() (tpm.Transport, error) {
		return nil, &fs.PathError{Op: "open", Path: "/dev/tpmrm0", Err: syscall.EACCES}
	}})
	wants(t, err, fault.TPMUnavailable, "permission denied", "restarted")
}
