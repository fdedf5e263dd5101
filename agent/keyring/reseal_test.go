package keyring

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// bootPCR and otherPCR can be extended, and set back, without another start of the TPM.
const bootPCR, otherPCR = 16, 23

// bound is a place whose TPM seals to PCRs, with one key.
type bound struct {
	*place
	tpm  tpm.Options
	ring *Ring
	spec Spec
}

func newBound(t *testing.T, pcrs ...int) *bound {
	t.Helper()
	o := tpmtest.Simulator(t)
	o.PCRs = pcrs
	clock := &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	b := &bound{place: &place{t: t, dir: newDir(t), device: openTPM(t, o), clock: clock}, tpm: o, spec: hmacSpec("main")}
	b.rollBack(bootPCR, otherPCR) // whatever the simulator had before
	return b
}

// boot starts all again after a change of the TPM.
func (b *bound) boot(change func(tpm.Transport)) {
	b.t.Helper()
	if b.ring != nil {
		b.ring.Close()
	}
	must(b.t, b.device.Close())
	if change != nil {
		transport, err := b.tpm.Dial()
		must(b.t, err)
		change(transport)
	}
	b.device = openTPM(b.t, b.tpm)
	b.ring = b.open(b.spec)
}

// update boots with other values of these PCRs.
func (b *bound) update(pcrs ...int) {
	b.t.Helper()
	b.boot(func(transport tpm.Transport) {
		for _, pcr := range pcrs {
			tpmtest.Extend(b.t, transport, pcr)
		}
	})
}

// rollBack boots with these PCRs as they were at first.
func (b *bound) rollBack(pcrs ...int) {
	b.t.Helper()
	b.boot(func(transport tpm.Transport) {
		for _, pcr := range pcrs {
			tpmtest.Reset(b.t, transport, pcr)
		}
	})
}

// predict gives what PCRs hold after update.
func (b *bound) predict(pcrs ...int) tpm.PCRs {
	b.t.Helper()
	now, err := b.device.ReadPCRs(b.t.Context(), pcrs)
	must(b.t, err)
	for pcr, value := range now {
		now[pcr] = tpmtest.Extended(value)
	}
	return now
}

// reseal seals the key again, all of whose versions there are then open.
func (b *bound) reseal(predicted tpm.PCRs) []Resealed {
	b.t.Helper()
	all, err := b.ring.Reseal(b.t.Context(), "main", predicted)
	must(b.t, err)
	for _, one := range all {
		if one.Problem != nil {
			b.t.Fatal(one.Problem)
		}
	}
	return all
}

// seals is how often a version is sealed, as its file says.
func (b *bound) seals(n int) int {
	b.t.Helper()
	f, err := b.ring.readVersion("main", n)
	must(b.t, err)
	return len(f.keks)
}

// locked fails unless the key is locked by these PCRs, by all that is told of it.
func (b *bound) locked(pcrs string, moved ...int) {
	b.t.Helper()
	_, err := b.ring.Use(b.t.Context(), "main", false)
	refused(b.t, err, fault.KeyLocked, "sealsign key import main")
	if !strings.HasSuffix(err.Error(), " was sealed to other values of "+pcrs) {
		b.t.Errorf("%v doesn't name %s", err, pcrs)
	}
	if i := infoOf(b.t, b.ring, "main"); i.State != "locked" || !strings.Contains(i.Problem, pcrs) || i.Next == "" {
		b.t.Errorf("got %+v", i)
	}
	must(b.t, b.ring.Proved()) // what is locked is the version, not the store
}

func TestPredictedUpdate(t *testing.T) {
	b := newBound(t, bootPCR, otherPCR)
	mustImport(t, b.ring, "main", "gone")
	mustImport(t, b.ring, "main", "alpha")
	mustImport(t, b.ring, "main", "beta")
	must(t, b.ring.Revoke("main", 1))
	before := infoOf(t, b.ring, "main")
	before.Versions[1].DrainsUntil = time.Time{} // nothing drains over a boot

	all := b.reseal(b.predict(bootPCR))
	if len(all) != 2 || all[0].Version != 2 || all[1].Version != 3 || !all[1].Predicted || !slices.Equal(all[1].PCRs, []int{bootPCR, otherPCR}) {
		t.Fatalf("got %+v", all)
	}
	if b.seals(2) != 2 || b.seals(3) != 2 {
		t.Errorf("version 2 is sealed %d times, version 3 %d times", b.seals(2), b.seals(3))
	}
	b.boot(nil)
	signsWith(t, b.ring, "main", "beta") // the update hasn't come
	b.update(bootPCR)
	signsWith(t, b.ring, "main", "beta") // it has come
	if after := infoOf(t, b.ring, "main"); !slices.Equal(after.Versions, before.Versions) {
		t.Errorf("the versions were %+v and are %+v", before.Versions, after.Versions)
	}
	b.rollBack(bootPCR)
	signsWith(t, b.ring, "main", "beta") // it was taken back
	b.update(bootPCR)
	for _, one := range b.bindings() {
		if !one.Updated || one.Locked != nil {
			t.Errorf("got %+v", one)
		}
	}
	if all := b.reseal(nil); all[1].Predicted || b.seals(3) != 1 {
		t.Errorf("got %+v, sealed %d times", all, b.seals(3))
	}
	b.boot(nil)
	signsWith(t, b.ring, "main", "beta")
	b.spec.Version = 2
	b.boot(nil)
	signsWith(t, b.ring, "main", "alpha")
	b.rollBack(bootPCR)
	b.locked("PCR 16")
}

