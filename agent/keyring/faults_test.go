package keyring

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// full is a disk that takes nothing while it is set.
type full struct{ set atomic.Bool }

func (f *full) fs() FS {
	return FS{Write: func(file *os.File, data []byte) (int, error) {
		if f.set.Load() {
			n, _ := file.Write(data[:len(data)/2])
			return n, syscall.ENOSPC
		}
		return file.Write(data)
	}}
}

func TestSuspendAndRevokeWorkOnAFullDisk(t *testing.T) {
	p := newPlace(t)
	var disk full
	p.fs = disk.fs()
	r := p.open(hmacSpec("main"), hmacSpec("other"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "other", "beta")
	suspended, revoked := mustUse(t, r, "main"), mustUse(t, r, "other")

	disk.set.Store(true)
	refused(t, r.Suspend("main", false), fault.StoreUnavailable, "don't restart")
	refused(t, suspended.Valid(), fault.KeySuspended, "")
	refused(t, r.Revoke("other", 0), fault.StoreUnavailable, "don't restart")
	refused(t, revoked.Valid(), fault.KeyRevoked, "")
	if got := files(t, p, "other"); len(got) != 0 {
		t.Errorf("files %v", got)
	}
	_, err := r.Import(t.Context(), "main", hmacCredential("gamma"))
	refused(t, err, fault.StoreUnavailable, "free space")
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v hides its cause", err)
	}

	disk.set.Store(false)
	r.Close() // writes what wasn't written yet
	r = p.open(hmacSpec("main"), hmacSpec("other"))
	useRefused(t, r, "main", fault.KeySuspended, "")
	useRefused(t, r, "other", fault.KeyRevoked, "")
	if n := mustImport(t, r, "main", "gamma"); n != 2 {
		t.Errorf("version %d", n)
	}
}

// Where room can be made on a full disk, what takes rights away is written.
func TestRoomIsMadeForSuspendAndRevoke(t *testing.T) {
	p := newPlace(t)
	var disk full
	p.fs, p.room = disk.fs(), func() { disk.set.Store(false) }
	r := p.open(hmacSpec("main"), hmacSpec("other"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "other", "beta")
	disk.set.Store(true)
	if err := r.Suspend("main", false); err != nil {
		t.Error(err)
	}
	disk.set.Store(true)
	if err := r.Revoke("other", 0); err != nil {
		t.Error(err)
	}
}

func TestSwitchThatCannotBeWrittenLeavesTheOldVersionSigning(t *testing.T) {
	p := newPlace(t)
	var disk full
	p.fs = disk.fs()
	two := with(hmacSpec("main"), func(s *Spec) { s.Version = 2 })
	r := p.open(with(hmacSpec("main"), func(s *Spec) { s.Version = 1 }))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "main", "beta")
	disk.set.Store(true)
	r.Apply([]Spec{two})
	eventually(t, "the problem is shown", func() bool { return strings.Contains(infoOf(t, r, "main").Problem, "no space left") })
	signsWith(t, r, "main", "alpha")
	r.Close()
	signsWith(t, p.open(with(two, func(s *Spec) { s.Version = 1 })), "main", "alpha")
}

func TestTPMThatGoesAndComes(t *testing.T) {
	software := tpmtest.StartSwtpm(t, "unix")
	p := newPlace(t)
	p.device = openTPM(t, software.Options())
	resident := with(hmacSpec("resident"), func(s *Spec) { s.Protection = Resident })
	specs := []Spec{hmacSpec("loaded"), hmacSpec("unloaded"), resident}
	r := p.open(specs...)
	mustImport(t, r, "loaded", "alpha")
	mustImport(t, r, "unloaded", "beta")
	mustImport(t, r, "resident", "gamma")
	r.unload(r.keys["unloaded"], errStopping())

	software.Kill()
	_, err := mustUse(t, r, "resident").Sign(t.Context(), nil, nil)
	refused(t, err, fault.TPMUnavailable, "")
	signsWith(t, r, "loaded", "alpha")
	useRefused(t, r, "unloaded", fault.TPMUnavailable, "")
	if i := infoOf(t, r, "unloaded"); i.State != "unavailable" || i.Problem == "" {
		t.Errorf("got %+v", i)
	}
	_, err = r.Import(t.Context(), "loaded", hmacCredential("delta"))
	refused(t, err, fault.TPMUnavailable, "")
	must(t, r.Suspend("resident", false))
	must(t, r.Revoke("loaded", 0))
	useRefused(t, r, "loaded", fault.KeyRevoked, "")

	software.Start()
	must(t, r.Resume("resident"))
	eventually(t, "the TPM is used again", func() bool {
		p.clock.add(retryLoad)
		_, err := r.Use(t.Context(), "unloaded", false)
		return err == nil
	})
	signsWith(t, r, "unloaded", "beta")
	signsWith(t, r, "resident", "gamma")
	if i := infoOf(t, r, "unloaded"); i.State != "active" || i.Problem != "" {
		t.Errorf("got %+v", i)
	}
}

