//go:build integration

package test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/daemontest"
)

// metered is a config with metrics at listen, with keys that a caller "me" may read and trade with.
func metered(listen string, keys ...string) string {
	text := fmt.Sprintf("[metrics]\nlisten = %q\n", listen)
	for _, key := range keys {
		text += fmt.Sprintf("[keys.%s]\nvenue = %q\nalgorithm = \"hmac-sha256\"\nenvironment = \"testnet\"\nmax_age = \"30d\"\nexpires = 2100-01-01T00:00:00Z\nprobe = \"off\"\n", key, key)
	}
	return text + fmt.Sprintf("[roles.all]\nkeys = [\"%s\"]\nallow = [\"read\", \"trade\"]\nrelease = \"bound\"\n[callers.me]\nuid = %d\nroles = [\"all\"]\n",
		strings.Join(keys, `", "`), os.Getuid())
}

func scrape(t *testing.T, network, address string) string {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}}
	response, err := c.Get("http://localhost/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", response.StatusCode, err)
	}
	return string(text)
}

// strangers has so many users ask that are no callers.
func strangers(t *testing.T, d *daemontest.Daemon, n int) {
	t.Helper()
	bin, err := daemontest.Build()
	if err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{d.Dir: 0o755, bin: 0o755, filepath.Join(d.Run, "agent.sock"): 0o666} {
		if err := os.Chmod(path, mode); err != nil { // so that they get there
			t.Fatal(err)
		}
	}
	for i := range n {
		if output, err := as(d, uint32(other+i), "sign", "okx", "GET", d.URL("okx", "/api/v5/account/balance")); !strings.Contains(output, "CALLER_UNKNOWN") {
			t.Errorf("uid %d: %v: %s", other+i, err, output)
		}
	}
}

// TestMetrics reads the metrics of a daemon, and with SEALSIGN_TEST_SCRAPE leaves them there for promtool.
func TestMetrics(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "m") // its path is short
	listen := "unix:" + socket
	d := daemontest.Start(t, metered(listen, "binance", "okx"))
	for _, key := range []string{"binance", "okx"} {
		d.Import(key, d.Venues.Credential(key, "hmac-sha256"))
	}
	d.Must("request", "binance", "GET", d.URL("binance", "/api/v3/account"))
	d.Must("sign", "okx", "GET", d.URL("okx", "/api/v5/account/balance"))
	if _, err := d.Try("sign", "okx", "POST", d.URL("okx", "/api/v5/asset/withdrawal"), "--data", "{}"); err == nil {
		t.Error("a withdrawal is signed")
	}
	strangers(t, d, 100)
	text := scrape(t, "unix", socket)
	for _, want := range []string{
		`sealsign_requests_total{caller="me",key="binance",operation="read",outcome="allowed",reason=""} 1`,
		`sealsign_requests_total{caller="me",key="okx",operation="read",outcome="allowed",reason=""} 1`,
		`sealsign_requests_total{caller="me",key="okx",operation="withdraw",outcome="denied",reason="OPERATION_NOT_GRANTED"} 1`,
		`sealsign_key_state{key="okx",state="active"} 1`,
		`sealsign_requests_total{caller="(unknown)",key="(unknown)",operation="unknown",outcome="denied",reason="CALLER_UNKNOWN"} 100`,
		"sealsign_tpm_up 1", "sealsign_audit_up 1", "sealsign_store_trusted 1",
		"process_resident_memory_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s", want)
		}
	}
	if n := strings.Count(text, "\nsealsign_requests_total{"); n != 4 {
		t.Errorf("the requests make %d series", n)
	}
	if file := os.Getenv("SEALSIGN_TEST_SCRAPE"); file != "" {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	d.Write(metered(listen, "okx"))
	for deadline := time.Now().Add(20 * time.Second); strings.Contains(scrape(t, "unix", socket), `"binance"`); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the series of a key that was removed stay")
		}
	}
	d.TPM.Kill()
	_, _ = d.Try("doctor") // it asks the TPM
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(scrape(t, "unix", socket), "sealsign_tpm_up 0"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the TPM is gone, and the metrics say it is up")
		}
	}
}
