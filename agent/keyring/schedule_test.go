package keyring

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// expiring is a key that ends at that time.
func expiring(at time.Time) Spec {
	return with(hmacSpec("main"), func(s *Spec) { s.Expires = at })
}

func TestAnExpiredKeySignsNothing(t *testing.T) {
	p := newPlace(t)
	end := p.clock.Now().Add(hour)
	r := p.open(expiring(end))
	mustImport(t, r, "main", "alpha")
	begun := mustUse(t, r, "main")
	p.clock.add(hour - 1)
	signsWith(t, r, "main", "alpha")
	if i := infoOf(t, r, "main"); i.State != "active" || !i.Schedule.Expires.Equal(end) {
		t.Errorf("got %+v", i)
	}

	p.clock.add(1)
	useRefused(t, r, "main", fault.KeyExpired, "sealsign key rotate main")
	_, err := r.Use(t.Context(), "main", true)
	refused(t, err, fault.KeyExpired, "[keys.main]") // a cancel
	refused(t, begun.Valid(), fault.KeyExpired, "sealsign doctor")
	_, err = begun.Sign(t.Context(), nil, []byte("message"))
	refused(t, err, fault.KeyExpired, "")
	refused(t, begun.Access(new(Access)), fault.KeyExpired, "")
	if i := infoOf(t, r, "main"); i.State != "expired" || i.Active != 1 || i.Problem == "" {
		t.Errorf("got %+v", i)
	}
}

func TestAnEditMovesTheEnd(t *testing.T) {
	p := newPlace(t)
	r := p.open(expiring(p.clock.Now()))
	if _, err := r.Import(t.Context(), "main", hmacCredential("alpha")); err != nil {
		t.Fatal(err) // to import is not to sign
	}
	useRefused(t, r, "main", fault.KeyExpired, "")
	r.Apply([]Spec{expiring(p.clock.Now().Add(hour))})
	signsWith(t, r, "main", "alpha")
	begun := mustUse(t, r, "main")
	r.Apply([]Spec{expiring(p.clock.Now().Add(-hour))})
	refused(t, begun.Valid(), fault.KeyExpired, "")
	if begun.version.memory.Bytes() != nil {
		t.Error("the version is in memory after its end")
	}
	r.Apply([]Spec{hmacSpec("main")})
	signsWith(t, r, "main", "alpha")
	refused(t, begun.Valid(), fault.KeyExpired, "")
}

