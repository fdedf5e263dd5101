//go:build integration

package test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/daemontest"
)

// Of two hosts that get the same update, one finds its key locked, and tells the other
// what the PCRs will be: there the key signs before the update, after it, and where it is
// taken back before reseal has forgotten the old values.
func TestUpdateOfAFleet(t *testing.T) {
	config := fmt.Sprintf(`
[keys.okx]
venue = "okx"
environment = "testnet"
[roles.all]
keys = ["okx"]
allow = ["read"]
[callers.me]
uid = %d
roles = ["all"]
`, os.Getuid())
	first, second := daemontest.Start(t, config), daemontest.Start(t, config)
	balance := func(d *daemontest.Daemon, reason string) {
		t.Helper()
		says(t, d, reason, "request", "okx", "GET", d.URL("okx", "/api/v5/account/balance"))
	}
	update := func(d *daemontest.Daemon) {
		d.Stop()
		d.TPM.Extend(4)
		d.TPM.Extend(7)
		d.Restart()
	}
	for _, d := range []*daemontest.Daemon{first, second} {
		d.Stop()
		text, err := os.ReadFile(d.Config)
		if err == nil {
			err = os.WriteFile(d.Config, bytes.Replace(text, []byte("[tpm]\n"), []byte("[tpm]\npcrs = [4, 7]\n"), 1), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		d.Restart()
		d.Import("okx", d.Venues.Credential("okx", "hmac-sha256"))
		balance(d, "")
	}
	update(first)
	balance(first, "KEY_LOCKED")
	says(t, first, "PCRs 4 and 7", "key", "reseal", "okx")
	if shown := first.Must("key", "show", "okx"); !strings.Contains(shown, "locked") || !strings.Contains(shown, "PCRs 4 and 7") {
		t.Errorf("key show: %s", shown)
	}
	if found, err := first.Try("doctor"); err == nil || !strings.Contains(found, "version 1 of key okx was sealed to other values of PCRs 4 and 7") {
		t.Errorf("doctor: %s, %v", found, err)
	}
	first.Import("okx", first.Venues.Credential("okx", "hmac-sha256"))
	balance(first, "")

	predicted := filepath.Join(t.TempDir(), "updated.json")
	if err := os.WriteFile(predicted, []byte(first.Must("doctor", "--pcr-values")), 0o600); err != nil {
		t.Fatal(err)
	}
	second.Must("key", "reseal", "--all", "--pcr-values", predicted)
	second.Stop()
	second.Restart()
	balance(second, "")
	update(second)
	balance(second, "")
	second.Stop() // the old kernel is started once more
	second.TPM.Kill()
	second.TPM.Start()
	second.Restart()
	balance(second, "")
	update(second)
	second.Must("key", "reseal", "--all")
	second.Stop()
	second.Restart()
	balance(second, "")
	second.Stop()
	second.TPM.Kill()
	second.TPM.Start()
	second.Restart()
	balance(second, "KEY_LOCKED")
}
