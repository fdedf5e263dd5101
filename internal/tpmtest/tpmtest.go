// Package tpmtest gives tests a TPM: Microsoft's reference code in the test's
// own process, or swtpm beside it. Only tests import it, since it links the
// simulator.
package tpmtest

import (
	"testing"

	"github.com/google/go-tpm/tpm2/transport/simulator"
	"github.com/sealsign/sealsign/tpm"
)

// Simulator starts the process's one simulator for this test. A test that asks
// for it while another has it waits, so none of the two may be parallel.
func Simulator(t testing.TB) tpm.Options {
	t.Helper()
	sim, err := simulator.OpenSimulator()
	if err != nil {
		t.Fatalf("starting the TPM simulator: %v (it needs cgo: apt-get install gcc libssl-dev)", err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Errorf("stopping the TPM simulator: %v", err)
		}
	})
	return tpm.Options{
		Device:        "simulator",
		AllowSoftware: true,
		Dial:          func() (tpm.Transport, error) { return kept{sim}, nil },
	}
}

// kept is a connection that can be closed and opened again while the simulator,
// and what it has in memory, stays.
type kept struct{ tpm.Transport }

func (kept) Close() error { return nil }

// Swtpm starts an swtpm of the test's own.
func Swtpm(t testing.TB) tpm.Options { return StartSwtpm(t, "unix").Options() }
