package agent_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/mockvenue"
)

// dialer connects, or while the venues are away finds nobody there.
func dialer(away *atomic.Bool) agent.Dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if away.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}

// What came of a forwarded request is recorded with its decision's id.
func TestOutcomes(t *testing.T) {
	s := set(t, scene{})
	for name, test := range map[string]struct {
		path    string
		status  int
		broken  bool
		reason  string
		message string
	}{
		"answered":             {"/account", 200, false, "", ""},
		"the venue's limit":    {"/limited", 429, false, "", ""},
		"a redirect":           {"/redirect", 302, false, "", ""},
		"an answer broken off": {"/break", 200, true, "VENUE_UNREACHABLE", "the venue's answer broke off"},
	} {
		t.Run(name, func(t *testing.T) {
			s.venues.Reset()
			answer, err := s.agent.Do(t.Context(), s.me, s.ask("acme", "GET "+test.path))
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, answer.Response.Body)
			if answer.Response.StatusCode != test.status || (err != nil) != test.broken {
				t.Errorf("got status %d, then %v", answer.Response.StatusCode, err)
			}
			answer.Response.Body.Close()
			answer.Response.Body.Close() // once more is nothing more
			all := s.records()
			decision, outcome := all[len(all)-2], all[len(all)-1]
			if decision.ID != answer.Record || decision.Decision != audit.Allow || outcome.Kind != audit.KindOutcome || outcome.Of != decision.ID ||
				outcome.Status != test.status || outcome.Sent != "yes" || outcome.Reason != test.reason || outcome.Message != test.message || outcome.DurationUS <= 0 {
				t.Errorf("recorded %+v and %+v", decision, outcome)
			}
			if n := len(s.arrived("acme")); n != 1 {
				t.Errorf("%d requests arrived", n)
			}
		})
	}
	t.Run("an answer that the caller doesn't wait for", func(t *testing.T) {
		s.venues.Behave("acme", "/endless", mockvenue.Behaviour{Chunks: 1 << 20})
		ctx, leave := context.WithCancel(t.Context())
		answer, err := s.agent.Do(ctx, s.me, s.ask("acme", "GET /endless"))
		if err != nil {
			t.Fatal(err)
		}
		leave()
		if _, err := io.Copy(io.Discard, answer.Response.Body); !errors.Is(err, context.Canceled) {
			t.Errorf("the body ends with %v", err)
		}
		answer.Response.Body.Close()
		all := s.records()
		if last := all[len(all)-1]; last.Reason != string(fault.CallerGone) || last.Sent != "yes" || last.Status != 200 {
			t.Errorf("recorded %+v", last)
		}
	})
}

// A venue gets each request once, also where it closes a kept connection on it:
// whether it was carried out, nobody knows.
func TestNothingIsSentTwice(t *testing.T) {
	var arrived atomic.Int32
	var hangUp atomic.Bool
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		if hangUp.Load() {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
		}
	}))
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	host := server.Listener.Addr().String()
	s := set(t, scene{
		keys:   []key{{venue: "raw", algorithm: "hmac-sha256", empty: true}},
		role:   `allow = ["read", "trade"]`,
		config: "[venues.raw]\nhosts = { testnet = [\"" + host + "\"] }\nca_file = \"" + ca + "\"\n" + rawVenue,
	})
	if _, err := s.agent.Import(t.Context(), s.me, "raw", []byte(`{"api_key":"k","secret":"s"}`)); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"GET /account", "POST /orders", "DELETE /orders"} {
		t.Run(line, func(t *testing.T) {
			s.must(s.askAt("raw", host, line, "")) // now there is a connection to keep
			arrived.Store(0)
			hangUp.Store(true)
			defer hangUp.Store(false)
			refusal := s.refused(s.askAt("raw", host, line, ""), fault.VenueUnreachable)
			if !refusal.MaybeSent || arrived.Load() != 1 {
				t.Errorf("MaybeSent is %v, and %d arrived", refusal.MaybeSent, arrived.Load())
			}
		})
	}
}

const rawVenue = `algorithm = "hmac-sha256"
message = "{timestamp_ms}{method}{path}{?query}{body}"
headers = { "RAW-KEY" = "{api_key}", "RAW-SIGN" = "{signature_hex}" }
operations = { trade = ["POST /orders", "DELETE /orders"], read = ["GET /*"] }
`

