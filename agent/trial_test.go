package agent_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/agent/keyring"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/mockvenue"
)

// probes are the paths at which the venues are asked of a key.
var probes = map[string]string{
	"binance": "/sapi/v1/account/apiRestrictions", "bybit": "/v5/user/query-api", "okx": "/api/v5/account/config",
	"kraken": "/0/private/GetApiKeyInfo", "coinbase-exchange": "/accounts", "coinbase-cdp": "/api/v3/brokerage/key_permissions",
}

// rotating is a stage with one key that is tried.
func rotating(t *testing.T, venue, algorithm, probe string, o ...func(*scene)) *stage {
	t.Helper()
	sc := scene{
		keys: []key{{venue: venue, algorithm: algorithm, lines: fmt.Sprintf("probe = %q", probe), empty: true}},
		role: `allow = ["read", "trade"]`, venues: mockvenue.Options{Keep: 100_000},
	}
	for _, change := range o {
		change(&sc)
	}
	return set(t, sc)
}

// adds imports another credential of the only key, and gives its API key.
func (s *stage) adds() (apiKey string, err error) {
	s.Helper()
	k := s.scene.keys[0]
	issued := s.venues.Issue(k.venue, k.algorithm)
	_, err = s.agent.Import(s.Context(), s.me, k.called(), issued.JSON())
	return issued.APIKey, err
}

func (s *stage) mustAdd() string {
	s.Helper()
	apiKey, err := s.adds()
	if err != nil {
		s.Fatal(err)
	}
	return apiKey
}

// edits brings a config with these lines of the only key into force.
func (s *stage) edits(lines string) {
	s.Helper()
	s.scene.keys[0].lines = lines
	s.write(s.scene.role)
	if err := s.agent.Reload(); err != nil {
		s.Fatal(err)
	}
}

func (s *stage) info() keyring.Info {
	s.Helper()
	keys, err := s.agent.Keys(s.scene.keys[0].called())
	if err != nil {
		s.Fatal(err)
	}
	return keys[0]
}

// stands holds which version signs and which is wanted.
func (s *stage) stands(active, wanted int) {
	s.Helper()
	if i := s.info(); i.Active != active || i.Wanted != wanted {
		s.Errorf("version %d signs and %d is wanted, want %d and %d: %s", i.Active, i.Wanted, active, wanted, i.Problem)
	}
}

func (s *stage) active(n int) {
	s.Helper()
	s.eventually(fmt.Sprintf("the switch to version %d", n), func() bool { return s.info().Active == n })
}

// tried counts how often a venue was asked of a key.
func (s *stage) tried(apiKey string) (n int) {
	venue := s.scene.keys[0].venue
	for _, a := range s.venues.Arrivals(venue) {
		if a.Path == probes[venue] && a.APIKey == apiKey {
			n++
		}
	}
	return n
}

func TestAVersionIsTriedBeforeItSigns(t *testing.T) {
	for venue, algorithm := range map[string]string{
		"binance": "ed25519", "bybit": "hmac-sha256", "okx": "hmac-sha256", "kraken": "hmac-sha512", "coinbase-exchange": "hmac-sha256", "coinbase-cdp": "es256",
	} {
		t.Run(venue, func(t *testing.T) {
			s := rotating(t, venue, algorithm, "auto")
			s.mustAdd()
			s.stands(1, 1)
			second := s.mustAdd()
			s.active(2)
			s.stands(2, 2)
			if n := s.tried(second); n != 1 {
				t.Errorf("the venue was asked %d times", n)
			}
			decision := s.recorded("the trial", func(r *audit.Record) bool {
				return r.Kind == audit.KindDecision && r.Version == 2 && r.Rule == "keys."+venue+".probe"
			})
			if decision.Decision != audit.Allow || decision.Operation != "read" || decision.Caller != "sealsignd" || decision.Path != probes[venue] || decision.Key != venue {
				t.Errorf("recorded %+v", decision)
			}
			outcome := s.recorded("its outcome", func(r *audit.Record) bool { return r.Kind == audit.KindOutcome && r.Of == decision.ID })
			if outcome.Status != 200 || outcome.Sent != "yes" {
				t.Errorf("recorded %+v", outcome)
			}
			if problems := s.venues.Problems(); len(problems) > 0 {
				t.Error(problems)
			}
		})
	}
}

