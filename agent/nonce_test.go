package agent_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/mockvenue"
)

const (
	krakenBalance = "POST /0/private/Balance"
	krakenOpen    = "POST /0/private/OpenOrders"
	krakenCancel  = "POST /0/private/CancelOrder"
)

// occupy has a request of the nonce key in flight, which the venue answers when
// the behaviour lets it. It returns when the request has arrived.
func (s *stage) occupy(ctx context.Context, b mockvenue.Behaviour, asks *sync.WaitGroup) {
	s.Helper()
	s.venues.Reset()
	s.venues.Behave("kraken", "/0/private/Balance", b)
	asks.Go(func() { _, _ = s.do(ctx, s.ask("kraken", krakenBalance)) })
	s.eventually("the arrival", func() bool { return len(s.arrived("kraken")) == 1 })
}

// queued waits until so many requests wait for their turn.
func (s *stage) queued(n int) {
	s.Helper()
	s.eventually("the queue", func() bool { return s.agent.Queued("kraken") == n })
}

// inOrder holds that these paths arrived, in this order, with rising nonces.
func (s *stage) inOrder(paths ...string) {
	s.Helper()
	arrived, last := s.arrived("kraken"), uint64(0)
	if len(arrived) != len(paths) {
		s.Fatalf("%d requests arrived, want %v", len(arrived), paths)
	}
	for i, a := range arrived {
		if "POST "+a.Path != paths[i] || a.Problem != "" || a.Nonce <= last {
			s.Errorf("arrival %d is %s with nonce %d after %d: %s", i, a.Path, a.Nonce, last, a.Problem)
		}
		last = a.Nonce
	}
}

