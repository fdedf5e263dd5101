package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/internal/mockvenue"
)

func TestRightsAtTheVenue(t *testing.T) {
	end := time.Now().Add(72 * time.Hour).UTC().Truncate(time.Second)
	for venue, test := range map[string]struct {
		algorithm string
		untold    []string // what the venue doesn't tell
	}{
		"binance": {"hmac-sha256", nil}, "bybit": {"hmac-sha256", nil}, "kraken": {"hmac-sha512", nil},
		"okx": {"hmac-sha256", []string{"ends"}}, "coinbase-cdp": {"es256", []string{"ends", "every address"}},
	} {
		t.Run(venue, func(t *testing.T) {
			s := rotating(t, venue, test.algorithm, "auto")
			issued := s.venues.Issue(venue, test.algorithm)
			s.venues.Grant(venue, issued.APIKey, mockvenue.Rights{Withdraw: true, Expires: end})
			if _, err := s.agent.Import(t.Context(), s.me, venue, issued.JSON()); err != nil {
				t.Fatal(err)
			}
			s.eventually("the rights", func() bool { return s.info().Versions[0].Rights != nil })
			s.warned(t, "can withdraw", "every address", "ends", test.untold)
			s.restart()
			s.warned(t, "can withdraw", "every address", "ends", test.untold) // it is kept
			s.mustAdd()                                                       // of few rights
			s.active(2)
			s.warned(t, "", "", "", nil)
			if n := s.tried(issued.APIKey); n != 1 {
				t.Errorf("the venue was asked %d times", n)
			}
		})
	}
	t.Run("a role that may withdraw", func(t *testing.T) {
		s := rotating(t, "okx", "hmac-sha256", "auto", func(sc *scene) { sc.role = `allow = ["read", "withdraw"]` })
		issued := s.venues.Issue("okx", "hmac-sha256")
		s.venues.Grant("okx", issued.APIKey, mockvenue.Rights{Withdraw: true, IPs: []string{"192.0.2.1"}})
		if _, err := s.agent.Import(t.Context(), s.me, "okx", issued.JSON()); err != nil {
			t.Fatal(err)
		}
		s.eventually("the rights", func() bool { return s.info().Versions[0].Rights != nil })
		s.warned(t, "", "", "", nil)
	})
	t.Run("what can't be read is named", func(t *testing.T) {
		s := rotating(t, "okx", "hmac-sha256", "auto")
		s.behaves(true, mockvenue.Behaviour{Status: 503})
		s.mustAdd() // nobody waits for it
		s.eventually("the failure", func() bool { return strings.Contains(s.info().RightsProblem, "503") })
		s.behaves(false, mockvenue.Behaviour{})
		for deadline := time.Now().Add(time.Minute); s.info().Versions[0].Rights == nil; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the rights aren't read again")
			}
		}
		if i := s.info(); i.RightsProblem != "" {
			t.Errorf("the problem stays: %s", i.RightsProblem)
		}
	})
}

// warned holds what doctor says of the rights of the key.
func (s *stage) warned(t *testing.T, withdraw, addresses, ends string, untold []string) {
	t.Helper()
	found := ""
	for _, f := range s.agent.Doctor(t.Context()) {
		if f.Area == "keys" && f.Level != agent.Fine {
			found += f.What + "\n"
			if f.Next == "" {
				t.Errorf("no next step for %q", f.What)
			}
		}
	}
	for word, want := range map[string]string{"can withdraw": withdraw, "every address": addresses, "ends": ends} {
		for _, u := range untold {
			if word == u {
				want = ""
			}
		}
		if strings.Contains(found, word) != (want != "") {
			t.Errorf("of %q doctor says %q", word, found)
		}
	}
}