// That a key has expired is told once, and again when its end was moved and has come anew.
func TestAnExpiredKeyIsToldOfOnce(t *testing.T) {
	p := newPlace(t)
	var log bytes.Buffer
	r, err := Open(p.dir, p.device, Options{Now: p.clock.Now, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	for times := 1; times <= 2; times++ {
		r.Apply([]Spec{expiring(p.clock.Now().Add(hour))})
		r.Expire()
		p.clock.add(hour)
		r.Expire()
		r.Expire()
		if told := strings.Count(log.String(), "event=key-expired key=main"); told != times {
			t.Errorf("told %d times of %d:\n%s", told, times, log.String())
		}
	}
}

// An expired key leaves memory, isn't loaded, takes imports, and is loaded again when its
// end is moved.
func TestAnExpiredKeyLeavesMemory(t *testing.T) {
	p := newPlace(t)
	r := p.open(expiring(p.clock.Now().Add(hour)), hmacSpec("other"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "other", "gamma")
	begun, other := mustUse(t, r, "main"), mustUse(t, r, "other")
	p.clock.add(hour - 1)
	r.Expire()
	if err := begun.Valid(); err != nil {
		t.Fatal(err)
	}
	p.clock.add(1)
	r.Expire()
	if begun.version.memory.Bytes() != nil {
		t.Error("it is in memory after its end")
	}
	refused(t, begun.Valid(), fault.KeyExpired, "expires")
	if err := other.Valid(); err != nil {
		t.Errorf("another key: %v", err)
	}
	r.Warm(t.Context())
	mustImport(t, r, "main", "beta")
	if k := r.keys["main"]; len(k.loaded) > 0 || k.live.Load() != nil {
		t.Error("it is loaded again")
	}
	useRefused(t, r, "main", fault.KeyExpired, "")
	if i := infoOf(t, r, "main"); i.State != "expired" || i.Active != 1 || i.Wanted != 2 {
		t.Errorf("got %+v", i)
	}
	r.Apply([]Spec{expiring(p.clock.Now().Add(hour)), hmacSpec("other")})
	eventually(t, "the new version signs", func() bool { return infoOf(t, r, "main").Active == 2 })
	signsWith(t, r, "main", "beta")
}

// A suspension is told before the end, and outlives an edit of it.
func TestSuspendedAndExpired(t *testing.T) {
	p := newPlace(t)
	r := p.open(expiring(p.clock.Now()))
	mustImport(t, r, "main", "alpha")
	if err := r.Suspend("main", true); err != nil {
		t.Fatal(err)
	}
	useRefused(t, r, "main", fault.KeySuspended, "")
	_, err := r.Use(t.Context(), "main", true)
	refused(t, err, fault.KeyExpired, "")
	if i := infoOf(t, r, "main"); i.State != "cancel-only" {
		t.Errorf("the state is %s", i.State)
	}
}

func TestRotationIsDue(t *testing.T) {
	p := newPlace(t)
	r := p.open()
	for _, c := range []struct {
		age, after time.Duration
		want       Rotation
	}{
		{90 * day, 83*day - 1, ""},
		{90 * day, 83 * day, RotationSoon}, // a week before
		{90 * day, 90*day - 1, RotationSoon},
		{90 * day, 90 * day, RotationDue},
		{10 * day, 9*day - 1, ""},
		{10 * day, 9 * day, RotationSoon}, // a tenth before
		{0, 1000 * day, ""},
	} {
		name := fmt.Sprintf("%d-of-%d", c.after, c.age)
		r.Apply([]Spec{with(hmacSpec(name), func(s *Spec) { s.MaxAge = c.age })})
		if s := infoOf(t, r, name).Schedule; s != (Schedule{}) {
			t.Fatalf("%s: without a version: %+v", name, s)
		}
		mustImport(t, r, name, "alpha")
		due := p.clock.Now().Add(c.age)
		p.clock.add(c.after)
		s := infoOf(t, r, name).Schedule
		if s.Rotation != c.want || c.age > 0 && !s.RotationDue.Equal(due) || c.age == 0 && !s.RotationDue.IsZero() {
			t.Errorf("%s: %+v, want %q", name, s, c.want)
		}
		signsWith(t, r, name, "alpha")
		mustImport(t, r, name, "beta")
		if s := infoOf(t, r, name).Schedule; s.Rotation != "" {
			t.Errorf("%s: once it is rotated: %+v", name, s)
		}
	}
}

func TestAKeyIsIdle(t *testing.T) {
	p := newPlace(t)
	spec := with(hmacSpec("main"), func(s *Spec) { s.IdleAfter = 90 * day })
	r := p.open(spec)
	mustImport(t, r, "main", "alpha")
	idle := func(r *Ring, after time.Duration, want time.Time) {
		t.Helper()
		p.clock.add(after)
		if s := infoOf(t, r, "main").Schedule; !s.IdleSince.Equal(want) {
			t.Errorf("%+v, want idle since %v", s, want)
		}
	}
	imported := p.clock.Now()
	idle(r, 90*day-1, time.Time{})
	idle(r, 1, imported)
	mustUse(t, r, "main")
	used := p.clock.Now()
	idle(r, 30*time.Second, time.Time{})
	mustUse(t, r, "main") // within the minute: not told apart
	kept := make(map[string]time.Time)
	r.LastUses(func(name string, at time.Time) { kept[name] = at })
	if len(kept) != 1 || !kept["main"].Equal(used) {
		t.Errorf("uses %v, want %v", kept, used)
	}
	r.Close()

	r, err := Open(p.dir, p.device, Options{Now: p.clock.Now, LastUse: func(name string) time.Time { return kept[name] }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	r.Apply([]Spec{spec})
	idle(r, 90*day-time.Minute, time.Time{})
	idle(r, time.Minute, used)
	r.LastUses(func(name string, at time.Time) { t.Errorf("%s is said to have been used at %v", name, at) })
}

// What keys end by is another clock than the one that stamps.
func TestKeysEndByTheLatestTime(t *testing.T) {
	p := newPlace(t)
	latest := &clock{now: p.clock.Now()}
	r, err := Open(p.dir, p.device, Options{Now: p.clock.Now, Time: latest.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	r.Apply([]Spec{expiring(p.clock.Now().Add(hour))})
	mustImport(t, r, "main", "alpha")
	p.clock.add(-365 * day)
	latest.add(hour)
	useRefused(t, r, "main", fault.KeyExpired, "")
}

// While a version is being loaded, its key may end.
func TestAKeyEndsWhileItIsLoaded(t *testing.T) {
	p := newPlace(t)
	r := p.open(expiring(p.clock.Now().Add(hour)))
	mustImport(t, r, "main", "alpha")
	r.Close()
	r = p.open(expiring(p.clock.Now().Add(hour)))
	k, _, _ := r.configured("main")
	if err := k.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() {
		u, err := r.Use(context.Background(), "main", false)
		if err == nil {
			_, err = u.Sign(context.Background(), nil, []byte("message"))
		}
		got <- err
	}()
	p.clock.add(hour)
	k.unlock()
	refused(t, <-got, fault.KeyExpired, "")
}

// Who looks at a key sees when the version before leaves, and why the wanted one doesn't sign.
func TestAVersionThatWasReplacedSaysWhenItGoes(t *testing.T) {
	p := newPlace(t)
	r := p.open(hmacSpec("main"))
	mustImport(t, r, "main", "alpha")
	mustImport(t, r, "main", "beta")
	i := infoOf(t, r, "main")
	if old := i.Versions[0]; old.State != Retired || !old.DrainsUntil.Equal(p.clock.Now().Add(drain)) {
		t.Errorf("got %+v", old)
	}
	if live := i.Versions[1]; !live.DrainsUntil.IsZero() || i.Problem != "" {
		t.Errorf("got %+v, %s", live, i.Problem)
	}
	r.Apply([]Spec{with(hmacSpec("main"), func(s *Spec) { s.Version = 3 })})
	if i := infoOf(t, r, "main"); i.Wanted != 3 || i.Active != 2 || i.State != "active" || i.Problem != "version 3 of key main has not been imported" {
		t.Errorf("got %+v", i)
	}
	must(t, r.Suspend("main", false))
	if old := infoOf(t, r, "main").Versions[0]; !old.DrainsUntil.IsZero() {
		t.Errorf("it is wiped, and says %+v", old)
	}
}
