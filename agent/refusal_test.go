package agent_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

// Each step of the way refuses, and each refusal is in the log with its rule.
func TestEachStepRefuses(t *testing.T) {
	keys := append([]key{
		{venue: "bybit", algorithm: "hmac-sha256"}, {venue: "acme", algorithm: "hmac-sha256", name: "second"},
		{venue: "coinbase-exchange", algorithm: "hmac-sha256", empty: true},
	}, usualKeys...)
	s := set(t, scene{keys: keys, role: usualRole + `keys = ["acme", "second", "okx", "binance", "kraken", "coinbase-exchange"]` + "\n" + `symbols = ["BTCUSDT", "BTC-USDT"]`})
	if err := s.agent.Suspend(t.Context(), s.me, "kraken", false); err != nil {
		t.Fatal(err)
	}
	order := func(symbol string) string {
		return `{"instId":"` + symbol + `","tdMode":"cash","side":"buy","ordType":"limit","px":"1","sz":"1"}`
	}
	for name, test := range map[string]struct {
		ask       *agent.Ask
		who       *caller.Caller // nil: me
		reason    fault.Reason
		rule      string
		operation string
	}{
		"identify: whose process":           {s.ask("okx", "GET /api/v5/account/balance"), &caller.Caller{UID: 4242, PID: 4711}, fault.CallerUnknown, "callers", ""},
		"identify: which key":               {s.askAt("nobodys", s.venues.Host("okx"), "GET /api/v5/account/balance", ""), nil, fault.KeyUnknown, "", ""},
		"identify: a host of no key":        {s.askAt("", "api.example", "GET /account", ""), nil, fault.HostNotAllowed, "", ""},
		"identify: a host of another key":   {s.askAt("acme", s.venues.Host("okx"), "GET /account", ""), nil, fault.HostNotAllowed, "keys.acme.venue", ""},
		"identify: no key of mine is there": {s.askAt("", s.venues.Host("bybit"), "GET /v5/account/info", ""), nil, fault.KeyNotGranted, "callers.me.roles", ""},
		"classify: a parameter of no row":   {s.ask("okx", "POST /api/v5/trade/order", `{"instId":"BTC-USDT","attachAlgoOrds":[]}`), nil, fault.BadRequest, "", ""},
		"decide: the key":                   {s.ask("bybit", "GET /v5/account/info"), nil, fault.KeyNotGranted, "roles.all.keys", "read"},
		"decide: the operation":             {s.ask("acme", "POST /payouts"), nil, fault.OperationNotGranted, "roles.all.allow", "withdraw"},
		"decide: one of a batch":            {s.ask("okx", "POST /api/v5/trade/batch-orders", "["+order("BTC-USDT")+","+order("DOGE-USDT")+"]"), nil, fault.SymbolNotGranted, "roles.all.symbols", "trade"},
		"decide: the release":               {release(s.ask("binance", "GET /api/v3/account")), nil, fault.ReleaseNotBound, "roles.all.release", "read"},
		"render: a key without a version":   {s.ask("coinbase-exchange", "GET /accounts"), nil, fault.KeyEmpty, "roles.all.allow", "read"},
		"render: a key that is suspended":   {s.ask("kraken", "POST /0/private/Balance"), nil, fault.KeySuspended, "roles.all.allow", "read"},
	} {
		t.Run(name, func(t *testing.T) {
			who := test.who
			if who == nil {
				who = s.me
			}
			_, err := s.agent.Do(t.Context(), who, test.ask)
			var refusal *fault.Error
			if !errors.As(err, &refusal) || refusal.Reason != test.reason || refusal.Message == "" {
				t.Fatalf("got %v, want %s", err, test.reason)
			}
			r := test.ask.Request
			found := s.recorded(name, func(rec *audit.Record) bool {
				return rec.Reason == string(test.reason) && rec.Path == r.Path && rec.Host == r.Host && rec.Message == refusal.Message
			})
			if found.Kind != audit.KindDecision || found.Decision != audit.Deny || found.Rule != test.rule || found.Operation != test.operation ||
				found.Method != r.Method || found.Mode != string(test.ask.Mode) {
				t.Errorf("recorded %+v", found)
			}
			if known := test.who == nil; known && (found.Caller != "me" || found.PID != s.me.PID) || !known && (found.Caller != "" || found.UID != 4242 || found.PID != 4711) {
				t.Errorf("recorded of caller %q, uid %d, pid %d", found.Caller, found.UID, found.PID)
			}
		})
	}
	s.nothingArrived()
}

