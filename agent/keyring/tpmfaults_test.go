package keyring

import (
	"encoding/binary"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// sickTPM answers the n-th command with a code, and those after it where it doesn't get well.
type sickTPM struct {
	code    tpm2.TPMRC
	command tpm2.TPMCC // the only one that it begins with; 0: any
	always  bool

	armed  atomic.Bool
	left   atomic.Int32 // commands until the first that it answers so
	struck atomic.Bool
}

type sickTransport struct {
	tpm.Transport
	sick *atomic.Pointer[sickTPM]
}

func (t sickTransport) Send(command []byte) ([]byte, error) {
	s := t.sick.Load()
	begins := s != nil && (s.struck.Load() || s.command == 0 || s.command == tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])))
	if begins && s.armed.Load() && s.left.Add(-1) < 0 && (s.always || !s.struck.Load()) {
		s.struck.Store(true)
		return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, uint32(s.code)), nil
	}
	return t.Transport.Send(command)
}

// newSickPlace is a place with a TPM that can be made sick.
func newSickPlace(t *testing.T) (*place, *atomic.Pointer[sickTPM]) {
	t.Helper()
	o, sick := tpmtest.Simulator(t), new(atomic.Pointer[sickTPM])
	dial := o.Dial
	o.Dial = func() (tpm.Transport, error) {
		transport, err := dial()
		return sickTransport{transport, sick}, err
	}
	return &place{t: t, dir: newDir(t), device: openTPM(t, o), clock: &clock{now: time.Now()}}, sick
}

// What a TPM answers in passing, by part 2, 6.6.3: that it is busy, which nobody is to
// notice, and that it has lost or has no room for what it was given, which may cost one try.
var (
	busy    = []tpm2.TPMRC{tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate, tpm2.TPMRCNVUnavailable, tpm2.TPMRCCanceled}
	passing = append([]tpm2.TPMRC{
		tpm2.TPMRCContextGap, tpm2.TPMRCObjectMemory, tpm2.TPMRCSessionMemory, tpm2.TPMRCSessionHandles, tpm2.TPMRCObjectHandles, tpm2.TPMRCMemory,
		tpm2.TPMRCReferenceH0, tpm2.TPMRCReferenceS0, tpm2.TPMRCHandle + 0x100, tpm2.TPMRCInitialize,
	}, busy...)
)

// lasting are codes that don't go away by themselves.
var lasting = []tpm2.TPMRC{
	tpm2.TPMRCFailure, tpm2.TPMRCLockout, tpm2.TPMRCBadAuth + 0x900, tpm2.TPMRCAuthFail + 0x900, tpm2.TPMRCCommandCode,
	tpm2.TPMRCIntegrity + 0x1c0, tpm2.TPMRCValue + 0x1c0, tpm2.TPMRCNVLocked, tpm2.TPMRCHierarchy,
}

// Whatever the TPM answers in the middle of a rotation, and to whichever of its
// commands, a version that is loaded signs on, and the rotation is made when the TPM
// is well again.
func TestATPMThatIsSickInARotation(t *testing.T) {
	for _, protection := range []string{Sealed, Resident} {
		t.Run(protection, func(t *testing.T) {
			p, sick := newSickPlace(t)
			spec := with(hmacSpec("main"), func(s *Spec) { s.Protection, s.Version = protection, 1 })
			s := &rotations{t: t, place: p, ring: p.open(spec), spec: spec, secrets: []string{"alpha", "beta"}}
			for _, secret := range s.secrets {
				mustImport(t, s.ring, "main", secret)
			}
			for _, code := range passing {
				for n := int32(0); s.rotate(sick, &sickTPM{code: code}, n); n++ {
				}
			}
			for _, code := range lasting {
				for n := int32(0); s.rotate(sick, &sickTPM{code: code, always: true}, n); n++ {
				}
			}
			s.ring.Close()
			s.ring = p.open(s.spec)
			signsWith(t, s.ring, "main", s.secrets[s.spec.Version-1])
		})
	}
}

// rotations are made back and forth between two versions.
type rotations struct {
	t       *testing.T
	place   *place
	ring    *Ring
	spec    Spec
	secrets []string
}

