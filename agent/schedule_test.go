package agent_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/mockvenue"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

func yes() bool { return true }

// ends is the line of a key that expires so long from now.
func ends(in time.Duration) string {
	return "expires = " + time.Now().Add(in).UTC().Format(time.RFC3339)
}

// aging sets a stage whose key acme has these lines, with its clock. Acme doesn't tell
// its time, so that nobody but the kernel vouches for the host's clock.
func aging(t *testing.T, lines string, o agent.Options) (*stage, *skewed) {
	clock := new(skewed)
	o.Now = clock.now
	return set(t, scene{keys: []key{{venue: "acme", algorithm: "hmac-sha256", lines: lines}}, options: o}), clock
}

// relined gives the key of an aging stage other lines.
func (s *stage) relined(lines string) {
	s.Helper()
	s.scene.keys[0].lines = lines
	s.write(s.scene.role)
	if err := s.agent.Reload(); err != nil {
		s.Fatal(err)
	}
}

func (s *stage) expired() {
	s.Helper()
	refusal := s.refused(s.ask("acme", "GET /account"), fault.KeyExpired)
	if !strings.Contains(refusal.Hint, "sealsign key rotate acme") {
		s.Errorf("the hint is %q", refusal.Hint)
	}
}

// signs holds that the key signs; the venue may not like its time.
func (s *stage) signs() {
	s.Helper()
	if _, err := s.do(s.Context(), s.ask("acme", "GET /account")); err != nil {
		s.Error(err)
	}
}

func TestAClockThatIsSetBackRevivesNoKey(t *testing.T) {
	s, clock := aging(t, ends(time.Hour), agent.Options{Synchronised: yes})
	s.signs()
	clock.by.Store(int64(2 * time.Hour))
	s.expired()
	for _, by := range []time.Duration{-year, year, -year, 0} {
		clock.by.Store(int64(by))
		s.expired()
		s.restart()
		s.expired()
	}
	s.relined(ends(2 * year)) // an edit revives it, whatever the clock
	s.signs()
	s.relined("")
	s.signs()
}

// Once its time is over a key isn't in memory any more: it takes the TPM to bring it back.
func TestAnExpiredKeyLeavesMemory(t *testing.T) {
	p := &plug{dial: simulator(t)}
	s, clock := aging(t, ends(time.Hour), agent.Options{TPM: p.open, Synchronised: yes})
	s.signs()
	clock.by.Store(int64(2 * time.Hour))
	s.agent.Tend(clock.now())
	p.out.Store(true)
	s.relined(ends(2 * year))
	s.refused(s.ask("acme", "GET /account"), fault.TPMUnavailable)
	p.out.Store(false)
	s.eventually("its return", func() bool {
		_, err := s.do(t.Context(), s.ask("acme", "GET /account"))
		return err == nil
	})
}

// What was refused is on disk at once: a crash doesn't bring it back either.
func TestWhatHasEndedIsWrittenAtOnce(t *testing.T) {
	s, clock := aging(t, ends(time.Hour), agent.Options{Synchronised: yes})
	s.eventually("the first writing", func() bool { return s.agent.Kept().After(time.Now().Add(-time.Minute)) })
	first := s.agent.Kept()
	clock.by.Store(int64(30 * time.Minute))
	s.agent.Tend(clock.now())
	if kept := s.agent.Kept(); !kept.Equal(first) {
		t.Errorf("within the hour it is written again: %v, %v", first, kept)
	}
	clock.by.Store(int64(61 * time.Minute))
	s.expired()
	if kept := s.agent.Kept(); kept.Before(time.Now().Add(time.Hour)) {
		t.Errorf("the key has ended, and kept is %v", kept)
	}
}

