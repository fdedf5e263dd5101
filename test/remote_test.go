//go:build integration

package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/sealsign/sealsign/internal/daemontest"
	"github.com/sealsign/sealsign/internal/tpmtest"
)

// remoteKeys is the config of the hosts that credentials are wrapped for.
func remoteKeys() string {
	return fmt.Sprintf(`
[keys.binance]
venue = "binance"
algorithm = "hmac-sha256"
environment = "testnet"
protection = "resident"
[keys.okx]
venue = "okx"
environment = "testnet"
[roles.all]
keys = ["binance", "okx"]
allow = ["read", "trade"]
[callers.me]
uid = %d
roles = ["all"]
`, os.Getuid())
}

// laptop is another machine: a folder with an SSH key, and no daemon.
type laptop struct {
	*testing.T
	dir string
}

func newLaptop(t *testing.T) *laptop {
	t.Helper()
	l := &laptop{t, t.TempDir()}
	output, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", l.file("alice")).CombinedOutput()
	if err != nil {
		t.Fatalf("ssh-keygen: %v\n%s (apt-get install openssh-client)", err, output)
	}
	return l
}

func (l *laptop) file(name string) string { return filepath.Join(l.dir, name) }

// meets fetches a host's document, and enrolls the laptop's key there.
func (l *laptop) meets(d *daemontest.Daemon, name string) {
	l.Helper()
	if err := os.WriteFile(l.file(name), []byte(d.Must("host-key")), 0o600); err != nil {
		l.Fatal(err)
	}
	d.Must("importer", "enroll", "alice", l.file("alice.pub"))
}

// wraps makes a blob for one host; d is whose config is used.
func (l *laptop) wraps(d *daemontest.Daemon, key, host string, credential []byte, more ...string) []byte {
	l.Helper()
	blob, err := l.tryWrap(d, key, host, credential, more...)
	if err != nil {
		l.Fatal(err)
	}
	return []byte(blob)
}

func (l *laptop) tryWrap(d *daemontest.Daemon, key, host string, credential []byte, more ...string) (string, error) {
	return d.TryInput(credential, append([]string{"key", "wrap", key, "--config", d.Config, "--host-key", l.file(host), "--identity", l.file("alice"),
		"--runtime-dir", l.file("no daemon")}, more...)...)
}

func wantsRefusal(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("got %v, want %q", err, w)
		}
	}
}

// A credential that was wrapped for one host is of no use at another, which has a TPM of
// its own. At its host it signs, and with "resident" its clear form never was in the
// daemon's memory, files or log.
func TestRemoteImport(t *testing.T) {
	alpha, beta, l := daemontest.Start(t, remoteKeys()), daemontest.Start(t, remoteKeys()), newLaptop(t)
	l.meets(alpha, "alpha.json")
	l.meets(beta, "beta.json")
	credential := alpha.Venues.Credential("binance", "hmac-sha256")

	// Beta's config is alpha's but for the mock exchange's address and CA: with alpha's, only the TPM differs.
	blob := l.wraps(alpha, "binance", "alpha.json", credential.JSON())
	_, err := beta.TryInput(blob, "key", "import", "binance", "--wrapped")
	wantsRefusal(t, err, "WRAPPED_MISMATCH", "another host")
	if text, err := alpha.TryInput(blob, "key", "import", "binance", "--wrapped"); err != nil || !strings.Contains(text, "version 1, active") {
		t.Fatalf("%s, %v", text, err)
	}
	for range 20 {
		alpha.Must("request", "binance", "GET", alpha.URL("binance", "/api/v3/account"))
	}
	if problems := alpha.Venues.Problems(); len(problems) > 0 {
		t.Fatal(problems)
	}
	_, err = alpha.TryInput(blob, "key", "import", "binance", "--wrapped")
	wantsRefusal(t, err, "WRAPPED_REPLAYED")

	needles := formsOf(secretOf(t, credential.JSON()), 64)
	if hits := searchMemory(t, alpha.PID(), map[string][]byte{"API key": apiKeyOf(t, credential.JSON())}); len(hits) == 0 {
		t.Fatal("the API key, which the daemon does hold, was not found: the search can't see its memory")
	}
	for _, hit := range searchMemory(t, alpha.PID(), needles) {
		t.Error(hit)
	}
	searchFiles(t, needles, alpha.Dir, l.dir)

	// After a restart it is loaded from the store as any other.
	alpha.Kill()
	alpha.Restart()
	alpha.Must("request", "binance", "GET", alpha.URL("binance", "/api/v3/account"))
	_, err = alpha.TryInput(blob, "key", "import", "binance", "--wrapped")
	wantsRefusal(t, err, "WRAPPED_REPLAYED")
}

