//go:build integration

package test

import (
	"fmt"
	"os"
	"strings"
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

// Everything is revoked while the TPM is gone, and a power cut follows: at once nothing
// signs, status and doctor show what the TPM has yet to do, and it does so when it is back.
func TestRevokeAllWhileTheTPMIsGone(t *testing.T) {
	d := daemontest.Start(t, fmt.Sprintf(`
[keys.sealed]
venue = "okx"
environment = "testnet"
[roles.all]
keys = ["sealed"]
allow = ["read"]
[callers.me]
uid = %d
roles = ["all"]
`, os.Getuid()))
	d.Import("sealed", d.Venues.Credential("okx", "hmac-sha256"))
	request := []string{"request", "sealed", "GET", d.URL("okx", "/api/v5/account/balance")}
	says(t, d, "", request...)
	d.TPM.Kill()
	says(t, d, "has not ended the host epoch", "key", "revoke", "--all", "--yes")
	says(t, d, "KEY_REVOKED", request...)
	if text, _ := d.Try("doctor"); !strings.Contains(text, "the TPM has not ended the host epoch yet") {
		t.Errorf("doctor says nothing of it: %s", text)
	}
	status := func() string {
		text, _ := d.Try("status", "--json")
		return text
	}
	if !strings.Contains(status(), `"ending": "TPM_UNAVAILABLE: the TPM has not ended the host epoch yet`) {
		t.Errorf("status says nothing of it: %s", status())
	}
	d.Kill()
	d.Restart()
	if !strings.Contains(status(), `"ending": "TPM_UNAVAILABLE: the TPM has not ended the host epoch yet`) {
		t.Errorf("after the restart, status says nothing of it: %s", status())
	}
	d.TPM.Start()
	eventually(t, "the end of the epoch", func() bool {
		text := status()
		return strings.Contains(text, `"ending": ""`) && strings.Contains(text, `"anchored": true`)
	})
	says(t, d, "KEY_REVOKED", request...)
	d.Import("sealed", d.Venues.Credential("okx", "hmac-sha256"))
	says(t, d, "", request...)
}
