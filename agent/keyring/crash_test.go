package keyring

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/agent/wrap"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// errDead is what a process that was killed would see, if it saw anything.
var errDead = errors.New("killed")

// killer stops the process at its n-th change of the disk or of a counter: that one is
// done in half where it is a write, with no answer or not at all where it is an
// increment, and nothing is done any more. Or, where it has a fault of the disk, that is
// what the process gets, and it lives on.
type killer struct {
	mu    sync.Mutex
	armed bool
	left  int // changes until the end, once it is armed
	dead  bool
	at    string // what it died of
	log   []string
	fault diskFault // zero: the process is killed
}

// diskFault is what a disk does to a process that lives on.
type diskFault struct {
	err   error
	kinds []string // of changes that it strikes; nil: all
	once  bool     // and the next change works again
}

var diskFaults = map[string]diskFault{
	"an error, once":       {syscall.EIO, nil, true},
	"errors from then on":  {syscall.EIO, nil, false},
	"a short write":        {io.ErrShortWrite, []string{"write"}, true},
	"an fsync that fails":  {syscall.EIO, []string{"sync"}, true},
	"full from then on":    {syscall.ENOSPC, []string{"mkdir", "create", "write"}, false},
	"read-only from there": {syscall.EROFS, nil, false},
}

func (k *killer) step(what, path string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.armed {
		return nil
	}
	k.log = append(k.log, what+" "+filepath.Base(path))
	switch {
	case k.fault.kinds != nil && !slices.Contains(k.fault.kinds, what):
		return nil
	case k.left > 0:
		k.left--
		return nil
	case k.fault.once && k.dead:
		return nil
	}
	if !k.dead {
		k.dead, k.at = true, what
	}
	return cmp.Or(k.fault.err, errDead)
}

// counting is a TPM whose counters are incremented for a process that may be killed.
type counting struct {
	tpm.Transport
	by *atomic.Pointer[killer]
}

func (c counting) Send(command []byte) ([]byte, error) {
	k := c.by.Load()
	if k == nil || tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) != tpm2.TPMCCNVIncrement {
		return c.Transport.Send(command)
	}
	if k.step("increment", "a counter") != nil {
		return nil, io.EOF
	}
	answer, err := c.Transport.Send(command)
	if k.step("increment", "a counter, whose answer is lost") != nil {
		return nil, io.EOF
	}
	return answer, err
}

// newCountingPlace is a place whose TPM obeys the killer too. It is good for one change:
// a TPM has room for few counters.
func newCountingPlace(t *testing.T) *place {
	t.Helper()
	p, o := &place{t: t, clock: newPlaceClock()}, tpmtest.Simulator(t)
	plain := o.Dial
	o.Dial = func() (tpm.Transport, error) {
		transport, err := plain()
		return counting{transport, &p.killer}, err
	}
	p.device = openTPM(t, o)
	return p
}

func (k *killer) fs() FS {
	disk := FS{}.complete()
	return FS{
		Mkdir: func(path string) error {
			if err := k.step("mkdir", path); err != nil {
				return err
			}
			return disk.Mkdir(path)
		},
		Create: func(path string) (*os.File, error) {
			if err := k.step("create", path); err != nil {
				return nil, err
			}
			return disk.Create(path)
		},
		Write: func(f *os.File, data []byte) (int, error) {
			if err := k.step("write", f.Name()); err != nil {
				n, _ := disk.Write(f, data[:len(data)/2])
				return n, err
			}
			return disk.Write(f, data)
		},
		Sync: func(f *os.File) error {
			return k.step("sync", f.Name()) // for real it would take most of the time, and is for a power cut alone
		},
		Rename: func(from, to string) error {
			if err := k.step("rename", to); err != nil {
				return err
			}
			return disk.Rename(from, to)
		},
		Remove: func(path string) error {
			if err := k.step("remove", path); err != nil {
				return err
			}
			return disk.Remove(path)
		},
	}
}

// interrupted is a change that is stopped at each of its writes.
type interrupted struct {
	config  Spec // before the change
	prepare func(*testing.T, *Ring)
	edit    Spec // the config while the change is made, and after it
	do      func(*testing.T, *Ring) error
	// before and after are how the key may be found afterwards.
	before, after string
	// then, where it isn't nil, looks at what else is to be whole or absent.
	then  func(t *testing.T, r *Ring, done bool)
	takes bool // a right away
}

// standing describes a key: who signs, and the states of its versions.
func standing(t *testing.T, r *Ring, name string) string {
	t.Helper()
	var states []string
	i := infoOf(t, r, name)
	for _, v := range i.Versions {
		states = append(states, string(v.State))
	}
	var signs string
	if u, err := r.Use(t.Context(), name, false); err != nil {
		signs = string(fault.From(err).Reason)
	} else if _, err := u.Sign(t.Context(), nil, []byte("m")); err != nil {
		signs = err.Error()
	} else {
		signs = fmt.Sprintf("version %d", u.Version())
	}
	return signs + ": " + strings.Join(states, " ")
}