// endorse has a maker certify the TPM of a host, which begins anew.
func endorse(t *testing.T, d *daemontest.Daemon, with func(*tpmtest.Software)) {
	t.Helper()
	d.Kill()
	with(d.TPM)
	if err := os.RemoveAll(d.State); err != nil {
		t.Fatal(err)
	}
	d.Restart()
}

// A credential that is wrapped for a TPM with its maker's certificate opens there alone,
// and only makers that are trusted count. Alpha's TPM is certified by swtpm_setup
// (RSA-2048), beta's on P-256, gamma's by nobody.
func TestEndorsedImport(t *testing.T) {
	alpha, beta, gamma, l := daemontest.Start(t, remoteKeys()), daemontest.Start(t, remoteKeys()), daemontest.Start(t, remoteKeys()), newLaptop(t)
	maker := tpmtest.NewMaker(t)
	makers := map[string][]byte{"other.pem": tpmtest.NewMaker(t).Roots(), "beta.crt": maker.Roots()}
	endorse(t, alpha, func(s *tpmtest.Software) { makers["alpha.pem"] = s.Manufacture(t.TempDir()) })
	endorse(t, beta, func(s *tpmtest.Software) { maker.Endorse(s.Options(), tpmtest.P256) })
	if err := os.Mkdir(l.file("makers"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range makers {
		if err := os.WriteFile(l.file("makers/"+name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, d := range map[string]*daemontest.Daemon{"alpha.json": alpha, "beta.json": beta, "gamma.json": gamma} {
		l.meets(d, name)
	}
	for _, c := range []struct {
		d          *daemontest.Daemon
		host, root string
	}{{alpha, "alpha.json", "CN=swtpm-localca-rootca"}, {beta, "beta.json", "CN=A Maker's Root CA"}} {
		for _, key := range []string{"okx", "binance"} { // sealed and resident
			credential := c.d.Venues.Credential(key, "hmac-sha256").JSON()
			var result []struct {
				Blob        string
				Endorsement *struct{ Maker, TPM, Serial string }
			}
			if err := json.Unmarshal(l.wraps(c.d, key, c.host, credential, "--json", "--endorsed-by", l.file("makers")), &result); err != nil {
				t.Fatal(err)
			}
			if e := result[0].Endorsement; e == nil || e.Maker != c.root || e.TPM == "" || e.Serial == "" {
				t.Errorf("%s: %+v", c.host, e)
			}
			_, err := gamma.TryInput([]byte(result[0].Blob), "key", "import", key, "--wrapped")
			wantsRefusal(t, err, "WRAPPED_MISMATCH", "another host")
			if text, err := c.d.TryInput([]byte(result[0].Blob), "key", "import", key, "--wrapped"); err != nil || !strings.Contains(text, "version 1, active") {
				t.Fatalf("%s, %v", text, err)
			}
		}
		c.d.Must("request", "binance", "GET", c.d.URL("binance", "/api/v3/account"))
		if problems := c.d.Venues.Problems(); len(problems) > 0 {
			t.Error(problems)
		}
	}

	credential := alpha.Venues.Credential("okx", "hmac-sha256").JSON()
	_, err := l.tryWrap(alpha, "okx", "alpha.json", credential, "--endorsed-by", l.file("makers/other.pem"))
	wantsRefusal(t, err, "BAD_REQUEST", "unknown authority", "--endorsed-by takes the root")
	_, err = l.tryWrap(alpha, "okx", "gamma.json", credential, "--endorsed-by", l.file("makers"))
	wantsRefusal(t, err, "BAD_REQUEST", "without an endorsement certificate")
	document, err := os.ReadFile(l.file("alpha.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.file("changed.json"), bytes.Replace(document, []byte(`CERTIFICATE-----\nMII`), []byte(`CERTIFICATE-----\nMIJ`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = l.tryWrap(alpha, "okx", "changed.json", credential, "--endorsed-by", l.file("makers"))
	wantsRefusal(t, err, "BAD_REQUEST", "what it was made for was changed")
	if plain := l.wraps(alpha, "okx", "alpha.json", credential, "--json"); !bytes.Contains(plain, []byte(`"endorsement": null`)) {
		t.Errorf("%s", plain)
	}
	endorsementAuth(t, alpha, l.wraps(alpha, "okx", "alpha.json", credential, "--endorsed-by", l.file("makers/alpha.pem")))
}

// endorsementAuth: where the endorsement hierarchy has an authorization, the daemon needs
// it, as a credential of its unit.
func endorsementAuth(t *testing.T, d *daemontest.Daemon, blob []byte) {
	t.Helper()
	d.Kill()
	connection := tpmtest.Connect(t, d.TPM.Options())
	_, err := tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		NewAuth:    tpm2.TPM2BAuth{Buffer: []byte("endorsement")},
	}.Execute(connection)
	if err := errors.Join(err, connection.Close()); err != nil {
		t.Fatal(err)
	}
	d.Restart()
	_, err = d.TryInput(blob, "key", "import", "okx", "--wrapped")
	wantsRefusal(t, err, "TPM_UNAVAILABLE", "endorsement authorization", "tpm-endorsement-auth")
	credentials := t.TempDir()
	if err := os.WriteFile(filepath.Join(credentials, "tpm-endorsement-auth"), []byte("endorsement\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	d.Kill()
	d.Restart()
	if text, err := d.TryInput(blob, "key", "import", "okx", "--wrapped"); err != nil || !strings.Contains(text, "version 2") {
		t.Errorf("%s, %v", text, err)
	}
}

// The inbox takes a file while it is killed again and again, once.
func TestInboxUnderKills(t *testing.T) {
	d, l := daemontest.Start(t, remoteKeys()), newLaptop(t)
	l.meets(d, "host.json")
	const blobs = 5
	for i := range blobs {
		blob := l.wraps(d, "okx", "host.json", d.Venues.Credential("okx", "hmac-sha256").JSON())
		if err := os.WriteFile(filepath.Join(d.State, "inbox", fmt.Sprint("okx-", i)), blob, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(180+20*i) * time.Millisecond) // about when it is read
		d.Kill()
		d.Restart()
		eventually(t, "the file is put away", func() bool {
			_, err := os.Stat(filepath.Join(d.State, "inbox", fmt.Sprint("okx-", i)))
			return os.IsNotExist(err)
		})
	}
	var key struct {
		Active   int
		Versions []struct{ State string }
	}
	if err := json.Unmarshal([]byte(d.Must("key", "show", "okx", "--json")), &key); err != nil {
		t.Fatal(err)
	}
	if len(key.Versions) != blobs || key.Active != 0 {
		t.Errorf("of %d files came %+v", blobs, key)
	}
	for _, v := range key.Versions {
		if v.State != "pending" {
			t.Errorf("a version is %s", v.State)
		}
	}
	refused, err := filepath.Glob(filepath.Join(d.State, "inbox", "refused", "*.reason"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range refused { // taken, and the daemon killed before it could be deleted
		if text, err := os.ReadFile(file); err != nil || !bytes.Contains(text, []byte("taken already")) {
			t.Errorf("%s: %s, %v", file, text, err)
		}
	}
}