// A clock that is ahead while nobody vouches for it ends keys only while it is.
func TestATimeThatNobodyVouchesForIsNotKept(t *testing.T) {
	var right atomic.Bool
	s, clock := aging(t, ends(time.Hour), agent.Options{Synchronised: right.Load})
	clock.by.Store(int64(year))
	s.expired()
	s.agent.Tend(time.Time{})
	s.restart()
	s.expired()
	clock.by.Store(0)
	s.signs()
	right.Store(true)
	s.agent.Tend(time.Time{})
	if seen := s.agent.Seen(); time.Since(seen).Abs() > time.Minute {
		t.Errorf("the latest time is %v", seen)
	}
}

func TestTheTimeIsReset(t *testing.T) {
	var right atomic.Bool
	right.Store(true)
	s, clock := aging(t, ends(time.Hour), agent.Options{Synchronised: right.Load})
	clock.by.Store(int64(year))
	s.expired()
	right.Store(false)
	clock.by.Store(0)
	s.expired()
	s.found(agent.Problem, "behind the latest time", "sealsign store recover --time")
	forgotten, err := s.agent.ResetTime(t.Context(), s.me)
	if err != nil || time.Until(forgotten) < year-time.Hour {
		t.Errorf("forgot %v, %v", forgotten, err)
	}
	s.signs()
	s.restart()
	s.signs()
}

// A venue that says the same time vouches for it; its word alone moves nothing.
func TestAVenueVouchesForTheTime(t *testing.T) {
	var host, venue skewed
	s := set(t, scene{
		keys:    []key{{venue: "okx", algorithm: "hmac-sha256"}, {venue: "acme", algorithm: "hmac-sha256", lines: ends(time.Hour)}},
		venues:  mockvenue.Options{Now: venue.now},
		options: agent.Options{Now: host.now},
	})
	venue.by.Store(int64(year))
	s.eventually("the skew", func() bool {
		_, err := s.do(t.Context(), s.ask("okx", balance))
		return fault.From(err).Reason == fault.ClockSkew
	})
	if seen := s.agent.Seen(); !seen.IsZero() {
		t.Errorf("a venue made it %v", seen)
	}
	s.signs()
	host.by.Store(int64(year))
	s.eventually("the agreement", func() bool {
		_, _ = s.do(t.Context(), s.ask("okx", balance))
		return time.Until(s.agent.Seen()) > year-time.Hour
	})
	host.by.Store(0)
	s.expired()
}

// A request that waits for its turn while its key ends sends nothing, a cancel neither.
func TestAKeyEndsInTheQueue(t *testing.T) {
	var clock skewed
	s := set(t, scene{keys: []key{{venue: "kraken", algorithm: "hmac-sha512", lines: ends(time.Hour)}}, options: agent.Options{Now: clock.now}})
	s.occupyTime()
	var asks sync.WaitGroup
	answer := make(chan struct{})
	s.venues.Behave("kraken", "/0/private/Balance", mockvenue.Behaviour{Hold: answer})
	asks.Go(func() { s.must(s.ask("kraken", krakenBalance)) })
	s.eventually("the arrival", func() bool { return len(s.arrived("kraken")) == 1 })
	asks.Go(func() { s.refused(s.ask("kraken", krakenOpen), fault.KeyExpired) })
	asks.Go(func() { s.refused(s.ask("kraken", krakenCancel, "txid=a"), fault.KeyExpired) })
	s.queued(2)
	clock.by.Store(int64(2 * time.Hour))
	close(answer)
	asks.Wait()
	s.inOrder(krakenBalance)
}

// occupyTime has Kraken not tell its time, which would differ from a clock that moves.
func (s *stage) occupyTime() {
	s.venues.Behave("kraken", "/0/public/Time", mockvenue.Behaviour{Status: 500})
}

