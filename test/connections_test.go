//go:build integration

package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/daemontest"
)

// other is the uid of a caller beside the one that runs the tests.
const other = 60123

// as runs the sealsign command as another user.
func as(d *daemontest.Daemon, uid uint32, args ...string) (string, error) {
	bin, err := daemontest.Build()
	if err != nil {
		return "", err
	}
	command := exec.Command(filepath.Join(bin, "sealsign"), args...)
	command.Env = append(os.Environ(), "SEALSIGN_RUNTIME_DIR="+d.Run)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uint32(os.Getgid()), NoSetGroups: true}}
	output, err := command.CombinedOutput()
	return string(output), err
}

// A thousand connections of one user that say nothing are in nobody else's way,
// and don't stay.
func TestSilentConnections(t *testing.T) {
	d := daemontest.Start(t, traders()+fmt.Sprintf("[callers.other]\nuid = %d\nroles = [\"all\"]\n", other))
	d.Import("okx", d.Venues.Credential("okx", "hmac-sha256"))
	bin, err := daemontest.Build()
	if err != nil {
		t.Fatal(err)
	}
	sockets := []string{filepath.Join(d.Run, "agent.sock"), filepath.Join(d.Run, "http.sock")}
	for path, mode := range map[string]os.FileMode{d.Dir: 0o755, bin: 0o755, sockets[0]: 0o666, sockets[1]: 0o666} {
		if err := os.Chmod(path, mode); err != nil { // so that the other user gets there
			t.Fatal(err)
		}
	}
	var silent []net.Conn
	for i := range 1000 {
		conn, err := net.Dial("unix", sockets[i%2])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	for _, verb := range []string{"sign", "request"} {
		if output, err := as(d, other, verb, "okx", "GET", d.URL("okx", "/api/v5/account/balance")); err != nil {
			t.Errorf("another user's %s: %v\n%s", verb, err, output)
		}
	}
	d.Must("status")
	deadline := time.Now().Add(time.Minute)
	for i, conn := range silent {
		if err := conn.SetReadDeadline(deadline); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d to %s is still open", i, sockets[i%2])
		}
	}
	d.Must("request", "okx", "GET", d.URL("okx", "/api/v5/account/balance"))
}