func (b *bound) bindings() []Binding {
	b.t.Helper()
	now, err := b.device.BoundPCRs(b.t.Context())
	must(b.t, err)
	return b.ring.Bindings(now)
}

// A prediction that didn't come true is forgotten, and one that is now needs no seal
// of its own.
func TestPredictionIsForgotten(t *testing.T) {
	b := newBound(t, bootPCR)
	mustImport(t, b.ring, "main", "alpha")
	predicted := b.predict(bootPCR)
	b.reseal(predicted)
	b.reseal(nil)
	b.update(bootPCR)
	b.locked("PCR 16")
	b.rollBack(bootPCR)
	now, err := b.device.BoundPCRs(t.Context())
	must(t, err)
	if all := b.reseal(now); all[0].Predicted || b.seals(1) != 1 {
		t.Errorf("got %+v", all)
	}
	if one := b.bindings()[0]; one.Updated || one.Locked != nil || !slices.Equal(one.PCRs, []int{bootPCR}) {
		t.Errorf("got %+v", one)
	}
}

func TestUpdateThatNobodyPredicted(t *testing.T) {
	b := newBound(t, bootPCR, otherPCR)
	recipient, decrypt := offlineKey(t)
	mustImport(t, b.ring, "main", "alpha")
	b.ring.SetRecovery([]age.Recipient{recipient})
	mustImport(t, b.ring, "main", "beta")
	b.reseal(b.predict(otherPCR)) // another update than the one that comes
	b.update(bootPCR)
	b.locked("PCR 16")
	b.update(otherPCR) // both: now the predicted values are the nearest
	b.locked("PCR 16")
	b.update(otherPCR)
	b.locked("PCRs 16 and 23")

	all, err := b.ring.Reseal(t.Context(), "main", nil)
	must(t, err)
	refused(t, all[0].Problem, fault.KeyLocked, "again: sealsign key import main")
	path := b.ring.store.offline("main", 2)
	refused(t, all[1].Problem, fault.KeyLocked, "again: sudo age -d -i KEY_FILE "+path+" | sudo sealsign key import main")
	for _, one := range b.bindings() {
		if one.Locked == nil || one.Locked.Message != all[one.Version-1].Problem.Message {
			t.Errorf("got %+v", one)
		}
	}
	n, err := b.ring.Import(t.Context(), "main", decrypt(path))
	if err != nil || n != 3 {
		t.Fatalf("version %d, %v", n, err)
	}
	b.boot(nil)
	signsWith(t, b.ring, "main", "beta")
	b.rollBack(bootPCR, otherPCR)
	b.locked("PCRs 16 and 23")
}

// What was locked when it was asked for opens once its PCRs are there, and is shown so.
func TestResealTakesBackALock(t *testing.T) {
	b := newBound(t, bootPCR)
	mustImport(t, b.ring, "main", "alpha")
	b.update(bootPCR)
	b.locked("PCR 16")
	transport, err := b.tpm.Dial()
	must(t, err)
	tpmtest.Reset(t, transport, bootPCR)
	b.reseal(nil)
	if i := infoOf(t, b.ring, "main"); i.State != "active" || i.Problem != "" {
		t.Errorf("got %+v", i)
	}
}

func TestChangedPCRsOfTheConfig(t *testing.T) {
	b := newBound(t)
	mustImport(t, b.ring, "main", "alpha")
	config := func(pcrs ...int) {
		t.Helper()
		b.tpm.PCRs = pcrs
		b.boot(nil)
		if all := b.reseal(nil); !slices.Equal(all[0].PCRs, pcrs) {
			t.Errorf("got %+v, want %v", all, pcrs)
		}
	}
	config(bootPCR)
	b.update(otherPCR)
	signsWith(t, b.ring, "main", "alpha")
	b.update(bootPCR)
	b.locked("PCR 16")
	b.rollBack(bootPCR)
	config(otherPCR)
	b.update(bootPCR)
	signsWith(t, b.ring, "main", "alpha")
	config()
	b.update(bootPCR, otherPCR)
	signsWith(t, b.ring, "main", "alpha")
}

