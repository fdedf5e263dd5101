package agent_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// plug is what a TPM hangs on.
type plug struct {
	dial func() (tpm.Transport, error)
	out  atomic.Bool
}

var errOut = errors.New("no such device")

func (p *plug) open() (tpm.Transport, error) {
	if p.out.Load() {
		return nil, errOut
	}
	transport, err := p.dial()
	return plugged{transport, p}, err
}

type plugged struct {
	tpm.Transport
	plug *plug
}

func (p plugged) Send(command []byte) ([]byte, error) {
	if p.plug.out.Load() {
		return nil, errOut
	}
	return p.Transport.Send(command)
}

var bothLevels = []key{{venue: "acme", algorithm: "hmac-sha256"}, {venue: "okx", algorithm: "hmac-sha256", lines: `protection = "resident"`}}

// A daemon starts without a TPM and tells so; the TPM is found when it comes.
func TestStartWithoutATPM(t *testing.T) {
	p := &plug{dial: simulator(t)}
	s := set(t, scene{keys: append([]key{{venue: "binance", algorithm: "hmac-sha256"}}, bothLevels...), options: agent.Options{TPM: p.open}})
	p.out.Store(true)
	s.restart()
	if err := s.agent.Status().TPMError; !errors.Is(err, fault.TPMUnavailable) {
		t.Errorf("status says %v", err)
	}
	if _, _, err := s.agent.AuditPublicKey(); !errors.Is(err, fault.TPMUnavailable) {
		t.Errorf("the log's key: %v", err)
	}
	found := false
	for _, f := range s.agent.Doctor(t.Context()) {
		found = found || f.Area == "tpm" && f.Level == agent.Problem && f.Next != ""
	}
	if !found {
		t.Error("doctor doesn't say what to do")
	}
	s.refused(s.ask("acme", "GET /account"), fault.TPMUnavailable)
	s.refused(s.ask("okx", balance), fault.TPMUnavailable)
	s.nothingArrived()
	s.must(s.ask("okx", "GET /api/v5/market/tickers"))
	if _, err := s.agent.Import(t.Context(), s.me, "acme", s.venues.Credential("acme", "hmac-sha256").JSON()); !errors.Is(err, fault.TPMUnavailable) {
		t.Errorf("an import gets %v", err)
	}
	if err := s.agent.Revoke(t.Context(), s.me, "binance", 0); err != nil {
		t.Errorf("a revocation gets %v", err)
	}

	p.out.Store(false)
	s.eventually("the TPM's coming", func() bool { return s.agent.Status().TPMError == nil })
	s.eventually("the keys' return", func() bool {
		_, first := s.do(t.Context(), s.ask("acme", "GET /account"))
		_, second := s.do(t.Context(), s.ask("okx", balance))
		return first == nil && second == nil
	})
	if _, err := s.agent.Checkpoint(t.Context()); err != nil {
		t.Errorf("a checkpoint gets %v", err)
	}
	s.refused(s.ask("binance", "GET /api/v3/account"), fault.KeyRevoked)
}

// While the TPM is gone, sealed keys that are loaded sign on, and what needs it is refused at once.
func TestTheTPMGoes(t *testing.T) {
	p := &plug{dial: simulator(t)}
	s := set(t, scene{keys: bothLevels, options: agent.Options{TPM: p.open}})
	s.must(s.ask("acme", "GET /account"))
	s.must(s.ask("okx", balance))
	p.out.Store(true)
	for range 3 {
		s.refused(s.ask("okx", balance), fault.TPMUnavailable)
		s.must(s.ask("acme", "GET /account"))
	}
	if err := s.agent.Status().TPMError; !errors.Is(err, fault.TPMUnavailable) {
		t.Errorf("status says %v", err)
	}
	p.out.Store(false)
	s.eventually("its return", func() bool {
		_, err := s.do(t.Context(), s.ask("okx", balance))
		return err == nil
	})
	if err := s.agent.Status().TPMError; err != nil {
		t.Errorf("status says %v", err)
	}
}

// Another TPM than the one that the keys were sealed to is refused, and nothing is changed for it.
func TestAnotherTPM(t *testing.T) {
	own, other := tpmtest.StartSwtpm(t, "unix"), tpmtest.StartSwtpm(t, "unix")
	s := set(t, scene{keys: bothLevels, device: own.Options().Device})
	s.must(s.ask("acme", "GET /account"))
	host, err := os.ReadFile(filepath.Join(s.state(), "host.json"))
	if err != nil {
		t.Fatal(err)
	}
	s.scene.device = other.Options().Device
	s.write(s.scene.role)
	if err := s.agent.Reload(); !errors.Is(err, fault.ConfigInvalid) {
		t.Errorf("the edit of a running agent's TPM gets %v", err)
	}
	s.restart()
	refusal := fault.From(s.agent.Status().TPMError)
	if refusal.Reason != fault.TPMUnavailable || !strings.Contains(refusal.Message, "another TPM") || !strings.Contains(refusal.Hint, "import") {
		t.Errorf("status says %+v", refusal)
	}
	s.refused(s.ask("acme", "GET /account"), fault.TPMUnavailable)
	s.refused(s.ask("okx", balance), fault.TPMUnavailable)
	if _, err := s.agent.Import(t.Context(), s.me, "acme", s.venues.Credential("acme", "hmac-sha256").JSON()); !errors.Is(err, fault.TPMUnavailable) {
		t.Errorf("an import gets %v", err)
	}
	s.agent.Stop()
	if after, err := os.ReadFile(filepath.Join(s.state(), "host.json")); err != nil || !bytes.Equal(host, after) {
		t.Errorf("host.json has changed: %v", err)
	}
	s.scene.device = own.Options().Device
	s.write(s.scene.role)
	s.start()
	s.must(s.ask("acme", "GET /account"))
	s.must(s.ask("okx", balance))
}