func TestNoncesArriveInTheirOrder(t *testing.T) {
	s := set(t, scene{})
	t.Run("cancels first", func(t *testing.T) {
		var asks sync.WaitGroup
		answer := make(chan struct{})
		s.occupy(t.Context(), mockvenue.Behaviour{Hold: answer}, &asks)
		asks.Go(func() { s.must(s.ask("kraken", krakenOpen)) })
		s.queued(1)
		asks.Go(func() { s.must(s.ask("kraken", krakenCancel, "txid=a")) })
		s.queued(2)
		close(answer)
		asks.Wait()
		s.inOrder(krakenBalance, krakenCancel, krakenOpen)
	})
	t.Run("the next goes when the answer begins", func(t *testing.T) {
		var asks sync.WaitGroup
		rest := make(chan struct{})
		s.occupy(t.Context(), mockvenue.Behaviour{Chunks: 2, Hold: rest}, &asks)
		s.must(s.ask("kraken", krakenOpen))
		close(rest)
		asks.Wait()
		s.inOrder(krakenBalance, krakenOpen)
	})
	t.Run("and when the caller leaves", func(t *testing.T) {
		var asks sync.WaitGroup
		ctx, leave := context.WithCancel(t.Context())
		s.occupy(ctx, mockvenue.Behaviour{Hold: make(chan struct{})}, &asks)
		asks.Go(func() { s.must(s.ask("kraken", krakenOpen)) })
		s.queued(1)
		leave()
		asks.Wait()
		s.inOrder(krakenBalance, krakenOpen)
	})
	t.Run("who leaves the queue sends nothing", func(t *testing.T) {
		var asks sync.WaitGroup
		answer := make(chan struct{})
		s.occupy(t.Context(), mockvenue.Behaviour{Hold: answer}, &asks)
		ctx, leave := context.WithCancel(t.Context())
		asks.Go(func() {
			if _, err := s.do(ctx, s.ask("kraken", krakenOpen)); fault.From(err).Reason != fault.CallerGone {
				t.Errorf("got %v", err)
			}
		})
		s.queued(1)
		leave()
		s.queued(0)
		close(answer)
		asks.Wait()
		s.must(s.ask("kraken", krakenCancel, "txid=a"))
		s.inOrder(krakenBalance, krakenCancel)
	})
	t.Run("nor who is suspended in it", func(t *testing.T) {
		var asks sync.WaitGroup
		answer := make(chan struct{})
		s.occupy(t.Context(), mockvenue.Behaviour{Hold: answer}, &asks)
		asks.Go(func() { s.refused(s.ask("kraken", krakenOpen), fault.KeySuspended) })
		asks.Go(func() { s.must(s.ask("kraken", krakenCancel, "txid=a")) })
		s.queued(2)
		if err := s.agent.Suspend(t.Context(), s.me, "kraken", true); err != nil {
			t.Error(err)
		}
		close(answer)
		asks.Wait()
		s.inOrder(krakenBalance, krakenCancel)
		if err := s.agent.Resume(t.Context(), s.me, "kraken"); err != nil {
			t.Error(err)
		}
	})
	t.Run("nor whom an edit of the config took the right from", func(t *testing.T) {
		var asks sync.WaitGroup
		answer := make(chan struct{})
		s.occupy(t.Context(), mockvenue.Behaviour{Hold: answer}, &asks)
		asks.Go(func() { s.refused(s.ask("kraken", krakenOpen), fault.OperationNotGranted) })
		asks.Go(func() { s.must(s.ask("kraken", krakenCancel, "txid=a")) })
		s.queued(2)
		s.write(strings.Replace(usualRole, `"read"`, `"settings"`, 1))
		if err := s.agent.Reload(); err != nil {
			t.Error(err)
		}
		close(answer)
		asks.Wait()
		s.inOrder(krakenBalance, krakenCancel)
		s.write(usualRole)
		if err := s.agent.Reload(); err != nil {
			t.Error(err)
		}
	})
	t.Run("nor who ends in it", func(t *testing.T) {
		var asks sync.WaitGroup
		answer := make(chan struct{})
		s.occupy(t.Context(), mockvenue.Behaviour{Hold: answer}, &asks)
		who, kill := mortal(t)
		asks.Go(func() {
			if _, err := s.agent.Do(t.Context(), who, s.ask("kraken", krakenOpen)); fault.From(err).Reason != fault.CallerGone {
				t.Errorf("got %v", err)
			}
		})
		s.queued(1)
		kill()
		close(answer)
		asks.Wait()
		s.inOrder(krakenBalance)
	})
	t.Run("of many at once", func(t *testing.T) {
		s.venues.Reset()
		s.venues.Behave("kraken", "/0/private/Balance", mockvenue.Behaviour{})
		var asks sync.WaitGroup
		want := make([]string, 30)
		for i := range want {
			want[i] = krakenOpen
			asks.Go(func() { s.must(s.ask("kraken", krakenOpen)) })
		}
		asks.Wait()
		s.inOrder(want...)
	})
	if problems := s.venues.Problems(); len(problems) > 0 {
		t.Error(problems)
	}
}

// Nonces go on rising after a restart, and with a clock that was set back.
func TestNoncesNeverGoBack(t *testing.T) {
	var clock skewed
	s := set(t, scene{options: agent.Options{Now: clock.now}})
	s.venues.Behave("kraken", "/0/public/Time", mockvenue.Behaviour{Status: 500}) // it would tell that the clock is off
	var want []string
	for _, by := range []time.Duration{0, -time.Hour, time.Minute, -24 * time.Hour} {
		clock.by.Store(int64(by))
		for range 3 {
			s.must(s.ask("kraken", krakenOpen))
			want = append(want, krakenOpen)
		}
		s.restart()
	}
	s.inOrder(want...)
	nonces := make(map[string]bool)
	for range 3 {
		answer, err := s.agent.Do(t.Context(), s.me, release(s.ask("kraken", krakenOpen)))
		if err != nil {
			t.Fatal(err)
		}
		nonces[string(answer.Signed.Body)] = true
	}
	if len(nonces) != 3 {
		t.Errorf("of three signed requests, %d differ", len(nonces))
	}
}
