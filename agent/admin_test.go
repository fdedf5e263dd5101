package agent_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/internal/fault"
)

// Each act of an operator is in the log, with who did it; one that failed says so.
func TestActsAreRecorded(t *testing.T) {
	s := set(t, scene{keys: []key{{venue: "okx", algorithm: "hmac-sha256"}, {venue: "bybit", algorithm: "rsa-sha256", lines: `protection = "generated"`, empty: true}}})
	ctx, good := t.Context(), s.venues.Credential("okx", "hmac-sha256")
	for _, act := range []struct {
		operation, key string
		do             func(*agent.Agent) error
		reason         fault.Reason // of its failure
		before         bool         // it is recorded before it is done, so that its failure has an outcome
		version        int          // that it made or ended; of what is recorded before, in its outcome
	}{
		{"key.import", "okx", func(a *agent.Agent) error { _, err := a.Import(ctx, s.me, "okx", good.JSON()); return err }, "", true, 2},
		{"key.import", "okx", func(a *agent.Agent) error { _, err := a.Import(ctx, s.me, "okx", []byte(`{}`)); return err }, fault.BadRequest, true, 0},
		{"key.import", "nobodys", func(a *agent.Agent) error { _, err := a.Import(ctx, s.me, "nobodys", good.JSON()); return err }, fault.KeyUnknown, true, 0},
		{"key.generate", "bybit", func(a *agent.Agent) error { _, _, _, err := a.Generate(ctx, s.me, "bybit"); return err }, "", true, 1},
		{"key.generate", "okx", func(a *agent.Agent) error { _, _, _, err := a.Generate(ctx, s.me, "okx"); return err }, fault.KeyUnsupported, true, 0},
		{"key.suspend", "okx", func(a *agent.Agent) error { return a.Suspend(ctx, s.me, "okx", false) }, "", false, 0},
		{"key.suspend-to-cancels", "", func(a *agent.Agent) error { return a.Suspend(ctx, s.me, "", true) }, "", false, 0},
		{"key.suspend", "nobodys", func(a *agent.Agent) error { return a.Suspend(ctx, s.me, "nobodys", false) }, fault.KeyUnknown, false, 0},
		{"key.resume", "", func(a *agent.Agent) error { return a.Resume(ctx, s.me, "") }, "", true, 0},
		{"key.rebind", "okx", func(a *agent.Agent) error { return a.Rebind(ctx, s.me, "okx") }, "", true, 0},
		{"time.reset", "", func(a *agent.Agent) error { _, err := a.ResetTime(ctx, s.me); return err }, "", true, 0},
		{"key.revoke", "okx", func(a *agent.Agent) error { return a.Revoke(ctx, s.me, "okx", 1) }, "", false, 1},
		{"key.reseal", "okx", func(a *agent.Agent) error { _, err := a.Reseal(ctx, s.me, "okx", nil); return err }, "", true, 2},
		{"key.reseal", "nobodys", func(a *agent.Agent) error { _, err := a.Reseal(ctx, s.me, "nobodys", nil); return err }, fault.KeyUnknown, true, 0},
		{"key.revoke", "okx", func(a *agent.Agent) error { return a.Revoke(ctx, s.me, "okx", 7) }, fault.KeyEmpty, false, 7},
	} {
		t.Run(strings.TrimSpace(act.operation+" "+act.key+" "+string(act.reason)), func(t *testing.T) {
			known := len(s.records())
			err := act.do(s.agent)
			if (act.reason == "") != (err == nil) || err != nil && fault.From(err).Reason != act.reason {
				t.Errorf("got %v, want %q", err, act.reason)
			}
			added := slices.DeleteFunc(s.records()[known:], func(r *audit.Record) bool { return r.Operation != act.operation })
			first := added[0]
			if first.Kind != audit.KindAdmin || first.Operation != act.operation || first.Key != act.key || first.Caller != "operator" || first.PID != s.me.PID || first.UID != s.me.UID {
				t.Errorf("recorded %+v", first)
			}
			last := added[len(added)-1]
			if last.Reason != string(act.reason) || last.Version != act.version || (len(added) == 2) != (act.before && (err != nil || act.version != 0)) {
				t.Errorf("recorded %d, the last %+v", len(added), last)
			}
			if len(added) == 2 && (last.Kind != audit.KindOutcome || last.Of != first.ID) {
				t.Errorf("recorded the outcome %+v", last)
			}
		})
	}
	t.Run("start and stop", func(t *testing.T) {
		s.restart()
		all := s.records()
		stop, start := all[len(all)-2], all[len(all)-1]
		if stop.Operation != "agent.stop" || start.Operation != "agent.start" || start.Caller != "sealsignd" {
			t.Errorf("recorded %+v and %+v", stop, start)
		}
	})
}

// A credential is wiped, whatever comes of its import.
func TestImportWipesTheCredential(t *testing.T) {
	s := set(t, scene{})
	for name, credential := range map[string][]byte{
		"okx":     s.venues.Credential("okx", "hmac-sha256").JSON(),
		"nobodys": s.venues.Credential("okx", "hmac-sha256").JSON(),
		"binance": []byte(`{"api_key":"k","private_key":"no PEM"}`),
	} {
		_, _ = s.agent.Import(t.Context(), s.me, name, credential)
		for _, c := range credential {
			if c != 0 {
				t.Fatalf("of the credential for %s is left %q", name, credential)
			}
		}
	}
}

// A state folder that others may change isn't used, nor one that is in use.
func TestStateFolder(t *testing.T) {
	s := set(t, scene{})
	start := func() error {
		a, err := agent.Start(t.Context(), agent.Options{Config: s.config(), TPM: s.scene.options.TPM})
		if err == nil {
			a.Stop()
		}
		return err
	}
	if err := start(); !errors.Is(err, fault.AgentUnavailable) || !strings.Contains(err.Error(), "another sealsignd") {
		t.Errorf("in use: %v", err)
	}
	s.agent.Stop()
	defer s.start() // so that it can be stopped
	for name, test := range map[string]struct {
		prepare, repair func() error
		says            string
	}{
		"open to others": {
			func() error { return os.Chmod(s.state(), 0o777) }, func() error { return os.Chmod(s.state(), 0o700) }, "0777",
		},
		"a file": {
			func() error {
				return errors.Join(os.Rename(s.state(), s.state()+".away"), os.WriteFile(s.state(), nil, 0o600))
			},
			func() error { return errors.Join(os.Remove(s.state()), os.Rename(s.state()+".away", s.state())) }, "not a directory",
		},
		"another's": {
			func() error { return os.Chown(s.state(), 4242, -1) }, func() error { return os.Chown(s.state(), os.Getuid(), -1) }, "uid 4242",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.prepare(); errors.Is(err, os.ErrPermission) {
				t.Skip("only root can give a folder away")
			} else if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := test.repair(); err != nil {
					t.Fatal(err)
				}
			}()
			if err := start(); !errors.Is(err, fault.ConfigInvalid) || !strings.Contains(err.Error(), test.says) || fault.From(err).Hint == "" {
				t.Errorf("got %v, want CONFIG_INVALID with %q and a hint", err, test.says)
			}
		})
	}
}
