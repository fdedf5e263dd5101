//go:build integration

package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/daemontest"
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
func (l *laptop) wraps(d *daemontest.Daemon, key, host string, credential []byte) []byte {
	l.Helper()
	blob, err := d.TryInput(credential, "key", "wrap", key, "--config", d.Config, "--host-key", l.file(host), "--identity", l.file("alice"),
		"--runtime-dir", l.file("no daemon"))
	if err != nil {
		l.Fatal(err)
	}
	return []byte(blob)
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
