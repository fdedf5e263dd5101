package agent_test

import (
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
)

// stalled is who asks for a backup and doesn't take it.
type stalled struct{ begun, end chan struct{} }

func (s stalled) Write(data []byte) (int, error) {
	select {
	case s.begun <- struct{}{}:
	default:
	}
	<-s.end
	return len(data), nil
}

// A backup that nobody takes keeps no suspension from being answered.
func TestAStalledBackupHoldsNothingUp(t *testing.T) {
	s := set(t, scene{keys: []key{{venue: "okx", algorithm: "hmac-sha256"}}})
	slow := stalled{make(chan struct{}, 1), make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- s.agent.Backup(s.me, slow) }()
	<-slow.begun
	if err := s.agent.Suspend(t.Context(), s.me, "okx", false); err != nil {
		t.Error(err)
	}
	s.refused(s.ask("okx", balance), fault.KeySuspended)
	if err := s.agent.Resume(t.Context(), s.me, "okx"); err != nil {
		t.Error(err)
	}
	close(slow.end)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
