package systemd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// manager is what receives notifications in place of systemd.
type manager struct{ *net.UnixConn }

func newManager(t *testing.T) manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return manager{conn}
}

func (m manager) hears(t *testing.T) string {
	t.Helper()
	text := make([]byte, 4096)
	n, err := m.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(text[:n])
}

func TestNotifications(t *testing.T) {
	m := newManager(t)
	Ready()
	reloaded := Reloading()
	reloaded()
	Stopping()
	for _, want := range []string{"READY=1", "RELOADING=1\nMONOTONIC_USEC=", "READY=1", "STOPPING=1"} {
		if got := m.hears(t); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestStatus(t *testing.T) {
	m := newManager(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		TellStatus(ctx, func() string { return "2 active" })
	}()
	if got := m.hears(t); got != "STATUS=2 active" {
		t.Errorf("%q", got)
	}
	stop()
	<-done
}

// The watchdog hears of the daemon while the test is passed, and not otherwise.
func TestWatchdog(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "2000")
	var log bytes.Buffer
	var tests atomic.Int32
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, slog.New(slog.NewTextHandler(&log, nil)), func(context.Context) error {
			if tests.Add(1) <= 3 {
				return errors.New("no answer")
			}
			return nil
		})
	}()
	if got := m.hears(t); got != "WATCHDOG=1" {
		t.Errorf("%q", got)
	}
	if n := tests.Load(); n < 4 {
		t.Errorf("the watchdog is told after %d tests, of which the first three failed", n)
	}
	stop()
	<-done
	if n := strings.Count(log.String(), "event=self-test-failed"); n != 3 {
		t.Errorf("%d failures are in the log:\n%s", n, log.String())
	}
}
