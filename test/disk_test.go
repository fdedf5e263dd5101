//go:build integration

package test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/daemontest"
)

// mountTmpfs puts a small empty disk in place of the state of a daemon that is stopped.
func mountTmpfs(t *testing.T, d *daemontest.Daemon) {
	t.Helper()
	d.Stop()
	if err := syscall.Mount("none", d.State, "tmpfs", syscall.MS_NOSUID, "size=32m,mode=0700"); err != nil {
		t.Fatalf("this test mounts a disk and needs root: %v", err)
	}
	t.Cleanup(func() {
		d.Kill()
		if err := syscall.Unmount(d.State, 0); err != nil {
			t.Error(err)
		}
	})
}

// onTmpfs gives the daemon a small disk of its own for its state.
func onTmpfs(t *testing.T, d *daemontest.Daemon) {
	t.Helper()
	mountTmpfs(t, d)
	d.Restart()
	for name, algorithm := range traderAlgorithms {
		d.Import(name, d.Venues.Credential(name, algorithm))
	}
}

// fill takes all that is left of a disk.
func fill(t *testing.T, dir string) (path string) {
	t.Helper()
	path = filepath.Join(dir, "filler")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := io.Copy(file, neverEnding{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk ends with %v", err)
	}
	return path
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

// says runs the sealsign command, which is to fail for that reason, or where it is empty, not to.
func says(t *testing.T, d *daemontest.Daemon, reason string, args ...string) {
	t.Helper()
	if _, err := d.Try(args...); (reason == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), reason) {
		t.Errorf("sealsign %s: %v, want %q", strings.Join(args, " "), err, reason)
	}
}

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// remount makes the daemon's disk read-only, or with 0 writable again.
func remount(t *testing.T, d *daemontest.Daemon, flags uintptr) {
	t.Helper()
	if err := syscall.Mount("none", d.State, "tmpfs", syscall.MS_REMOUNT|syscall.MS_NOSUID|flags, ""); err != nil {
		t.Fatal(err)
	}
}

// While the disk is full nothing is sent but cancels, keys can be suspended, the
// daemon starts, and it recovers by itself.
func TestFullDisk(t *testing.T) {
	d := daemontest.Start(t, traders())
	onTmpfs(t, d)
	read := []string{"request", "okx", "GET", d.URL("okx", "/api/v5/account/balance")}
	cancel := []string{"request", "okx", "POST", d.URL("okx", "/api/v5/trade/cancel-order"), "--data", `{"instId":"BTC-USDT","ordId":"1"}`}
	says(t, d, "", read...)

	filler := fill(t, d.State)
	eventually(t, "the refusal", func() bool { // what is left of the last block is used up
		_, err := d.Try(read...)
		return err != nil && strings.Contains(err.Error(), "AUDIT_UNAVAILABLE")
	})
	d.Venues.Reset()
	says(t, d, "AUDIT_UNAVAILABLE", read...)
	says(t, d, "AUDIT_UNAVAILABLE", "sign", "okx", "GET", d.URL("okx", "/api/v5/account/balance"))
	if seen := d.Venues.Seen("okx"); seen.Accepted["read"] > 0 {
		t.Errorf("the venue has seen %v", seen)
	}
	says(t, d, "", "key", "suspend", "binance") // the first that needs room
	says(t, d, "", cancel...)
	says(t, d, "KEY_SUSPENDED", "request", "binance", "GET", d.URL("binance", "/api/v3/account"))
	if status := d.Must("status"); !strings.Contains(status, "full") {
		t.Errorf("status says nothing of the disk:\n%s", status)
	}

	d.Kill()
	d.Restart() // with the disk as full
	says(t, d, "AUDIT_UNAVAILABLE", read...)
	says(t, d, "", cancel...)

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the recovery", func() bool {
		_, err := d.Try(read...)
		return err == nil
	})
	says(t, d, "KEY_SUSPENDED", "request", "binance", "GET", d.URL("binance", "/api/v3/account"))
	d.Must("audit", "checkpoint")
	d.Must("audit", "verify", filepath.Join(d.State, "audit"))
}

// A disk that has become read-only, as the kernel makes one that fails: the
// daemon goes on and starts, and tells why it does nothing.
func TestReadOnlyDisk(t *testing.T) {
	d := daemontest.Start(t, traders())
	onTmpfs(t, d)
	read := []string{"request", "okx", "GET", d.URL("okx", "/api/v5/account/balance")}
	d.Kill() // a disk with files open for writing isn't made read-only by hand
	remount(t, d, syscall.MS_RDONLY)
	d.Restart()
	d.Venues.Reset()
	says(t, d, "AUDIT_UNAVAILABLE", read...)
	says(t, d, "", "status")
	says(t, d, "the disk did not take it", "key", "suspend", "okx")
	if seen := d.Venues.Seen("okx"); seen.Accepted["read"] > 0 {
		t.Errorf("the venue has seen %v", seen)
	}
	says(t, d, "KEY_SUSPENDED", read...) // it is in force, though it could not be written
	remount(t, d, 0)
	eventually(t, "the recovery", func() bool {
		_, err := d.Try("key", "resume", "okx")
		return err == nil
	})
	says(t, d, "", read...)
}

// A first start on a disk that takes nothing: the daemon is there and says so, and goes
// on by itself once it does.
func TestFirstStartOnAReadOnlyDisk(t *testing.T) {
	d := daemontest.Start(t, traders())
	mountTmpfs(t, d)
	remount(t, d, syscall.MS_RDONLY)
	d.Restart()
	says(t, d, "STORE_UNAVAILABLE", "request", "okx", "GET", d.URL("okx", "/api/v5/account/balance"))
	if status := d.Must("status"); !strings.Contains(status, "read-only file system") {
		t.Errorf("status says nothing of the disk:\n%s", status)
	}
	remount(t, d, 0)
	eventually(t, "the recovery", func() bool {
		_, err := d.TryInput(d.Venues.Credential("okx", "hmac-sha256").JSON(), "key", "import", "okx")
		return err == nil
	})
	says(t, d, "", "request", "okx", "GET", d.URL("okx", "/api/v5/account/balance"))
}
