package keyring

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
)

// offlineKey is an operator's, and what it opens.
func offlineKey(t *testing.T) (age.Recipient, func(path string) []byte) {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	must(t, err)
	return identity.Recipient(), func(path string) []byte {
		t.Helper()
		data, err := os.ReadFile(path)
		must(t, err)
		r, err := age.Decrypt(bytes.NewReader(data), identity)
		must(t, err)
		plain, err := io.ReadAll(r)
		must(t, err)
		return plain
	}
}

// The recovery after a new board, rehearsed: the old state on another TPM signs
// nothing, is accepted with every version pending, and what the offline key opens is
// imported again.
func TestRecoveryOnAnotherTPM(t *testing.T) {
	p := newPlace(t)
	specs := []Spec{hmacSpec("main"), with(hmacSpec("resident"), func(s *Spec) { s.Protection = Resident }), hmacSpec("gone")}
	r := p.open(specs...)
	recipient, decrypt := offlineKey(t)
	r.SetRecovery([]age.Recipient{recipient})
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "resident", "beta")
	mustImport(t, r, "gone", "gamma")
	must(t, r.Revoke("gone", 0))
	if got := strings.Join(files(t, p, "gone"), " "); got != "" {
		t.Errorf("of a revoked key are left %s", got)
	}
	r.Close()

	p.device = openTPM(t, tpmtest.Swtpm(t))
	r = p.open(specs...)
	useRefused(t, r, "main", fault.StoreUntrusted, "store recover")
	recovered, err := r.Recover(t.Context())
	must(t, err)
	for _, one := range recovered {
		if one.Name == "gone" && (len(one.Pending) != 0 || len(one.Revoked) != 1) || one.Name != "gone" && (len(one.Pending) != 1 || len(one.Revoked) != 0) {
			t.Errorf("got %+v", one)
		}
	}
	useRefused(t, r, "main", fault.KeyPending, "version")
	useRefused(t, r, "gone", fault.KeyRevoked, "")
	for name, secret := range map[string]string{"main": "alpha", "resident": "beta"} {
		n, err := r.Import(t.Context(), name, decrypt(r.store.offline(name, 1)))
		if err != nil || n != 2 {
			t.Fatalf("version %d of %s, %v", n, name, err)
		}
		signsWith(t, r, name, secret)
	}
	r.Close()
	r = p.open(specs...)
	signsWith(t, r, "main", "alpha")
	must(t, r.Anchored())
}

// A version that was accepted signs once the config names it, also on the TPM that
// sealed it; one that another TPM sealed says so.
func TestRecoveryOfAnOlderState(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "main", "beta")
	mustImport(t, r, "main", "gamma")
	must(t, r.Revoke("main", 3))
	useRefused(t, r, "main", fault.KeyRevoked, "import a new one")
	r.Close()
	old := p.image()
	r = p.open(hmacSpec("main"))
	must(t, r.Revoke("main", 2))
	_, err := r.Recover(t.Context())
	refused(t, err, fault.BadRequest, "status")
	r.Close()

	p.restore(old)
	r = p.open(hmacSpec("main"))
	_, err = r.Recover(t.Context())
	must(t, err)
	useRefused(t, r, "main", fault.KeyPending, "version")
	i := infoOf(t, r, "main")
	if i.State != "pending" || i.Wanted != 0 || i.Active != 0 || i.Versions[0].State != Pending || i.Versions[1].State != Pending || i.Versions[2].State != Revoked {
		t.Errorf("got %+v", i)
	}
	r.Apply([]Spec{with(hmacSpec("main"), func(s *Spec) { s.Version = 1 })})
	signsWith(t, r, "main", "alpha")
	must(t, r.Revoke("main", 2))
	r.Close()
	r = p.open(hmacSpec("main"))
	signsWith(t, r, "main", "alpha")
}

// What a newer sealsign wrote is left alone.
func TestANewerStateIsNotRecovered(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	r.Close()
	data, err := os.ReadFile(r.store.manifest())
	must(t, err)
	must(t, os.WriteFile(r.store.manifest(), bytes.Replace(data, []byte(`"format":2`), []byte(`"format":3`), 1), 0o600))
	_, err = p.open(hmacSpec("main")).Recover(t.Context())
	refused(t, err, fault.StoreUntrusted, newerHint)
}

// Without a manifest every file counts as pending, and what is killed in a recovery
// is recovered again.
func TestRecoveryStoppedAtEachWrite(t *testing.T) {
	p := newPlace(t)
	for n := 0; ; n++ {
		p.dir, p.fs = newDir(t), FS{}
		r := p.open(hmacSpec("main"))
		mustImport(t, r, "main", "alpha")
		r.Close()
		must(t, os.Remove(r.store.manifest()))
		k := &killer{armed: true, left: n}
		p.fs = k.fs()
		r = p.open(hmacSpec("main"))
		_, err := r.Recover(t.Context())
		r.Close()
		p.fs = FS{}
		r = p.open(hmacSpec("main"))
		_, useErr := r.Use(t.Context(), "main", false)
		if reason := fault.From(useErr).Reason; reason != fault.StoreUntrusted && reason != fault.KeyPending {
			t.Fatalf("stopped at %v: %v", k.log, useErr)
		}
		if !k.dead {
			must(t, err)
			break
		}
		if fault.From(useErr).Reason == fault.StoreUntrusted {
			_, err = r.Recover(t.Context())
			must(t, err)
		}
		r.Apply([]Spec{with(hmacSpec("main"), func(s *Spec) { s.Version = 1 })})
		signsWith(t, r, "main", "alpha")
	}
}

// A recovery that the disk stops can be made again by the same process.
func TestARecoveryOnAFaultyDisk(t *testing.T) {
	for name, fault := range diskFaults {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			for n := 0; recoversAfter(t, p, n, fault); n++ {
			}
		})
	}
}

// recoversAfter recovers a store on a disk that begins to fail at the n-th write. It is
// false when a recovery has fewer.
func recoversAfter(t *testing.T, p *place, n int, disk diskFault) bool {
	p.dir, p.fs = newDir(t), FS{}
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	r.Close()
	must(t, os.Remove(r.store.manifest()))
	k := &killer{left: n, fault: disk}
	p.fs = k.fs()
	r = p.open(hmacSpec("main"))
	k.armed = true
	_, err := r.Recover(t.Context())
	k.armed = false
	if k.dead != (err != nil) {
		t.Fatalf("%v gave %v", k.log, err)
	}
	p.clock.add(retryLoad)
	if _, again := r.Recover(t.Context()); again != nil && !strings.Contains(again.Error(), "nothing to recover") {
		t.Fatalf("after %v: %v", k.log, again)
	}
	r.Apply([]Spec{with(hmacSpec("main"), func(s *Spec) { s.Version = 1 })})
	signsWith(t, r, "main", "alpha")
	r.Close()
	signsWith(t, p.open(with(hmacSpec("main"), func(s *Spec) { s.Version = 1 })), "main", "alpha")
	return k.dead
}
