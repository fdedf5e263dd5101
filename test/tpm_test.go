//go:build integration

package test

import (
	"fmt"
	"os"
	"testing"

	"github.com/sealsign/sealsign/internal/daemontest"
)

// While the TPM is gone, what needs it is refused and sealed keys sign on. It is
// found when it is back, with the daemon's own start before or after it.
func TestTPMRestarts(t *testing.T) {
	d := daemontest.Start(t, fmt.Sprintf(`
[keys.sealed]
venue = "okx"
environment = "testnet"
[keys.resident]
venue = "acme"
environment = "testnet"
protection = "resident"
[roles.all]
keys = ["sealed", "resident"]
allow = ["read"]
[callers.me]
uid = %d
roles = ["all"]
`, os.Getuid()))
	d.Import("sealed", d.Venues.Credential("okx", "hmac-sha256"))
	d.Import("resident", d.Venues.Credential("acme", "hmac-sha256"))
	sealed := []string{"request", "sealed", "GET", d.URL("okx", "/api/v5/account/balance")}
	resident := []string{"request", "resident", "GET", d.URL("acme", "/account")}
	back := func() {
		t.Helper()
		d.TPM.Start()
		eventually(t, "the TPM's return", func() bool {
			_, first := d.Try(resident...)
			_, second := d.Try(sealed...)
			return first == nil && second == nil
		})
	}
	says(t, d, "", sealed...)
	says(t, d, "", resident...)

	d.TPM.Kill()
	says(t, d, "", sealed...)
	says(t, d, "TPM_UNAVAILABLE", resident...)
	back()

	d.Stop()
	d.TPM.Kill()
	d.Restart()
	says(t, d, "TPM_UNAVAILABLE", sealed...)
	says(t, d, "TPM_UNAVAILABLE", resident...)
	says(t, d, "", "key", "suspend", "resident")
	says(t, d, "TPM_UNAVAILABLE", "key", "resume", "resident") // it is resumed, and says why it can't sign yet
	back()
}
