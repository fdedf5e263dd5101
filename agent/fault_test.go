package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/mockvenue"
)

// disk fails while it is told to, the files of one part only.
type disk struct{ part atomic.Pointer[string] }

func (d *disk) fail(part string) { d.part.Store(&part) }
func (d *disk) mend()            { d.part.Store(nil) }

func (d *disk) ask(_, path string, n int) (int, error) {
	if part := d.part.Load(); part != nil && strings.Contains(path, *part) {
		return 0, syscall.EIO
	}
	return n, nil
}

// Without a record nothing leaves, and what takes power away works all the same.
func TestNothingLeavesWithoutARecord(t *testing.T) {
	var d disk
	s := set(t, scene{role: usualRole + `rate = "2/h"`, options: agent.Options{Fault: d.ask}})
	ctx := t.Context()
	d.fail("/audit")
	for _, ask := range []*agent.Ask{
		s.ask("okx", "GET /api/v5/account/balance"), release(s.ask("okx", "GET /api/v5/account/balance")),
		s.ask("kraken", "POST /0/private/Balance"), s.ask("okx", "GET /api/v5/market/tickers"),
	} {
		if refusal := s.refused(ask, fault.AuditUnavailable); refusal.RetryAfter == 0 {
			t.Error("it doesn't say when to try again")
		}
	}
	s.nothingArrived()

	if _, err := s.agent.Import(ctx, s.me, "okx", s.venues.Credential("okx", "hmac-sha256").JSON()); !errors.Is(err, fault.AuditUnavailable) {
		t.Errorf("an import gets %v", err)
	}
	if keys, err := s.agent.Keys("okx"); err != nil || len(keys[0].Versions) != 1 {
		t.Errorf("the key has %+v, %v", keys, err)
	}
	if err := s.agent.Suspend(ctx, s.me, "okx", false); !errors.Is(err, fault.AuditUnavailable) || !strings.Contains(err.Error(), "in force") {
		t.Errorf("a suspension gets %v", err)
	}
	if err := s.agent.Resume(ctx, s.me, "okx"); !errors.Is(err, fault.AuditUnavailable) {
		t.Errorf("resuming gets %v", err)
	}
	if err := s.agent.Revoke(ctx, s.me, "kraken", 0); !errors.Is(err, fault.AuditUnavailable) || !strings.Contains(err.Error(), "in force") {
		t.Errorf("a revocation gets %v", err)
	}
	d.mend()
	s.eventually("the log's recovery", func() bool { return s.agent.Status().Audit.Problem == nil })
	s.refused(s.ask("okx", "GET /api/v5/account/balance"), fault.KeySuspended)
	s.refused(s.ask("kraken", "POST /0/private/Balance"), fault.KeyRevoked)
	if err := s.agent.Resume(ctx, s.me, "okx"); err != nil {
		t.Error(err)
	}
	s.must(s.ask("okx", "GET /api/v5/account/balance")) // what was refused was not charged
	s.must(s.ask("okx", "GET /api/v5/account/balance"))
	s.recorded("the outage", func(r *audit.Record) bool {
		return r.Kind == audit.KindRecovery && strings.Contains(r.Message, "were refused")
	})
}

// Without the ledger there are no nonces and no limits, and what needs neither goes on.
func TestWithoutTheLedger(t *testing.T) {
	var d disk
	d.fail("/ledger")
	s := set(t, scene{options: agent.Options{Fault: d.ask}})
	s.refused(s.ask("kraken", "POST /0/private/Balance"), fault.LedgerUnavailable)
	s.nothingArrived()
	s.must(s.ask("okx", "GET /api/v5/account/balance"))
	found := false
	for _, f := range s.agent.Doctor(t.Context()) {
		found = found || f.Area == "ledger" && f.Level == agent.Problem && f.Next != ""
	}
	if !found {
		t.Error("doctor doesn't say so")
	}
	d.mend()
	s.eventually("the ledger's recovery", func() bool {
		_, err := s.do(t.Context(), s.ask("kraken", "POST /0/private/Balance"))
		return err == nil
	})
}

