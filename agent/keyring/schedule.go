package keyring

import (
	"sync/atomic"
	"time"

	"github.com/sealsign/sealsign/internal/event"
	"github.com/sealsign/sealsign/internal/fault"
)

// Schedule is how a key ages.
type Schedule struct {
	Expires     time.Time // it signs nothing from then on; zero: never
	RotationDue time.Time // by max_age, from the import of the version that signs; zero: never
	Rotation    Rotation
	LastUsed    time.Time // to about a minute; after a crash it may be an hour before; zero: never
	IdleSince   time.Time // it has been without use since then, for idle_after; zero: it isn't idle
}

// Rotation is whether a key's rotation is due.
type Rotation string

// A rotation that is due is told, and stops nothing.
const (
	RotationSoon Rotation = "soon" // in a tenth of max_age, or in a week if that is less
	RotationDue  Rotation = "due"
)

// Week is the longest time ahead for which what is to come is warned of.
const Week = 7 * 24 * time.Hour

// aging is what each use of a key looks at and leaves.
type aging struct {
	time    func() time.Time
	expires atomic.Pointer[time.Time] // nil: never
	used    atomic.Int64              // Unix time of the last use, to usedEvery
}

// usedEvery is how exactly the last use is kept, in seconds: what all who sign with a
// key write all the time, they would wait for.
const usedEvery = 60

// expire sets when the key ends.
func (a *aging) expire(at time.Time) {
	if at.IsZero() {
		a.expires.Store(nil)
		return
	}
	a.expires.Store(&at)
}

// use notes that the key is used.
func (a *aging) use() {
	if now := a.time().Unix(); now-a.used.Load() >= usedEvery {
		a.used.Store(now)
	}
}

// lastUsed is the last use in this process; zero: none.
func (a *aging) lastUsed() time.Time {
	if at := a.used.Load(); at != 0 {
		return time.Unix(at, 0)
	}
	return time.Time{}
}

// expired refuses once the key's time is over: for cancels too.
func (k *key) expired() error {
	at := k.expires.Load()
	if at == nil || k.time().Before(*at) {
		return nil
	}
	return fault.New(fault.KeyExpired, "key %s expired at %s", k.name, at.UTC().Format(time.RFC3339)).
		WithHint("sealsign key rotate %[1]s, and set a later expires under [keys.%[1]s]; if that time hasn't come: sealsign doctor", k.name)
}

// Expire wipes what is loaded of keys whose time is over, and tells of each once. It is
// to be called from time to time: until then they refuse all the same. A later expires
// has them loaded again.
func (r *Ring) Expire() {
	for _, k := range r.sorted() {
		err := k.expired()
		r.mu.Lock()
		news := err != nil && !k.ended
		k.ended = err != nil
		r.mu.Unlock()
		if news {
			r.log.Warn("a key signs nothing any more", event.Key, event.KeyExpired, "key", k.name, "error", err)
		}
		if err != nil {
			r.unload(k, fault.From(err))
		}
	}
}

// scheduleLocked tells how the key ages.
func (r *Ring) scheduleLocked(k *key) Schedule {
	if k.spec == nil {
		return Schedule{}
	}
	s := Schedule{Expires: k.spec.Expires, LastUsed: later(k.lastUsed(), r.lastUse(k.name))}
	meta := k.metas[k.activeLocked()]
	if meta == nil {
		return s // nothing signs, or its file can't be read
	}
	now := r.time()
	if age := k.spec.MaxAge; age > 0 {
		s.RotationDue = meta.ImportedAt.Add(age)
		switch left := s.RotationDue.Sub(now); {
		case left <= 0:
			s.Rotation = RotationDue
		case left <= min(age/10, Week):
			s.Rotation = RotationSoon
		}
	}
	since := later(s.LastUsed, meta.ImportedAt)
	if idle := k.spec.IdleAfter; idle > 0 && now.Sub(since) >= idle {
		s.IdleSince = since
	}
	return s
}

// LastUses calls keep with each key that was used in this process, and its last use.
func (r *Ring) LastUses(keep func(name string, at time.Time)) {
	for _, k := range r.sorted() {
		if at := k.lastUsed(); !at.IsZero() {
			keep(k.name, at)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
