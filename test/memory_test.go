//go:build integration

package test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/daemontest"
)

// TestSecretIsNowhere looks for the secret of a sealed HMAC key, after it has
// signed, in all that root can read: the daemon's memory, its files, its
// log, its environment and its arguments.
func TestSecretIsNowhere(t *testing.T) {
	d := daemontest.Start(t, fmt.Sprintf(`
[keys.binance]
venue = "binance"
algorithm = "hmac-sha256"
environment = "testnet"
[roles.all]
keys = ["binance"]
allow = ["read", "trade"]
[callers.me]
uid = %d
roles = ["all"]
`, os.Getuid()))
	credential := d.Venues.Credential("binance", "hmac-sha256")
	d.Import("binance", credential)
	for range 20 {
		d.Must("request", "binance", "GET", d.URL("binance", "/api/v3/account"))
	}
	if problems := d.Venues.Problems(); len(problems) > 0 {
		t.Fatal(problems)
	}

	needles := formsOf(secretOf(t, credential.JSON()), 64)
	if hits := searchMemory(t, d.PID(), map[string][]byte{"API key": apiKeyOf(t, credential.JSON())}); len(hits) == 0 {
		t.Fatal("the API key, which the daemon does hold, was not found: the search can't see its memory")
	}
	for _, hit := range searchMemory(t, d.PID(), needles) {
		t.Error(hit)
	}
	searchFiles(t, needles, d.Dir, fmt.Sprintf("/proc/%d/environ", d.PID()), fmt.Sprintf("/proc/%d/cmdline", d.PID()))
	d.Must("request", "binance", "GET", d.URL("binance", "/api/v3/account")) // it still signs
}

func field(t *testing.T, credential []byte, name string) []byte {
	t.Helper()
	var fields map[string]string
	if err := json.Unmarshal(credential, &fields); err != nil {
		t.Fatal(err)
	}
	return []byte(fields[name])
}

func secretOf(t *testing.T, credential []byte) []byte { return field(t, credential, "secret") }
func apiKeyOf(t *testing.T, credential []byte) []byte { return field(t, credential, "api_key") }

// formsOf are the forms in which an HMAC secret may lie about: as it is, as
// text, and XORed with the pads of RFC 2104 for hashes of the block size.
func formsOf(secret []byte, block int) map[string][]byte {
	padded := func(with byte) []byte {
		pad := bytes.Repeat([]byte{with}, block)
		for i := range secret {
			pad[i] ^= secret[i]
		}
		return pad
	}
	return map[string][]byte{
		"the secret":                     secret,
		"the secret in hex":              []byte(hex.EncodeToString(secret)),
		"the secret in base64":           []byte(base64.StdEncoding.EncodeToString(secret)[:len(secret)]),
		"the secret XORed with the ipad": padded(0x36),
		"the secret XORed with the opad": padded(0x5c),
	}
}

// searchMemory looks through every mapping that root can read.
func searchMemory(t *testing.T, pid int, needles map[string][]byte) (hits []string) {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatalf("this test reads another process's memory and needs root: %v", err)
	}
	defer maps.Close()
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatalf("this test reads another process's memory and needs root: %v", err)
	}
	defer memory.Close()
	read := 0
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		line := lines.Text()
		bounds, rest, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(rest, "r") {
			continue
		}
		low, high, _ := strings.Cut(bounds, "-")
		from, _ := strconv.ParseUint(low, 16, 63)
		to, _ := strconv.ParseUint(high, 16, 63)
		content := make([]byte, to-from)
		n, err := memory.ReadAt(content, int64(from))
		if err != nil {
			continue // memfd_secret, vvar: nobody reads these
		}
		read += n
		for name, needle := range needles {
			if bytes.Contains(content, needle) {
				hits = append(hits, name+" is in the memory "+line)
			}
		}
	}
	if read < 1<<20 {
		t.Fatalf("only %d bytes of memory could be read", read)
	}
	return hits
}

func searchFiles(t *testing.T, needles map[string][]byte, roots ...string) {
	t.Helper()
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || entry.Type()&fs.ModeSocket != 0 {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for name, needle := range needles {
				if bytes.Contains(content, needle) {
					t.Errorf("%s is in %s", name, path)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}