// A refusal that repeats what a caller has sent repeats little of it.
func TestRefusalsAreShort(t *testing.T) {
	s := set(t, scene{})
	ask := s.ask("acme", "GET /account")
	ask.Key = string(make([]byte, 1<<20))
	refusal := s.refused(ask, fault.KeyUnknown)
	if len(refusal.Message)+len(refusal.Hint) > 2000 {
		t.Errorf("the refusal has %d bytes", len(refusal.Message)+len(refusal.Hint))
	}
	if found := s.recorded("it", func(r *audit.Record) bool { return r.Reason == string(fault.KeyUnknown) }); len(found.Key) > 200 {
		t.Errorf("the record has %d bytes of the key's name", len(found.Key))
	}
	unread := &agent.Ask{Mode: policy.Forward}
	unread.Request.Host = strings.Repeat("a", 60_000)
	_ = s.agent.Refuse(s.me, unread, fault.New(fault.HostNotAllowed, "no"))
	if found := s.recorded("it", func(r *audit.Record) bool { return r.Reason == string(fault.HostNotAllowed) }); len(found.Host) > 200 {
		t.Errorf("the record has %d bytes of the host", len(found.Host))
	}
}

// A batch can't make its record, and what it takes to judge it, many times as long
// as it is itself: its refusal is in the log like any other.
func TestSwollenBatchIsRecorded(t *testing.T) {
	s := set(t, scene{})
	orders := strings.TrimSuffix(strings.Repeat(`{"type":"buy"},`, 4000), ",")
	s.refused(s.ask("kraken", "POST /0/private/AddOrderBatch", `{"pair":"`+strings.Repeat("X", 900_000)+`","orders":[`+orders+`]}`), fault.BadRequest)
	s.recorded("it", func(r *audit.Record) bool { return r.Path == "/0/private/AddOrderBatch" && r.Decision == audit.Deny })
	s.nothingArrivedAt("kraken")
}

// meddler is a TPM that does something else first, once.
type meddler struct {
	tpm.Transport
	first *func()
}

func (m meddler) Send(command []byte) ([]byte, error) {
	if do := *m.first; do != nil {
		*m.first = nil
		do()
	}
	return m.Transport.Send(command)
}

// What changes while a request is signed is seen before anything leaves.
func TestLastCheck(t *testing.T) {
	var first func()
	dial := simulator(t)
	s := set(t, scene{
		keys: []key{{venue: "okx", algorithm: "hmac-sha256", lines: `protection = "resident"`}},
		options: agent.Options{TPM: func() (tpm.Transport, error) {
			transport, err := dial()
			return meddler{transport, &first}, err
		}},
	})
	ask := func() *agent.Ask { return s.ask("okx", "GET /api/v5/account/balance") }
	for _, mode := range []func(*agent.Ask) *agent.Ask{release, func(a *agent.Ask) *agent.Ask { return a }} {
		s.must(ask()) // the key is loaded
		s.venues.Reset()

		who, kill := mortal(t)
		first = kill
		if _, err := s.agent.Do(t.Context(), who, mode(ask())); !errors.Is(err, fault.CallerGone) {
			t.Errorf("the caller ended while the TPM signed: %v", err)
		}
		all := s.records()
		decision, outcome := all[len(all)-2], all[len(all)-1]
		if decision.Decision != audit.Allow || outcome.Kind != audit.KindOutcome || outcome.Of != decision.ID || outcome.Reason != string(fault.CallerGone) || outcome.Sent != "no" {
			t.Errorf("recorded %+v and %+v", decision, outcome)
		}

		first = func() {
			if err := s.agent.Suspend(t.Context(), s.me, "okx", false); err != nil {
				t.Error(err)
			}
		}
		s.refused(mode(ask()), fault.KeySuspended)
		s.nothingArrived()
		if err := s.agent.Resume(t.Context(), s.me, "okx"); err != nil {
			t.Fatal(err)
		}
	}
}