// hanging is a TPM that hangs in the middle of an increment while it is told to.
type hanging struct {
	tpm.Transport
	hang          *atomic.Bool
	hangs, letsGo chan struct{}
}

func (h hanging) Send(command []byte) ([]byte, error) {
	if tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) == tpm2.TPMCCNVIncrement && h.hang.CompareAndSwap(true, false) {
		h.hangs <- struct{}{}
		<-h.letsGo
	}
	return h.Transport.Send(command)
}

// A process that has no file descriptors left can't read a version, which says nothing of
// the version: it is tried again. Nor does it say which epochs there are.
func TestNoFileDescriptors(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	r.Close()
	r = p.open(hmacSpec("main"))
	must(t, r.Proved())
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}))
	_, err := r.Use(t.Context(), "main", false)
	state := infoOf(t, r, "main").State
	_, unread := r.parentsOf(map[string]map[int]State{"main": {1: Active}})
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	refused(t, err, fault.StoreUnavailable, "doctor")
	refused(t, unread, fault.StoreUnavailable, "doctor")
	if state != "unavailable" {
		t.Errorf("the key is %s", state)
	}
	p.clock.add(retryLoad)
	signsWith(t, r, "main", "alpha")
}

// newHangingPlace is a place whose TPM can hang.
func newHangingPlace(t *testing.T) (*place, hanging) {
	t.Helper()
	o, h := tpmtest.Simulator(t), hanging{hang: new(atomic.Bool), hangs: make(chan struct{}), letsGo: make(chan struct{})}
	dial := o.Dial
	o.Dial = func() (tpm.Transport, error) {
		transport, err := dial()
		h.Transport = transport
		return h, err
	}
	return &place{t: t, dir: newDir(t), device: openTPM(t, o), clock: newPlaceClock()}, h
}

// A version that is revoked while it is switched to leaves the one before it as it was,
// which signs after a restart too.
func TestRevokedInTheSwitch(t *testing.T) {
	p, h := newHangingPlace(t)
	first := with(hmacSpec("main"), func(s *Spec) { s.Version = 1 })
	second := with(first, func(s *Spec) { s.Version = 2 })
	r := p.open(first)
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "main", "beta")
	h.hang.Store(true)
	r.Apply([]Spec{second})
	<-h.hangs
	revoked := make(chan error, 1)
	go func() { revoked <- r.Revoke("main", 2) }()
	eventually(t, "the revocation is in force", func() bool { return infoOf(t, r, "main").Versions[1].State == Revoked })
	close(h.letsGo)
	must(t, <-revoked)
	signsWith(t, r, "main", "alpha")
	r.Close()
	r = p.open(second)
	signsWith(t, r, "main", "alpha")
}