// A daemon starts with a log that it can't use, so that an operator finds it.
func TestStartWithoutALog(t *testing.T) {
	s := set(t, scene{})
	s.agent.Stop()
	folder := filepath.Join(s.state(), "audit")
	if err := errors.Join(os.Rename(folder, folder+".away"), os.WriteFile(folder, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.refused(s.ask("okx", "GET /api/v5/account/balance"), fault.AuditUnavailable)
	if s.agent.Status().Audit.Problem == nil {
		t.Error("status says that the log is fine")
	}
	if err := errors.Join(os.Remove(folder), os.Rename(folder+".away", folder)); err != nil {
		t.Fatal(err)
	}
	s.eventually("the log's recovery", func() bool {
		_, err := s.do(t.Context(), s.ask("okx", "GET /api/v5/account/balance"))
		return err == nil
	})
}

// A request is charged unless it is known not to have left.
func TestCharges(t *testing.T) {
	var away atomic.Bool
	s := set(t, scene{role: usualRole + `rate = "1/h"`, options: agent.Options{Dial: dialer(&away)}})
	ask := func() *agent.Ask { return s.ask("okx", "GET /api/v5/account/balance") }
	ctx := t.Context()

	t.Run("given back when refused after it was taken", func(*testing.T) {
		if err := s.agent.Suspend(ctx, s.me, "okx", false); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			s.refused(ask(), fault.KeySuspended)
		}
		if err := s.agent.Resume(ctx, s.me, "okx"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("given back when the venue isn't reached", func(*testing.T) {
		away.Store(true)
		for range 3 {
			if refusal := s.refused(ask(), fault.VenueUnreachable); refusal.MaybeSent {
				t.Error("it says that it may have been sent")
			}
		}
		away.Store(false)
	})
	t.Run("kept when it may have been sent", func(*testing.T) {
		s.venues.Behave("okx", "/api/v5/account/balance", mockvenue.Behaviour{Hold: make(chan struct{})})
		leaves, leave := context.WithCancel(ctx)
		go func() {
			s.eventually("the arrival", func() bool { return len(s.arrived("okx")) == 1 })
			leave()
		}()
		_, err := s.agent.Do(leaves, s.me, ask())
		var refusal *fault.Error
		if !errors.As(err, &refusal) || refusal.Reason != fault.VenueUnreachable || !refusal.MaybeSent || refusal.Hint == "" {
			t.Errorf("got %+v", err)
		}
		s.recorded("it", func(r *audit.Record) bool { return r.Kind == audit.KindOutcome && r.Sent == "unknown" })
		if limited := s.refused(ask(), fault.RateLimited); limited.RetryAfter < 30*time.Minute || limited.Rule != "roles.all.rate/okx" {
			t.Errorf("got %+v", limited)
		}
	})
	t.Run("not for what is public", func(*testing.T) {
		s.must(s.ask("okx", "GET /api/v5/market/tickers"))
	})
	t.Run("for each key", func(*testing.T) { s.must(s.ask("binance", "GET /api/v3/account")) })
	t.Run("and after a restart", func(*testing.T) {
		s.restart()
		s.refused(ask(), fault.RateLimited)
	})
	if n := len(s.arrived("okx")); n != 2 {
		t.Errorf("%d requests arrived", n)
	}
}

// A defect in a step costs its request alone, and is recorded.
func TestAStepThatPanics(t *testing.T) {
	var left atomic.Int32 // until the clock panics
	s := set(t, scene{role: usualRole + `rate = "100/s"` + "\n", options: agent.Options{Now: func() time.Time {
		if left.Add(-1) == 0 {
			panic("a defect")
		}
		return time.Now()
	}}})
	s.must(s.ask("okx", balance))
	known := uint64(len(s.records()))
	left.Store(2) // the request's begin, and then its charge
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the defect is hidden")
			}
		}()
		_, _ = s.agent.Do(t.Context(), s.me, s.ask("okx", balance))
	}()
	s.recorded("the refusal", func(r *audit.Record) bool { return r.ID >= known && r.Reason == string(fault.InternalError) })
	s.must(s.ask("okx", balance))
}