// rotate makes the other version sign, on a TPM that gets sick at the n-th command. It
// is false when the rotation has fewer.
func (s *rotations) rotate(tpm *atomic.Pointer[sickTPM], sick *sickTPM, n int32) bool {
	t, r := s.t, s.ring
	t.Helper()
	s.spec.Version = 3 - s.spec.Version
	wanted := s.spec
	k := r.keys["main"]
	r.mu.Lock()
	k.specLocked(&wanted)
	r.mu.Unlock()
	sick.left.Store(n)
	sick.armed.Store(true)
	tpm.Store(sick)
	settled := make(chan error, 1)
	go func() {
		_, err := r.settle(t.Context(), k)
		settled <- err
	}()
	if sick.always {
		eventually(t, "the end", func() bool { return sick.struck.Load() || len(settled) > 0 })
		if s.spec.Protection == Sealed {
			signs(t, r, "main")
		}
		sick.armed.Store(false) // where it was counting, it waits
	}
	err := <-settled
	if reason := fault.From(err).Reason; err != nil && reason != fault.TPMUnavailable && reason != fault.KeyDamaged {
		t.Fatalf("%v at command %d gives %v", sick.code, n, err)
	}
	if err != nil && slices.Contains(busy, sick.code) {
		t.Fatalf("%v at command %d is not passed over: %v", sick.code, n, err)
	}
	sick.armed.Store(false)
	eventually(t, "the rotation", func() bool { // a TPM in failure mode is opened again only after a while
		s.place.clock.add(retryLoad)
		_, err = r.settle(t.Context(), k)
		return err == nil && s.place.device.Healthy() == nil
	})
	signsWith(t, r, "main", s.secrets[wanted.Version-1])
	if i := infoOf(t, r, "main"); len(i.Versions) != len(s.secrets) || i.Problem != "" || i.Active != wanted.Version {
		t.Fatalf("%v at command %d leaves %+v", sick.code, n, i)
	}
	return sick.struck.Load()
}

// signs fails unless the key signs now, with whatever version.
func signs(t *testing.T, r *Ring, name string) {
	t.Helper()
	if _, err := mustUse(t, r, name).Sign(t.Context(), nil, []byte("message")); err != nil {
		t.Fatal(err)
	}
}

// A TPM that is lost while it counts a switch holds no suspension and no revocation up.
func TestATPMThatIsLostWhileItCounts(t *testing.T) {
	p, sick := newSickPlace(t)
	one := with(hmacSpec("main"), func(s *Spec) { s.Version = 1 })
	r := p.open(one, hmacSpec("other"), hmacSpec("third"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "main", "beta")
	mustImport(t, r, "other", "gamma")
	mustImport(t, r, "third", "delta")
	lost := &sickTPM{code: tpm2.TPMRCFailure, command: tpm2.TPMCCNVIncrement, always: true}
	lost.armed.Store(true)
	sick.Store(lost)
	r.Apply([]Spec{with(one, func(s *Spec) { s.Version = 2 }), hmacSpec("other"), hmacSpec("third")})
	eventually(t, "the loss", lost.struck.Load)

	must(t, r.Suspend("other", false))
	must(t, r.Revoke("third", 0))
	again := p.open(one, hmacSpec("other"), hmacSpec("third")) // what a crash would find
	useRefused(t, again, "other", fault.KeySuspended, "")
	if state := infoOf(t, again, "third").Versions[0].State; state != Revoked {
		t.Errorf("the revoked version is %s", state)
	}
	eventually(t, "the switch", func() bool { return infoOf(t, r, "main").Active == 2 })
	signsWith(t, r, "main", "beta")
}

// An edit of one key among others reads, loads and ends nothing of the others.
func TestAnEditTouchesOneKey(t *testing.T) {
	p, tpms := newSickPlace(t)
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	specs := make([]Spec, len(names))
	for i, name := range names {
		specs[i] = with(hmacSpec(name), func(s *Spec) { s.Version = 1 })
	}
	r := p.open(specs...)
	for _, name := range names {
		mustImport(t, r, name, "alpha")
		mustImport(t, r, name, "beta")
	}
	specs[7].Version = 9 // a key that can't sign with what the config names is no reason to look at it again
	r.Apply(specs)
	r.Warm(t.Context())
	left := r.store.version("a", 9) + newSuffix // who looks at the folder deletes it
	must(t, os.WriteFile(left, nil, 0o600))
	live := make(map[string]*version)
	for _, name := range names {
		live[name] = r.keys[name].live.Load()
	}
	commands := func(edit func()) int32 {
		counter := &sickTPM{}
		counter.left.Store(1 << 30)
		counter.armed.Store(true)
		tpms.Store(counter)
		edit()
		r.Apply(specs)
		r.Warm(t.Context())
		return 1<<30 - counter.left.Load()
	}
	if n := commands(func() { specs[3].MaxAge = day }); n != 0 {
		t.Errorf("an edit of an age takes %d commands of the TPM", n)
	}
	if n := commands(func() { specs[3].Version = 2 }); n == 0 || n > 20 {
		t.Errorf("a switch of one version takes %d commands of the TPM", n)
	}
	signsWith(t, r, "d", "beta")
	if _, err := os.Stat(left); err != nil {
		t.Errorf("another key's folder was looked at: %v", err)
	}
	for _, name := range names {
		if now := r.keys[name].live.Load(); (now == live[name]) != (name != "d") {
			t.Errorf("key %s: version %p, and before %p", name, now, live[name])
		}
	}
}