// A version that the venue doesn't take never signs anything else, and nobody asks again.
func TestAVersionThatTheVenueRefuses(t *testing.T) {
	for venue, test := range map[string]struct{ algorithm, says string }{
		"binance": {"hmac-sha256", "status 401, code -2015"}, "bybit": {"hmac-sha256", "status 200, code 10003"}, "okx": {"hmac-sha256", "status 401, code 50111"},
		"kraken": {"hmac-sha512", "status 200, code EAPI:Invalid key"}, "coinbase-exchange": {"hmac-sha256", "status 401"}, "coinbase-cdp": {"ed25519", "status 401"},
	} {
		t.Run(venue, func(t *testing.T) {
			s := rotating(t, venue, test.algorithm, "auto")
			s.mustAdd()
			s.edits("probe = \"auto\"\nversion = 1")
			second := s.mustAdd()
			s.venues.Disable(venue, second, true)
			s.edits(`probe = "auto"`)
			s.eventually("the refusal", func() bool { return strings.Contains(s.info().Problem, test.says) })
			s.stands(1, 2)
			if i := s.info(); i.State != "active" || !strings.Contains(i.Next, "key rebind "+venue) {
				t.Errorf("it is %s: %s, next: %s", i.State, i.Problem, i.Next)
			}
			s.edits("probe = \"auto\"\n") // no edit at all
			for range 3 {
				s.must(s.ask(venue, strings.Replace("GET "+probes[venue], "GET /0/", "POST /0/", 1)))
			}
			if n := s.tried(second); n != 1 {
				t.Errorf("the venue was asked %d times", n)
			}
			s.restart() // something that changes
			s.eventually("another trial", func() bool { return s.tried(second) == 2 && strings.Contains(s.info().Problem, test.says) })
			s.stands(1, 2)
			s.venues.Disable(venue, second, false)
			if err := s.agent.Rebind(t.Context(), s.me, venue); err != nil {
				t.Fatal(err)
			}
			s.active(2)
		})
	}
	t.Run("an import tells", func(t *testing.T) {
		s := rotating(t, "okx", "hmac-sha256", "auto")
		s.mustAdd()
		s.venues.Behave("okx", probes["okx"], mockvenue.Behaviour{Status: 401})
		if _, err := s.adds(); !errors.Is(err, fault.KeyTrialFailed) || !strings.Contains(err.Error(), "version 2 is stored") {
			t.Errorf("got %v", err)
		}
		s.stands(1, 2)
		s.venues.Behave("okx", probes["okx"], mockvenue.Behaviour{})
		s.mustAdd() // the next is tried for itself
		s.active(3)
	})
}