func TestStoppedAtEachWriteAChangeIsWholeOrAbsent(t *testing.T) {
	for what, c := range interruptions(t) {
		t.Run(what, func(t *testing.T) {
			for n, more := 0, true; more; n++ {
				t.Run(fmt.Sprint(n), func(t *testing.T) { more = c.stopAt(t, newCountingPlace(t), n) && !t.Failed() })
			}
		})
	}
}

// A disk that takes a change only in part leaves it whole or absent too, in memory and
// after a restart. What the daemon said was done is done, what takes a right away is in
// force whatever it said, and what it refused can be done again.
func TestAFaultOfTheDiskAtEachWrite(t *testing.T) {
	for what, c := range interruptions(t) {
		for name, fault := range diskFaults {
			t.Run(what+", "+name, func(t *testing.T) {
				for n, more := 0, true; more; n++ {
					t.Run(fmt.Sprint(n), func(t *testing.T) { more = c.survives(t, newPlace(t), n, fault) && !t.Failed() })
				}
			})
		}
	}
}

// interruptions are all changes of the store.
func interruptions(t *testing.T) map[string]interrupted {
	t.Helper()
	main := hmacSpec("main")
	one := with(main, func(s *Spec) { s.Version = 1 })
	moved := with(main, func(s *Spec) { s.Hosts = []string{"private.example"} })
	generated := with(main, func(s *Spec) { s.Algorithm, s.Protection = ES256, Generated })
	importing := func(secret string) func(*testing.T, *Ring) error {
		return func(t *testing.T, r *Ring) error {
			_, err := r.Import(t.Context(), "main", hmacCredential(secret))
			return err
		}
	}
	first := func(t *testing.T, r *Ring) { mustImport(t, r, "main", "alpha") }
	both := func(t *testing.T, r *Ring) { first(t, r); mustImport(t, r, "main", "beta") }
	made := func(t *testing.T, r *Ring) { _, _, err := r.Generate(t.Context(), "main"); must(t, err) }

	nothing := func(*testing.T, *Ring) {}
	alice, created := newImporter(t), time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	enrolled := func(t *testing.T, r *Ring) { must(t, r.EnrollImporter("alice", alice.public())) }
	wrapped := func(t *testing.T, r *Ring) *wrap.Blob {
		return alice.wraps(t, r.device.Load(), main, created, hmacCredential("alpha"))
	}
	// What was wrapped can come again just as long as its version hasn't come.
	takenWith := func(t *testing.T, r *Ring, done bool) {
		if _, err := r.ImportWrapped(t.Context(), "main", wrapped(t, r), true); errors.Is(err, fault.WrappedReplayed) != done || !done && err != nil {
			t.Errorf("done: %t, and then %v", done, err)
		}
	}
	var copied string
	return map[string]interrupted{
		"first import":      {main, nothing, main, importing("alpha"), "KEY_EMPTY: ", "version 1: active", nil, false},
		"import":            {main, first, main, importing("beta"), "version 1: active", "version 2: retired active", nil, false},
		"import as pending": {main, first, one, importing("beta"), "version 1: active", "version 1: active pending", nil, false},
		"switch": {main, both, one, func(t *testing.T, r *Ring) error {
			_, err := r.settle(t.Context(), r.keys["main"])
			return err
		}, "version 1: active retired", "version 1: active retired", nil, false},
		"suspend": {main, first, main, func(_ *testing.T, r *Ring) error {
			return r.Suspend("main", false)
		}, "version 1: active", "KEY_SUSPENDED: active", nil, true},
		"revoke": {main, both, main, func(_ *testing.T, r *Ring) error {
			return r.Revoke("main", 2)
		}, "version 2: retired active", "KEY_REVOKED: retired revoked", nil, true},
		"revoke all": {main, both, main, func(_ *testing.T, r *Ring) error {
			return r.Revoke("main", 0)
		}, "version 2: retired active", "KEY_REVOKED: revoked revoked", nil, true},
		"revoke all of every key": {main, func(t *testing.T, r *Ring) {
			both(t, r)
			copied = filepath.Join(t.TempDir(), "copy")
			must(t, os.CopyFS(copied, os.DirFS(r.store.dir)))
		}, main, func(t *testing.T, r *Ring) error {
			_, err := r.RevokeAll(t.Context())
			return err
		}, "version 2: retired active", "KEY_REVOKED: revoked revoked", func(t *testing.T, r *Ring, done bool) {
			must(t, r.Anchored())
			if done {
				opensNothing(t, r.device.Load(), copied)
			}
		}, true},
		"rebind": {main, first, moved, func(t *testing.T, r *Ring) error {
			return r.Rebind(t.Context(), "main")
		}, "KEY_REBIND_REQUIRED: active", "version 1: active", nil, false},
		"generate": {generated, nothing, generated, func(t *testing.T, r *Ring) error {
			_, _, err := r.Generate(t.Context(), "main")
			return err
		}, "KEY_EMPTY: ", "KEY_PENDING: pending", nil, false},
		"complete": {generated, made, generated, func(t *testing.T, r *Ring) error {
			_, err := r.Import(t.Context(), "main", []byte(`{"api_key":"id"}`))
			return err
		}, "KEY_PENDING: pending", "version 1: active", nil, false},
		"wrapped import": {main, enrolled, main, func(t *testing.T, r *Ring) error {
			_, err := r.ImportWrapped(t.Context(), "main", wrapped(t, r), false)
			return err
		}, "KEY_EMPTY: ", "version 1: active", takenWith, false},
		"import by the inbox": {main, enrolled, main, func(t *testing.T, r *Ring) error {
			_, err := r.ImportWrapped(t.Context(), "main", wrapped(t, r), true)
			return err
		}, "KEY_EMPTY: ", "KEY_PENDING: pending", takenWith, false},
	}
}