func TestSuspendIsWrittenWhileTheTPMHangs(t *testing.T) {
	p, h := newHangingPlace(t)
	r := p.open(hmacSpec("main"), hmacSpec("other"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "other", "beta")
	h.hang.Store(true)
	revoked := make(chan error, 1)
	go func() { revoked <- r.Revoke("other", 0) }()
	<-h.hangs
	must(t, r.Suspend("main", false))
	written, err := r.store.readStops()
	must(t, err)
	if _, suspended := written.Keys["main"]; !suspended {
		t.Errorf("on disk is %+v", written)
	}
	close(h.letsGo)
	must(t, <-revoked)
}

func TestNoTPMAtStart(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	r.Close()
	device := p.device
	p.device = nil
	r = p.open(hmacSpec("main"))
	useRefused(t, r, "main", fault.TPMUnavailable, "doctor")
	must(t, r.Suspend("main", false))
	must(t, r.Resume("main"))
	r.SetTPM(device)
	p.clock.add(retryLoad)
	signsWith(t, r, "main", "alpha")
}

// An import that the disk fails, be it after the file was in its place, leaves none that
// nobody would delete.
func TestAFailedImportLeavesNoFile(t *testing.T) {
	p := newPlace(t)
	k := &killer{fault: diskFaults["an error, once"]}
	p.fs = k.fs()
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	for n, failed := 0, true; failed; n++ {
		k.armed, k.dead, k.left, k.log = true, false, n, nil
		_, err := r.Import(t.Context(), "main", hmacCredential("beta"))
		k.armed = false
		if failed = k.dead; !failed {
			must(t, err)
		}
		stored, err := r.store.numbers("main")
		must(t, err)
		if listed := infoOf(t, r, "main").Versions; len(stored) != len(listed) {
			t.Errorf("after %v there are files of %v, and %d versions", k.log, stored, len(listed))
		}
	}
}

// On a disk that takes nothing the store is proved again and again: guarded memory isn't
// used up by that.
func TestProvedOnAFullDisk(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	r.Close()
	device, disk := p.device, new(full)
	p.device, p.fs = nil, disk.fs()
	r = p.open(hmacSpec("main"))
	must(t, r.Revoke("main", 1)) // so that there is something to write
	disk.set.Store(true)
	r.SetTPM(device)
	var anchors []*anchor
	for range 3 {
		p.clock.add(retryLoad)
		refused(t, r.Proved(), fault.StoreUnavailable, "free space")
		r.reading.Lock()
		anchors = append(anchors, r.anchor)
		r.reading.Unlock()
	}
	if anchors[0] == anchors[2] || anchors[0].auth.Bytes() != nil || anchors[2].auth.Bytes() == nil {
		t.Error("what was unsealed to prove it is kept")
	}
	disk.set.Store(false)
	p.clock.add(retryLoad)
	must(t, r.Proved())
}

func TestAnotherTPM(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	r.Close()
	p.device = openTPM(t, tpmtest.Swtpm(t))
	r = p.open(hmacSpec("main"))
	_, err := r.Use(t.Context(), "main", false)
	refused(t, err, fault.StoreUntrusted, "sealsign store recover")
	if !strings.Contains(err.Error(), "another TPM") {
		t.Errorf("%v isn't clear", err)
	}
	if i := infoOf(t, r, "main"); i.State != "untrusted" {
		t.Errorf("got %+v", i)
	}
}

func TestSwtpmKeepsKeysOverARestart(t *testing.T) {
	software := tpmtest.StartSwtpm(t, "unix")
	p := newPlace(t)
	p.device = openTPM(t, software.Options())
	specs := []Spec{hmacSpec("sealed"), with(hmacSpec("resident"), func(s *Spec) { s.Protection = Resident })}
	r := p.open(specs...)
	mustImport(t, r, "sealed", "alpha")
	mustImport(t, r, "resident", "beta")
	r.Close()
	must(t, p.device.Close())
	software.Kill()
	software.Start()
	p.device = openTPM(t, software.Options())
	r = p.open(specs...)
	r.Warm(t.Context())
	signsWith(t, r, "sealed", "alpha")
	signsWith(t, r, "resident", "beta")
}

func TestBrokenKeyIsNotTriedAtEachRequest(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	r.unload(r.keys["main"], errStopping())
	path := r.store.version("main", 1)
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, data[:100], 0o600))
	useRefused(t, r, "main", fault.KeyDamaged, "")
	must(t, os.WriteFile(path, data, 0o600))
	useRefused(t, r, "main", fault.KeyDamaged, "")
	p.clock.add(retryLoad)
	signsWith(t, r, "main", "alpha")
}