// What was signed is not handed out if its key ends while it is being recorded.
func TestAKeyEndsBeforeItsSignatureLeaves(t *testing.T) {
	var clock skewed
	var armed atomic.Bool
	s := set(t, scene{
		keys: []key{{venue: "okx", algorithm: "hmac-sha256", lines: ends(time.Hour)}},
		role: `allow = ["read", "trade", "cancel", "session"]` + "\n" + `release = "unbound"`,
		options: agent.Options{Now: clock.now, Fault: func(op, _ string, n int) (int, error) {
			if op == "write" && armed.Load() {
				clock.by.Store(int64(2 * time.Hour))
			}
			return n, nil
		}},
	})
	s.venues.Behave("okx", "/api/v5/public/time", mockvenue.Behaviour{Status: 500})
	for name, ask := range map[string]*agent.Ask{
		"release": release(s.ask("okx", balance)), "forward": s.ask("okx", balance), "login": {Key: "okx", Mode: policy.Login},
	} {
		t.Run(name, func(t *testing.T) {
			clock.by.Store(0)
			if _, err := s.do(t.Context(), ask); err != nil {
				t.Fatal(err)
			}
			s.venues.Reset()
			armed.Store(true)
			answer, err := s.agent.Do(t.Context(), s.me, ask)
			armed.Store(false)
			if answer != nil || fault.From(err).Reason != fault.KeyExpired {
				t.Errorf("got %v, %v", answer, err)
			}
			s.nothingArrivedAt("okx")
		})
	}
}

// found holds that doctor has a finding with these words in it and its next step.
func (s *stage) found(level, what, next string) {
	s.Helper()
	findings := s.agent.Doctor(s.Context())
	if !slices.ContainsFunc(findings, func(f agent.Finding) bool {
		return f.Level == level && strings.Contains(f.What, what) && strings.Contains(f.Next, next)
	}) {
		s.Errorf("no %s with %q and %q in %+v", level, what, next, findings)
	}
}

func TestDoctorTellsHowKeysAge(t *testing.T) {
	s, clock := aging(t, "max_age = \"10d\"\nidle_after = \"30d\"\n"+ends(40*day), agent.Options{})
	clock.by.Store(int64(9*day + time.Hour))
	s.found(agent.Warning, "the rotation of acme is due at", "sealsign key rotate acme")
	clock.by.Store(int64(31 * day))
	s.found(agent.Warning, "the rotation of acme is due since", "sealsign key rotate acme")
	s.found(agent.Warning, "acme is not in use since", "sealsign key revoke acme")
	clock.by.Store(int64(39 * day))
	s.found(agent.Warning, "acme expires at", "[keys.acme]")
	clock.by.Store(int64(41 * day))
	s.found(agent.Problem, "key acme expired at", "sealsign key rotate acme")
}

// What is due is in the daemon's log once a day, and stops nothing.
func TestADueKeyIsInTheLogOnceADay(t *testing.T) {
	var text lines
	s, clock := aging(t, `max_age = "10d"`, agent.Options{Logger: slog.New(slog.NewTextHandler(&text, nil))})
	clock.by.Store(int64(11 * day))
	count := func(want int) {
		t.Helper()
		if got := text.count("the rotation of acme is due"); got != want {
			t.Errorf("it is in the log %d times, want %d", got, want)
		}
	}
	warned := s.agent.Tend(time.Time{})
	count(1)
	warned = s.agent.Tend(warned)
	count(1)
	clock.by.Store(int64(12*day - time.Hour))
	warned = s.agent.Tend(warned)
	count(1)
	clock.by.Store(int64(12 * day))
	s.agent.Tend(warned)
	count(2)
	s.signs()
}

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

func TestTheLastUseOutlivesARestart(t *testing.T) {
	s, clock := aging(t, `idle_after = "30d"`, agent.Options{})
	s.signs()
	used := clock.now()
	s.restart()
	clock.by.Store(int64(29 * day))
	key := func() string {
		infos, err := s.agent.Keys("acme")
		if err != nil {
			t.Fatal(err)
		}
		aged := infos[0].Schedule
		if by := aged.LastUsed.Sub(used).Abs(); by > 2*time.Minute {
			t.Errorf("the last use is %v off", by)
		}
		return fmt.Sprint(!aged.IdleSince.IsZero())
	}
	if key() != "false" {
		t.Error("it is idle too early")
	}
	clock.by.Store(int64(31 * day))
	if key() != "true" {
		t.Error("it isn't idle")
	}
}
