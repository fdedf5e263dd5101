//go:build !simulator

package tpm_test

import (
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/tpm"
)

func TestNoSimulator(t *testing.T) {
	_, err := tpm.Open(t.Context(), tpm.Options{Device: "simulator", AllowSoftware: true})
	wants(t, err, fault.TPMUnavailable, "not in this build", "-tags simulator")
}