// A rebinding between the prediction and the update changes nothing of either.
func TestRebindKeepsThePrediction(t *testing.T) {
	b := newBound(t, bootPCR)
	mustImport(t, b.ring, "main", "alpha")
	b.reseal(b.predict(bootPCR))
	b.spec.Hosts = []string{"private.example"}
	b.boot(nil)
	useRefused(t, b.ring, "main", fault.KeyRebindRequired, "rebind")
	must(t, b.ring.Rebind(t.Context(), "main"))
	b.boot(nil)
	signsWith(t, b.ring, "main", "alpha")
	b.update(bootPCR)
	signsWith(t, b.ring, "main", "alpha")
}

func TestResealIsRefused(t *testing.T) {
	b := newBound(t, bootPCR)
	mustImport(t, b.ring, "main", "alpha")
	_, err := b.ring.Reseal(t.Context(), "other", nil)
	refused(t, err, fault.KeyUnknown, "key list")
	_, err = b.ring.Reseal(t.Context(), "main", b.predict(bootPCR, otherPCR))
	refused(t, err, fault.BadRequest, "sealsign doctor --pcr-values")
	if b.seals(1) != 1 {
		t.Error("it was sealed all the same")
	}
	b.tpm.PCRs = nil
	b.boot(nil)
	_, err = b.ring.Reseal(t.Context(), "main", b.predict(bootPCR))
	refused(t, err, fault.BadRequest, "sealsign doctor --pcr-values")
	must(t, b.ring.Revoke("main", 0))
	_, err = b.ring.Reseal(t.Context(), "main", nil)
	refused(t, err, fault.KeyRevoked, "import")
}

