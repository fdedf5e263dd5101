package agent_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/internal/fault"
)

// edited writes the config and waits until it is as it says.
func (s *stage) edited(role string, is func() bool) {
	s.Helper()
	s.write(role)
	s.eventually("the reload", is)
}

// No request is lost while an edit comes into force.
func TestReloadUnderLoad(t *testing.T) {
	s := set(t, scene{})
	s.agent.Watch(t.Context())
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var done atomic.Int32
	for _, ask := range []func() error{
		func() error { _, err := s.do(t.Context(), release(s.ask("okx", balance))); return err },
		func() error { _, err := s.do(t.Context(), s.ask("acme", "GET /account")); return err },
		func() error { _, err := s.do(t.Context(), s.ask("kraken", krakenOpen)); return err },
	} {
		load.Go(func() {
			for ctx.Err() == nil {
				if err := ask(); err != nil {
					t.Error(err)
				}
				done.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	pays := func(may bool) func() bool {
		return func() bool {
			_, err := s.do(t.Context(), s.ask("acme", "POST /payouts"))
			return (err == nil) == may
		}
	}
	for range 2 {
		s.edited(strings.Replace(usualRole, `"read"`, `"read", "withdraw"`, 1), pays(true))
		s.edited(usualRole, pays(false))
	}
	stop()
	load.Wait()
	if done.Load() < 100 {
		t.Errorf("there was little load: %d requests", done.Load())
	}
	loaded := 0
	for _, r := range s.records() {
		if r.Operation == "config.loaded" {
			loaded++
		}
	}
	if loaded != 4 {
		t.Errorf("%d of 4 edits are recorded", loaded)
	}
}

// Who asks for a reload sees in the log that there was nothing new.
func TestReloadOfTheSameConfig(t *testing.T) {
	var log bytes.Buffer
	s := set(t, scene{options: agent.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}})
	if err := s.agent.Reload(); err != nil {
		t.Fatal(err)
	}
	s.agent.Stop()
	if n := strings.Count(log.String(), "config read again: unchanged"); n != 1 {
		t.Errorf("it is %d times in the log", n)
	}
}

// A bad edit is refused whole: the config before it stays, and status says why.
func TestBadEdits(t *testing.T) {
	s := set(t, scene{})
	s.agent.Watch(t.Context())
	bad := func() bool { return s.agent.Status().ConfigError != nil }
	for name, test := range map[string]struct{ role, says string }{
		"an unknown name":        {usualRole + `keys = ["nobodys"]`, "nobodys"},
		"an unknown setting":     {usualRole + `releases = "bound"`, "releases"},
		"what isn't there yet":   {usualRole + `max_order_value = { USDT = "5000" }`, "not in this version"},
		"no TOML":                {"allow = [", "roles"},
		"what needs a new start": {usualRole + "keys = [\"okx\"]\n[audit]\nsync = \"interval\"", "can't change audit.sync"},
	} {
		t.Run(name, func(t *testing.T) {
			known := len(s.records())
			s.edited(test.role, bad)
			text := s.agent.Status().ConfigError.Error()
			if name != "no TOML" && !strings.Contains(text, test.says) {
				t.Errorf("status says %q", text)
			}
			s.must(s.ask("okx", balance))
			s.recorded("it", func(r *audit.Record) bool {
				return r.ID >= uint64(known) && r.Operation == "config.refused" && r.Decision == audit.Deny && r.Reason == string(fault.ConfigInvalid)
			})
			s.edited(usualRole, func() bool { return !bad() })
		})
	}
	t.Run("a folder in its place", func(t *testing.T) {
		if err := os.Remove(s.config()); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(s.config(), 0o700); err != nil {
			t.Fatal(err)
		}
		s.eventually("the refusal", bad)
		s.must(s.ask("okx", balance))
		if err := os.Remove(s.config()); err != nil {
			t.Fatal(err)
		}
		s.edited(usualRole, func() bool { return !bad() })
	})
}

// A process that has shut itself in refuses an edit that needs more, and says what to do.
func TestEditsBeyondTheConfinement(t *testing.T) {
	s := set(t, scene{})
	refused := func(role, says string) {
		t.Helper()
		s.write(role)
		err := s.agent.Reload()
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(fault.From(err).Hint, "restart") {
			t.Errorf("%v, want %q", err, says)
		}
	}
	var reach agent.Reach
	s.agent.Confine(func(r *agent.Reach) (string, error) {
		reach = *r
		return "a test", nil
	})
	if !slices.Contains(reach.Own, s.state()) || !slices.Contains(reach.Config, s.dir) || reach.Programs {
		t.Errorf("in reach: %+v", reach)
	}
	if !slices.ContainsFunc(s.agent.Doctor(t.Context()), func(f agent.Finding) bool { return strings.HasSuffix(f.What, ": a test") }) {
		t.Error("doctor doesn't tell")
	}
	const role = usualRole + "\nkeys = [\"okx\"]\n"
	refused(role+"[callers.other]\nuser = \"root\"\nexe = \"/bin/bot\"\nroles = [\"all\"]\n", "programs of other processes")
}

// A key whose venue moved signs nothing until that is accepted; the others go on.
func TestAVenueThatMoved(t *testing.T) {
	s := set(t, scene{})
	text, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.Replace(string(text), `[venues.okx]`+"\n"+`hosts = { testnet = ["`+s.venues.Host("okx"), `[venues.okx]`+"\n"+`hosts = { testnet = ["evil.example`, 1)
	if err := os.WriteFile(s.config(), []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.agent.Reload(); err != nil {
		t.Fatal(err)
	}
	refusal := s.refused(s.askAt("okx", "evil.example", balance, ""), fault.KeyRebindRequired)
	if !strings.HasSuffix(refusal.Hint, "sealsign key rebind okx") {
		t.Errorf("the hint is %q", refusal.Hint)
	}
	s.refused(s.ask("okx", balance), fault.HostNotAllowed)
	s.must(s.ask("binance", "GET /api/v3/account"))
	s.nothingArrivedAt("okx")
	if err := os.WriteFile(s.config(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.agent.Reload(); err != nil {
		t.Fatal(err)
	}
	s.must(s.ask("okx", balance))
}

// A switch by an edit of the config is in the log, with the version that signs from then on.
func TestASwitchIsRecorded(t *testing.T) {
	s := set(t, scene{keys: []key{{venue: "okx", algorithm: "hmac-sha256"}}})
	if _, err := s.agent.Import(t.Context(), s.me, "okx", s.venues.Credential("okx", "hmac-sha256").JSON()); err != nil {
		t.Fatal(err)
	}
	s.recorded("the switch", func(r *audit.Record) bool {
		return r.Kind == audit.KindAdmin && r.Operation == "key.switch" && r.Key == "okx" && r.Version == 2 && r.Caller == "sealsignd"
	})
}