// A certificate that isn't the venue's is refused, and nothing is sent.
func TestOnlyTheVenuesCertificateWillDo(t *testing.T) {
	var arrived atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived.Add(1) }))
	server.Config.ErrorLog = nil
	defer server.Close()
	s := set(t, scene{
		keys:   []key{{venue: "raw", algorithm: "hmac-sha256", empty: true}},
		config: "[venues.raw]\nhosts = { testnet = [\"" + server.Listener.Addr().String() + "\"] }\n" + rawVenue,
	})
	if _, err := s.agent.Import(t.Context(), s.me, "raw", []byte(`{"api_key":"k","secret":"s"}`)); err != nil {
		t.Fatal(err)
	}
	refusal := s.refused(s.askAt("raw", server.Listener.Addr().String(), "GET /account", ""), fault.VenueUnreachable)
	if refusal.MaybeSent || arrived.Load() > 0 {
		t.Errorf("%s; %d arrived", refusal.Message, arrived.Load())
	}
}

// What is public goes out without a credential, whatever the key's state.
func TestPublicEndpoints(t *testing.T) {
	keys := []key{
		{venue: "okx", algorithm: "hmac-sha256"}, {venue: "okx", algorithm: "hmac-sha256", name: "okx-second"},
		{venue: "kraken", algorithm: "hmac-sha512"}, {venue: "binance", algorithm: "hmac-sha256", empty: true},
	}
	s := set(t, scene{keys: keys})
	if err := s.agent.Suspend(t.Context(), s.me, "kraken", false); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		venue string
		ask   *agent.Ask
	}{
		"of a key":               {"okx", s.ask("okx", "GET /api/v5/market/tickers")},
		"of one of several keys": {"okx", s.askAt("", s.venues.Host("okx"), "GET /api/v5/market/tickers", "")},
		"of a suspended key":     {"kraken", s.ask("kraken", "GET /0/public/Depth?pair=XBTUSD")},
		"of a key without one":   {"binance", s.ask("binance", "GET /api/v3/depth?symbol=BTCUSDT")},
	} {
		t.Run(name, func(t *testing.T) {
			s.venues.Reset()
			s.must(test.ask)
			arrived := s.arrived(test.venue)
			if len(arrived) != 1 || arrived[0].Kind != mockvenue.Public || arrived[0].APIKey != "" || arrived[0].Problem != "" {
				t.Errorf("at the venue arrived %+v", arrived)
			}
		})
	}
	t.Run("what isn't wants one key", func(t *testing.T) {
		s.venues.Reset()
		refusal := s.refused(s.askAt("", s.venues.Host("okx"), "GET /api/v5/account/balance", ""), fault.BadRequest)
		if refusal.Hint == "" {
			t.Error("it doesn't say how")
		}
		s.nothingArrived()
		s.must(s.askAt("okx-second", s.venues.Host("okx"), "GET /api/v5/account/balance", ""))
	})
}

// A key that is suspended, or a caller that ends, while the venue is still being
// connected to: nothing leaves.
func TestNothingLeavesAfterTheConnection(t *testing.T) {
	for name, test := range map[string]struct {
		change func(s *stage, end func())
		reason fault.Reason
	}{
		"the key is suspended": {func(s *stage, _ func()) {
			if err := s.agent.Suspend(s.Context(), s.me, "acme", false); err != nil {
				s.Fatal(err)
			}
		}, fault.KeySuspended},
		"the caller ends": {func(_ *stage, end func()) { end() }, fault.CallerGone},
	} {
		t.Run(name, func(t *testing.T) {
			dialing, dial := make(chan struct{}), make(chan struct{})
			s := set(t, scene{options: agent.Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				dialing <- struct{}{}
				<-dial
				return new(net.Dialer).DialContext(ctx, network, address)
			}}})
			who, end := mortal(t)
			refused := make(chan error)
			go func() {
				_, err := s.agent.Do(t.Context(), who, s.ask("acme", "POST /orders"))
				refused <- err
			}()
			<-dialing
			test.change(s, end)
			close(dial)
			if err := <-refused; !errors.Is(err, test.reason) {
				t.Errorf("got %v, want %s", err, test.reason)
			}
			found := s.recorded("the refusal", func(r *audit.Record) bool { return r.Reason == string(test.reason) })
			if found.Kind != audit.KindOutcome || found.Sent != "no" {
				t.Errorf("recorded %+v", found)
			}
			s.nothingArrivedAt("acme")
		})
	}
}
