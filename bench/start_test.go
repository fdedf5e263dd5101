package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/daemontest"
)

// BenchmarkStart is how long the daemon takes from its start until it says that it
// is ready, and until it has signed with a key that was not loaded yet.
func BenchmarkStart(b *testing.B) {
	for _, keys := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			chosen := strings.ReplaceAll(manyKeys(keys, 0), "probe = ", "version = 1\nprobe = ")
			d := daemontest.Start(b, chosen+fmt.Sprintf("[callers.me]\nuid = %d\nroles = [\"all\"]\n", os.Getuid()))
			imports(b, d, 1)
			multiply(b, d, keys)
			bin, err := daemontest.Build()
			if err != nil {
				b.Fatal(err)
			}
			var ready, signed time.Duration
			for b.Loop() {
				r, s := startOnce(b, filepath.Join(bin, "sealsignd"), d)
				ready, signed = ready+r, signed+s
			}
			b.ReportMetric(ready.Seconds()*1000/float64(b.N), "ready-ms")
			b.ReportMetric(signed.Seconds()*1000/float64(b.N), "signed-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// multiply makes of a daemon with one key a stopped one with so many: what has files
// and no manifest is a state to recover. That the others' files are the first one's
// copies shows when they are loaded, which a start doesn't wait for.
func multiply(b *testing.B, d *daemontest.Daemon, keys int) {
	b.Helper()
	d.Stop()
	version, err := os.ReadFile(filepath.Join(d.State, "keys", keyName(0), "1.tpm"))
	if err != nil {
		b.Fatal(err)
	}
	for i := 1; i < keys; i++ {
		folder := filepath.Join(d.State, "keys", keyName(i))
		if err := os.Mkdir(folder, 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "1.tpm"), version, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(d.State, "manifest.json")); err != nil {
		b.Fatal(err)
	}
	d.Restart()
	d.Must("store", "recover", "--yes")
	d.Stop()
}

func startOnce(b *testing.B, program string, d *daemontest.Daemon) (ready, signed time.Duration) {
	b.Helper()
	process := exec.Command(program, "--config", d.Config)
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := process.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := process.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = process.Process.Signal(syscall.SIGTERM)
		_ = process.Wait()
	}()
	lines := bufio.NewScanner(log)
	for ready == 0 && lines.Scan() {
		if strings.Contains(lines.Text(), "msg=ready") {
			ready = time.Since(began)
		}
	}
	if ready == 0 {
		b.Fatal("the daemon ended without being ready")
	}
	go io.Copy(io.Discard, log) //nolint:errcheck // it ends with the daemon
	agent, err := client.Dial(d.Run)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = agent.Close() }()
	request := &client.Request{Key: keyName(0), Method: http.MethodGet, URL: d.URL("okx", "/api/v5/account/balance")}
	if _, err := agent.Sign(b.Context(), request); err != nil {
		b.Fatal(err)
	}
	return ready, time.Since(began)
}