// stopAt makes the change and stops it at its n-th write. It is false when the
// change has fewer.
func (c *interrupted) stopAt(t *testing.T, p *place, n int) bool {
	k := &killer{left: n}
	p.dir, p.fs = newDir(t), k.fs()
	r := p.open(c.config)
	c.prepare(t, r)
	r.mu.Lock()
	r.keys["main"].specLocked(&c.edit) // Apply would settle in the background too
	r.mu.Unlock()
	k.armed = true
	p.killer.Store(k)
	err := c.do(t, r)
	r.Close()
	p.killer.Store(nil)

	p.fs = FS{}
	r = p.open(c.edit)
	defer r.Close()
	r.Warm(t.Context())
	got := standing(t, r, "main")
	if !k.dead {
		if err != nil || got != c.after {
			t.Fatalf("undisturbed: %q, %v; want %q", got, err, c.after)
		}
		checkOrder(t, k.log)
		return false
	}
	if c.then != nil {
		c.then(t, r, got == c.after)
	}
	if got != c.before && got != c.after {
		t.Fatalf("stopped at %v: %q; want %q or %q", k.log, got, c.before, c.after)
	}
	// A TPM that is gone when the disk has all is no error: it follows.
	if err == nil && !strings.HasPrefix(k.at, "increment") {
		t.Fatalf("stopped at %v: no error", k.log)
	}
	return true
}

// survives makes the change on a disk that begins to fail at its n-th write. It is
// false when the change has fewer.
func (c *interrupted) survives(t *testing.T, p *place, n int, fault diskFault) bool {
	k := &killer{left: n, fault: fault}
	p.dir, p.fs = newDir(t), k.fs()
	r := p.open(c.config)
	c.prepare(t, r)
	r.mu.Lock()
	r.keys["main"].specLocked(&c.edit)
	r.mu.Unlock()
	k.armed = true
	err := c.do(t, r)
	k.armed = false // the disk is well again
	if !k.dead {
		r.Close()
		return false
	}
	check := func(when, got string) {
		t.Helper()
		if got != c.after && (got != c.before || err == nil || c.takes) {
			t.Fatalf("%v gave %v: %s: %q; want %q or, unless it was done, %q", k.log, err, when, got, c.after, c.before)
		}
	}
	p.clock.add(retryLoad)
	r.Warm(t.Context()) // what goes on in the background
	check("in memory", standing(t, r, "main"))
	if c.takes && err != nil {
		r.Close() // it is written then at the latest
	} else {
		defer r.Close()
	}
	p.fs = FS{}
	r = p.open(c.edit)
	defer r.Close()
	r.Warm(t.Context())
	got := standing(t, r, "main")
	check("after a restart", got)
	if got == c.before && c.before != c.after {
		err, number := c.do(t, r), regexp.MustCompile(`version \d+`) // one that had a file isn't given again
		if got := standing(t, r, "main"); err != nil || number.ReplaceAllString(got, "") != number.ReplaceAllString(c.after, "") {
			t.Fatalf("after %v it is done again: %v, %q; want %q", k.log, err, got, c.after)
		}
	}
	return true
}

// checkOrder sees that each file is synced before it is renamed, and its folder after.
func checkOrder(t *testing.T, log []string) {
	t.Helper()
	for i, step := range log {
		target, isRename := strings.CutPrefix(step, "rename ")
		if !isRename {
			continue
		}
		if i == 0 || i+1 == len(log) || log[i-1] != "sync "+target+newSuffix || !strings.HasPrefix(log[i+1], "sync ") {
			t.Errorf("%s is not synced around its rename: %v", target, log)
		}
	}
	if !slices.ContainsFunc(log, func(s string) bool { return strings.HasPrefix(s, "rename ") }) {
		t.Errorf("no write at all: %v", log)
	}
}
