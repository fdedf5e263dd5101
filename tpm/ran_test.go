package tpm_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// Each command is told, by the names of the specification.
func TestCommandsAreTold(t *testing.T) {
	var mu sync.Mutex
	told := make(map[[2]string]int)
	o := tpmtest.Simulator(t)
	o.Ran = func(command, code string, took time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		told[[2]string{command, code}]++
		if took < 0 {
			t.Errorf("%s took %v", command, took)
		}
	}
	faults := []func([]byte, sender) ([]byte, error){
		func([]byte, sender) ([]byte, error) { return answers(tpm2.TPMRCRetry), nil },
		func([]byte, sender) ([]byte, error) { return answers(tpm2.TPMRCHandle + 0x100), nil },
		func([]byte, sender) ([]byte, error) { return nil, errors.New("gone") },
	}
	d := open(t, bending(t, o, func(code tpm2.TPMCC, command []byte, send sender) ([]byte, error) {
		if code != tpm2.TPMCCUnseal || len(faults) == 0 {
			return send(command)
		}
		fault := faults[0]
		faults = faults[1:]
		return fault(command, send)
	}))
	file, err := d.Seal(t.Context(), nil, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the second meets what the first left
		_, _ = unseal(t, d, file)
	}
	mu.Lock()
	defer mu.Unlock()
	for want, least := range map[[2]string]int{
		{"TPM2_Create", ""}: 1, {"TPM2_Unseal", ""}: 1,
		{"TPM2_Unseal", "TPM_RC_RETRY"}: 1, {"TPM2_Unseal", "TPM_RC_HANDLE"}: 1, {"TPM2_Unseal", tpm.NoAnswer}: 1,
	} {
		if told[want] < least {
			t.Errorf("%v was told %d times", want, told[want])
		}
	}
	for what := range told {
		if what[0] == "other" || what[1] == tpm.UnknownCode {
			t.Errorf("%v has no name", what)
		}
	}
	if n := d.Queued(); n != 0 {
		t.Errorf("%d operations are in the queue", n)
	}
}
