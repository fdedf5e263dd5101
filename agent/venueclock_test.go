package agent_test

import (
	"encoding/json"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/mockvenue"
)

// skewed is a clock that is off by an adjustable time.
type skewed struct{ by atomic.Int64 }

func (c *skewed) now() time.Time { return time.Now().Add(time.Duration(c.by.Load())) }

const balance = "GET /api/v5/account/balance"

// stampOf is how far the last request's timestamp is from now.
func (s *stage) stampOf() time.Duration {
	s.Helper()
	arrived := s.arrived("okx")
	at, err := time.Parse("2006-01-02T15:04:05.000Z", arrived[len(arrived)-1].Header.Get("Ok-Access-Timestamp"))
	if err != nil {
		s.Fatal(err)
	}
	return time.Until(at)
}

func near(got, want time.Duration) bool { return (got - want).Abs() < 500*time.Millisecond }

func TestTimestampsFollowTheVenue(t *testing.T) {
	var clock skewed
	clock.by.Store(int64(time.Second))
	s := set(t, scene{venues: mockvenue.Options{Now: clock.now}, role: `allow = ["read", "trade", "cancel", "session"]` + "\n" + `release = "unbound"`})
	s.must(s.ask("okx", balance))
	if by := s.stampOf(); !near(by, 0) {
		t.Errorf("before the venue's clock is known, the timestamp is %v off", by)
	}
	s.eventually("the correction", func() bool {
		s.must(s.ask("okx", balance))
		return near(s.stampOf(), time.Second)
	})
	answer, err := s.agent.Do(t.Context(), s.me, &agent.Ask{Key: "okx", Mode: policy.Login})
	if err != nil {
		t.Fatal(err)
	}
	var login struct{ Args []struct{ Timestamp string } }
	if err := json.Unmarshal(answer.Message, &login); err != nil {
		t.Fatal(err)
	}
	at, err := strconv.ParseInt(login.Args[0].Timestamp, 10, 64)
	if by := time.Until(time.Unix(at, 0)); err != nil || by < -200*time.Millisecond || by > 1200*time.Millisecond { // whole seconds
		t.Errorf("the login's timestamp is %v off, %v", by, err)
	}
	all := s.records()
	if last := all[len(all)-1]; last.Host == "" || last.Path != "/ws/v5/private" {
		t.Errorf("the login is recorded as %s %s", last.Host, last.Path)
	}
}

func TestAHostThatIsFarOff(t *testing.T) {
	var clock skewed
	clock.by.Store(int64(-10 * time.Second))
	s := set(t, scene{options: agent.Options{Now: clock.now}})
	_, err := s.do(t.Context(), s.ask("okx", balance)) // the clocks aren't compared yet
	if err != nil {
		t.Error(err)
	}
	s.eventually("the refusal", func() bool {
		_, err = s.do(t.Context(), s.ask("okx", balance))
		return err != nil
	})
	s.venues.Reset()
	for _, ask := range []*agent.Ask{s.ask("okx", balance), release(s.ask("okx", balance))} {
		if refusal := s.refused(ask, fault.ClockSkew); refusal.Hint == "" {
			t.Error("it doesn't say what to do")
		}
	}
	s.nothingArrived()
	s.must(s.ask("okx", "GET /api/v5/market/tickers"))
	s.must(s.ask("acme", "GET /account")) // a venue that doesn't tell its time

	clock.by.Store(0) // the operator sets the clock
	s.eventually("its return", func() bool {
		_, err := s.do(t.Context(), s.ask("okx", balance))
		return err == nil
	})
}

// What a venue doesn't tell, or not soon, isn't waited for.
func TestAVenueThatDoesNotTellItsTime(t *testing.T) {
	for name, behaviour := range map[string]mockvenue.Behaviour{
		"an error":       {Status: 500},
		"something else": {Redirect: "https://example.com/"},
		"too late":       {Hold: make(chan struct{})},
		"without an end": {Chunks: 1 << 20, Every: 10 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			s := set(t, scene{keys: []key{{venue: "okx", algorithm: "hmac-sha256"}}})
			s.venues.Behave("okx", "/api/v5/public/time", behaviour)
			for range 3 {
				s.must(s.ask("okx", balance))
				if by := s.stampOf(); !near(by, 0) {
					t.Errorf("the timestamp is %v off", by)
				}
			}
		})
	}
}