// cut is a network that can be down.
type cut struct {
	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func (c *cut) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, errors.New("down")
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cut) set(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

// A venue that can't be asked isn't one that refuses.
func TestAVenueThatCannotBeAsked(t *testing.T) {
	var line cut
	unreachable := func(sc *scene) { sc.options.Dial = line.dial }
	for name, fail := range map[string]func(s *stage, fails bool){
		"no connection": func(_ *stage, fails bool) { line.set(fails) },
		"status 503":    func(s *stage, fails bool) { s.behaves(fails, mockvenue.Behaviour{Status: 503}) },
		"status 429":    func(s *stage, fails bool) { s.behaves(fails, mockvenue.Behaviour{Status: 429, Retry: "7"}) },
		"an answer cut": func(s *stage, fails bool) { s.behaves(fails, mockvenue.Behaviour{Break: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("auto", func(t *testing.T) {
				s := rotating(t, "okx", "hmac-sha256", "auto", unreachable)
				s.mustAdd()
				fail(s, true)
				defer fail(s, false)
				s.mustAdd()
				s.active(2)
			})
			t.Run("required", func(t *testing.T) {
				s := rotating(t, "okx", "hmac-sha256", "required", unreachable)
				fail(s, true)
				defer fail(s, false)
				if _, err := s.adds(); !errors.Is(err, fault.VenueUnreachable) {
					t.Errorf("the first import: %v", err)
				}
				s.stands(0, 1)
				if i := s.info(); i.State != "pending" {
					t.Errorf("it is %s: %s", i.State, i.Problem)
				}
				s.refused(s.ask("okx", balance), fault.VenueUnreachable)
				fail(s, false)
				s.active(1) // by itself
				fail(s, true)
				if _, err := s.adds(); !errors.Is(err, fault.VenueUnreachable) {
					t.Errorf("the second import: %v", err)
				}
				s.stands(1, 2)
				fail(s, false)
				s.active(2)
				s.must(s.ask("okx", balance))
			})
		})
	}
}

func (s *stage) behaves(so bool, b mockvenue.Behaviour) {
	venue := s.scene.keys[0].venue
	if !so {
		b = mockvenue.Behaviour{}
	}
	s.venues.Behave(venue, probes[venue], b)
}

// hanging has the venue take its time with a trial, which goes on when it returns.
func hanging(t *testing.T, venue, algorithm string) (s *stage, second string, answer chan struct{}) {
	t.Helper()
	s = rotating(t, venue, algorithm, "auto")
	s.mustAdd()
	answer = make(chan struct{})
	s.eventually("the rights of the first", func() bool { return s.info().Versions[0].Rights != nil })
	s.behaves(true, mockvenue.Behaviour{Hold: answer})
	second = s.mustAdd() // it doesn't wait for the end
	s.eventually("the trial", func() bool { return s.tried(second) == 1 })
	s.stands(1, 2)
	if i := s.info(); !strings.Contains(i.Problem, "is being tried") {
		t.Errorf("the problem is %q", i.Problem)
	}
	return s, second, answer
}

func TestAVenueThatHangs(t *testing.T) {
	read := strings.Replace("GET "+probes["binance"], probes["binance"], "/api/v3/account", 1)
	t.Run("holds nothing up", func(t *testing.T) {
		s, _, answer := hanging(t, "binance", "hmac-sha256")
		s.must(s.ask("binance", read))
		third := s.venues.Issue("binance", "hmac-sha256")
		s.edits("probe = \"auto\"\nversion = 1")
		if _, err := s.agent.Import(t.Context(), s.me, "binance", third.JSON()); err != nil {
			t.Error(err)
		}
		s.stands(1, 1)
		close(answer)
		s.must(s.ask("binance", read))
		s.stands(1, 1)
	})
	t.Run("has an end", func(t *testing.T) {
		s, _, _ := hanging(t, "binance", "hmac-sha256")
		for deadline := time.Now().Add(time.Minute); s.info().Active != 2; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the trial has no end")
			}
			s.must(s.ask("binance", read))
		}
	})
	for name, stop := range map[string]func(*stage) error{
		"is suspended": func(s *stage) error { return s.agent.Suspend(s.Context(), s.me, "binance", false) },
		"is revoked":   func(s *stage) error { return s.agent.Revoke(s.Context(), s.me, "binance", 2) },
	} {
		t.Run(name, func(t *testing.T) {
			s, second, answer := hanging(t, "binance", "hmac-sha256")
			if err := stop(s); err != nil {
				t.Fatal(err)
			}
			s.recorded("the trial's end", func(r *audit.Record) bool { return r.Kind == audit.KindOutcome && r.Version == 2 && r.Sent != "yes" })
			close(answer)
			s.venues.Reset()
			if i := s.info(); i.Active != 1 {
				t.Errorf("version %d signs", i.Active)
			}
			if name == "is revoked" {
				s.must(s.ask("binance", read))
			} else {
				s.refused(s.ask("binance", read), fault.KeySuspended)
				s.nothingArrivedAt("binance")
				if err := s.agent.Resume(t.Context(), s.me, "binance"); err != nil {
					t.Fatal(err)
				}
				s.must(s.ask("binance", read)) // with the first; and the second is tried again
				s.active(2)
			}
			if n := s.tried(second); name == "is revoked" && n > 0 {
				t.Errorf("it was tried %d times more", n)
			}
		})
	}
	t.Run("a nonce key", func(t *testing.T) {
		s, _, answer := hanging(t, "kraken", "hmac-sha512")
		done := make(chan struct{})
		go func() { s.must(s.ask("kraken", krakenBalance)); close(done) }()
		s.queued(1) // one of its requests in flight
		close(answer)
		<-done
		s.active(2)
		if problems := s.venues.Problems(); len(problems) > 0 {
			t.Error(problems)
		}
	})
}

// Of edits that follow on each other the last counts.
func TestTwoEditsAtOnce(t *testing.T) {
	s := rotating(t, "okx", "hmac-sha256", "auto")
	s.edits("probe = \"auto\"\nversion = 1")
	for range 3 {
		s.mustAdd()
	}
	for _, next := range []int{3, 2, 1} {
		s.edits("probe = \"auto\"\nversion = 2")
		s.edits(fmt.Sprintf("probe = \"auto\"\nversion = %d", next))
		s.active(next)
		s.stands(next, next)
		s.must(s.ask("okx", balance))
		if i := s.info(); i.Problem != "" {
			t.Errorf("the problem is %q", i.Problem)
		}
	}
}

func TestProbeOff(t *testing.T) {
	s := rotating(t, "okx", "hmac-sha256", "off")
	s.mustAdd()
	s.venues.Disable("okx", s.mustAdd(), true)
	s.stands(2, 2)
	s.nothingArrivedAt("okx")
}