func TestOnlySealedVersionsAreSealedAgain(t *testing.T) {
	p := newPlace(t)
	resident := with(hmacSpec("resident"), func(s *Spec) { s.Protection = Resident })
	generated := with(hmacSpec("generated"), func(s *Spec) { s.Algorithm, s.Protection = ES256, Generated })
	r := p.open(hmacSpec("main"), resident, generated, hmacSpec("empty"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "resident", "beta")
	_, _, err := r.Generate(t.Context(), "generated")
	must(t, err)
	before := map[string][]byte{}
	for _, name := range []string{"resident", "generated"} {
		data, err := os.ReadFile(r.store.version(name, 1))
		must(t, err)
		before[name] = data
		all, err := r.Reseal(t.Context(), name, nil)
		must(t, err)
		refused(t, all[0].Problem, fault.KeyUnsupported, `protection = "sealed"`)
		if !strings.Contains(all[0].Problem.Message, " is "+name) {
			t.Errorf("%v doesn't say why", all[0].Problem)
		}
	}
	_, err = r.Reseal(t.Context(), "empty", nil)
	refused(t, err, fault.KeyEmpty, "sealsign key import empty")
	all, err := r.Reseal(t.Context(), "", nil)
	if err != nil || len(all) != 1 || all[0].Key != "main" || all[0].Problem != nil {
		t.Errorf("got %+v, %v", all, err)
	}
	r.Apply(nil) // a key that the config doesn't name any more can be named again
	if all, err = r.Reseal(t.Context(), "", nil); err != nil || len(all) != 1 {
		t.Errorf("got %+v, %v", all, err)
	}
	for name, data := range before {
		if now, err := os.ReadFile(r.store.version(name, 1)); err != nil || !slices.Equal(now, data) {
			t.Errorf("the file of %s was changed, %v", name, err)
		}
	}
}

// A file that was changed is not sealed again, and a third seal is none of ours.
func TestResealOfAChangedFile(t *testing.T) {
	b := newBound(t, bootPCR)
	mustImport(t, b.ring, "main", "alpha")
	b.reseal(b.predict(bootPCR))
	resealed(t, b.place, "main", func(s *sealedPart) { s.Ciphertext[0] ^= 1 })
	all, err := b.ring.Reseal(t.Context(), "main", nil)
	must(t, err)
	refused(t, all[0].Problem, fault.KeyDamaged, "import")
	edited(t, b.place, "main", 1, func(data []byte) []byte {
		f, err := splitVersion(data)
		must(t, err)
		f.keks = append(f.keks, f.keks[0])
		data, err = f.encode()
		must(t, err)
		return data
	})
	all, err = b.ring.Reseal(t.Context(), "main", nil)
	must(t, err)
	refused(t, all[0].Problem, fault.KeyDamaged, "import")
}

// Killed at any write, the version opens as before or as it was to.
func TestResealStoppedAtEachWrite(t *testing.T) {
	b := newBound(t, bootPCR)
	predicted := b.predict(bootPCR)
	transport, err := b.tpm.Dial()
	must(t, err)
	old, whole := 0, 0
	c := interrupted{
		config: b.spec, edit: b.spec,
		prepare: func(t *testing.T, r *Ring) { mustImport(t, r, "main", "alpha") },
		do: func(t *testing.T, r *Ring) error {
			_, err := r.Reseal(t.Context(), "main", predicted)
			return err
		},
		before: "version 1: active", after: "version 1: active",
		then: func(t *testing.T, r *Ring, _ bool) {
			f, err := r.readVersion("main", 1)
			must(t, err)
			must(t, r.Suspend("main", false)) // what is loaded is unloaded
			must(t, r.Resume("main"))
			tpmtest.Extend(t, transport, bootPCR)
			defer tpmtest.Reset(t, transport, bootPCR)
			if len(f.keks) == 1 {
				old++
				useRefused(t, r, "main", fault.KeyLocked, "")
				return
			}
			whole++
			signsWith(t, r, "main", "alpha")
		},
	}
	for n := 0; c.stopAt(t, b.place, n); n++ {
	}
	if old == 0 || whole == 0 { // the rename has been reached, and what comes after it
		t.Errorf("the old file was found %d times, the new one %d times", old, whole)
	}
}

// flawed is a disk whose n-th change fails once, after half of it where it is a write.
type flawed struct {
	armed bool
	left  int
	why   error
	hit   bool
}

func (d *flawed) fails() bool {
	if !d.armed {
		return false
	}
	d.left--
	d.hit = d.hit || d.left == -1
	return d.left == -1
}

func (d *flawed) fs() FS {
	disk := FS{}.complete()
	return FS{
		Create: func(path string) (*os.File, error) {
			if d.fails() {
				return nil, d.why
			}
			return disk.Create(path)
		},
		Write: func(f *os.File, data []byte) (int, error) {
			if d.fails() {
				n, _ := disk.Write(f, data[:len(data)/2])
				return n, d.why
			}
			return disk.Write(f, data)
		},
		Sync: func(f *os.File) error {
			if d.fails() {
				return d.why
			}
			return disk.Sync(f)
		},
		Rename: func(from, to string) error {
			if d.fails() {
				return d.why
			}
			return disk.Rename(from, to)
		},
	}
}

func TestResealOnAFailingDisk(t *testing.T) {
	b := newBound(t, bootPCR)
	disk := &flawed{}
	b.fs = disk.fs()
	b.boot(nil)
	mustImport(t, b.ring, "main", "alpha")
	mustImport(t, b.ring, "main", "beta")
	for _, why := range []error{syscall.EIO, syscall.ENOSPC} {
		for n := 0; ; n++ {
			*disk = flawed{armed: true, left: n, why: why}
			all, err := b.ring.Reseal(t.Context(), "main", b.predict(bootPCR))
			disk.armed = false
			if !disk.hit {
				must(t, err)
				if n < 10 { // two files: made, written, synced, renamed, the folder synced
					t.Fatalf("only %d changes of the disk", n)
				}
				break
			}
			refused(t, err, fault.StoreUnavailable, "")
			if !errors.Is(err, why) || !strings.Contains(err.Error(), "of key main was not sealed again") || len(all) != n/5 {
				t.Fatalf("change %d: %+v, %v", n, all, err)
			}
			for version, secret := range []string{"alpha", "beta"} {
				b.spec.Version = version + 1
				b.boot(nil)
				signsWith(t, b.ring, "main", secret)
			}
			b.reseal(nil)
			if left := files(t, b.place, "main"); !slices.Equal(left, []string{"1.tpm", "2.tpm"}) {
				t.Errorf("change %d: left are %v", n, left)
			}
		}
	}
}

// The file of a version with a prediction is read for good.
func TestFileWithAPredictionIsRead(t *testing.T) {
	f, err := parseVersion("main", 1, readSeed(t, "predicted.tpm"))
	must(t, err)
	if f.object != nil || !slices.Equal(f.pcrs(), []int{bootPCR}) {
		t.Errorf("got %+v", f)
	}
	for i, value := range []tpm.PCRValue{{}, tpmtest.Extended(tpm.PCRValue{}), {1}} {
		at, moved := f.match(tpm.PCRs{bootPCR: value})
		if i < 2 && (at != i || moved != nil) || i == 2 && !slices.Equal(moved, []int{bootPCR}) {
			t.Errorf("%d: seal %d, moved %v", i, at, moved)
		}
	}
}
