//go:build integration

package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/daemontest"
)

// keyOf is a config with one key of an environment.
func keyOf(environment string) string {
	return fmt.Sprintf("[keys.okx]\nvenue = \"okx\"\nenvironment = %q\nprobe = \"off\"\n[roles.all]\nkeys = [\"okx\"]\nallow = [\"read\"]\n"+
		"[callers.me]\nuid = %d\nroles = [\"all\"]\n", environment, os.Getuid())
}

// Two instances of one host and one TPM, for production and for a test network, share
// nothing: what belongs to one is of no use to the other, and each recovers alone.
func TestTwoEnvironmentsOnOneHost(t *testing.T) {
	testnet := daemontest.Start(t, keyOf("testnet"))
	l := newLaptop(t)
	ask := []string{"request", "okx", "GET", testnet.URL("okx", "/api/v5/account/balance")}
	testnet.Import("okx", testnet.Venues.Issue("okx", "hmac-sha256"))
	l.meets(testnet, "testnet.json")
	says(t, testnet, "", ask...)

	production := testnet.Instance("production", keyOf("production"))
	says(t, production, "KEY_EMPTY", ask...) // the other's key isn't this one's
	credential := production.Venues.Issue("okx", "hmac-sha256")
	production.Import("okx", credential)
	l.meets(production, "production.json")
	says(t, production, "", ask...)
	if a, b := counterOf(t, testnet), counterOf(t, production); a == b {
		t.Errorf("both count in NV index %d", a)
	}

	// The TPM is the same, so that nothing but the environment keeps a blob from the other.
	blob := l.wraps(production, "okx", "production.json", credential.JSON())
	for config, host := range map[string]string{production.Config: "testnet.json", testnet.Config: "production.json"} {
		_, err := production.TryInput(credential.JSON(), "key", "wrap", "okx", "--config", config, "--host-key", l.file(host), "--identity", l.file("alice"))
		wantsRefusal(t, err, "WRAPPED_MISMATCH", "environment")
	}
	production.Stop()
	testnet.Restart()
	_, err := testnet.TryInput(blob, "key", "import", "okx", "--wrapped")
	wantsRefusal(t, err, "WRAPPED_MISMATCH", "environment")

	// A config that names a key of production is refused whole.
	testnet.Write(keyOf("production"))
	_, err = testnet.Try("config", "check", testnet.Config)
	wantsRefusal(t, err, "CONFIG_INVALID")
	eventually(t, "the refusal", func() bool { return strings.Contains(testnet.Must("status", "--json"), "agent.environment") })
	says(t, testnet, "", ask...)
	testnet.Write(keyOf("testnet"))

	// Nor does the sealed file of one sign for the other, where somebody puts it there.
	testnet.Stop()
	own := replaceFile(t, versionOf(testnet), versionOf(production))
	testnet.Restart()
	says(t, testnet, "KEY_REBIND_REQUIRED", ask...)
	testnet.Stop()
	if err := os.WriteFile(versionOf(testnet), own, 0o600); err != nil {
		t.Fatal(err)
	}

	// Each recovers alone.
	for _, d := range []*daemontest.Daemon{testnet, production} {
		if err := os.Remove(filepath.Join(d.State, "manifest.json")); err != nil {
			t.Fatal(err)
		}
		d.Restart()
		says(t, d, "STORE_UNTRUSTED", ask...)
		d.Must("store", "recover", "--yes")
		d.Write(strings.Replace(keyOf(d.Environment), "probe =", "version = 1\nprobe =", 1))
		eventually(t, "the version's return", func() bool { _, err := d.Try(ask...); return err == nil })
		d.Stop()
		if d == testnet {
			production.Restart()
			says(t, production, "", ask...)
			production.Stop()
		}
	}
}

func versionOf(d *daemontest.Daemon) string { return filepath.Join(d.State, "keys", "okx", "1.tpm") }

// counterOf is the NV index of an instance's counter.
func counterOf(t *testing.T, d *daemontest.Daemon) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.State, "anchor.json"))
	if err != nil {
		t.Fatal(err)
	}
	var anchor struct {
		Index int `json:"nv_index"`
	}
	if err := json.Unmarshal(text, &anchor); err != nil {
		t.Fatal(err)
	}
	return anchor.Index
}

// replaceFile writes another file's content, and gives what was there.
func replaceFile(t *testing.T, path, with string) []byte {
	t.Helper()
	own, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(with)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, other, 0o600); err != nil {
		t.Fatal(err)
	}
	return own
}
