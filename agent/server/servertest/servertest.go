// Package servertest gives tests a whole agent: its sockets, a software TPM and
// mock exchanges. Only tests import it.
package servertest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/server"
	"github.com/sealsign/sealsign/internal/mockvenue"
	"github.com/sealsign/sealsign/internal/tpmtest"
)

// Host is a running agent and what is around it. The process that runs the test
// is its caller "me", with the keys acme, okx and binance.
type Host struct {
	Dir     string // of the sockets
	State   string // the agent's state folder
	Config  string // path of its config file
	Agent   *agent.Agent
	Server  *server.Server
	Sockets *server.Sockets
	Venues  *mockvenue.Server

	log   *slog.Logger
	ended chan error
}

// keys are those of the host, each with the credential that the mock exchange issued.
var keys = []struct{ name, algorithm string }{{"acme", "hmac-sha256"}, {"okx", "hmac-sha256"}, {"binance", "hmac-sha256"}}

// Settings are what a test may want otherwise.
type Settings struct {
	Role string // lines of [roles.all] in place of DefaultRole
	Sync string // of the log; "group" where it is empty
	Log  *slog.Logger

	Metrics string // metrics.listen, with DIR for the folder of the sockets; empty: none
}

// DefaultRole lets the caller read and trade.
const DefaultRole = `allow = ["read", "trade", "cancel"]` + "\n" + `release = "bound"`

// Start starts a host that ends with the test. The path of a socket is at most
// 107 bytes long, so its folder is not below the test's own.
func Start(t testing.TB, settings Settings) *Host {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealsign")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &Host{
		Dir: filepath.Join(dir, "run"), State: filepath.Join(dir, "state"), Config: filepath.Join(dir, "sealsign.toml"), ended: make(chan error, 1),
	}
	if h.Venues, err = mockvenue.Start(mockvenue.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Venues.Close)
	if err := os.WriteFile(h.Config, []byte(h.config(settings)), 0o600); err != nil {
		t.Fatal(err)
	}
	if settings.Log == nil {
		settings.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	}
	ctx := context.Background()
	h.Agent, err = agent.Start(ctx, agent.Options{Config: h.Config, Logger: settings.Log, TPM: tpmtest.Simulator(t).Dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Agent.Stop() })
	for _, key := range keys {
		if _, err := h.Agent.Import(ctx, &caller.Caller{}, key.name, h.Venues.Credential(key.name, key.algorithm).JSON()); err != nil {
			t.Fatal(err)
		}
	}
	h.log = settings.Log
	h.Serve(t)
	t.Cleanup(func() { h.Stop(t) })
	return h
}

// Serve opens the sockets, after Stop those of a second server.
func (h *Host) Serve(t testing.TB) { h.ServeOn(t, func(*server.Sockets) {}) }

// ServeOn is Serve on sockets that change has changed.
func (h *Host) ServeOn(t testing.TB, change func(*server.Sockets)) {
	t.Helper()
	sockets, err := server.Listen(h.Dir, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := sockets.ListenMetrics(h.Agent); err != nil {
		t.Fatal(err)
	}
	change(sockets)
	h.serve(sockets)
}

func (h *Host) serve(sockets *server.Sockets) {
	h.Sockets = sockets
	h.Server = server.New(h.Agent, h.log)
	go func() { h.ended <- h.Server.Serve(sockets) }()
}

// Restart is Stop and Serve on the same sockets, which stay open in between as they do
// under systemd: who connects meanwhile waits.
func (h *Host) Restart(t testing.TB) {
	t.Helper()
	kept := &server.Sockets{Agent: keep(t, h.Sockets.Agent), HTTP: keep(t, h.Sockets.HTTP), Admin: keep(t, h.Sockets.Admin)}
	h.Stop(t)
	h.serve(kept)
}

// RestartUnderLoad restarts so many times, while each of asks is called over and over,
// and answers some calls between any two restarts. It tells how many calls of each were
// answered; one that fails ends its calls and the test.
func (h *Host) RestartUnderLoad(t testing.TB, times int, asks ...func() error) (answered []int) {
	t.Helper()
	counts := make([]atomic.Int64, len(asks))
	over := make(chan struct{})
	var load sync.WaitGroup
	for i, ask := range asks {
		load.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if err := ask(); err != nil {
					t.Error(err)
					return
				}
				counts[i].Add(1)
			}
		})
	}
	for range times {
		for i := range counts {
			for before := counts[i].Load(); counts[i].Load() < before+3 && !t.Failed(); {
				time.Sleep(time.Millisecond)
			}
		}
		h.Restart(t)
	}
	close(over)
	load.Wait()
	for i := range counts {
		answered = append(answered, int(counts[i].Load()))
	}
	return answered
}

// keep is the same socket, open after l is closed.
func keep(t testing.TB, l net.Listener) net.Listener {
	t.Helper()
	socket, ok := l.(*net.UnixListener)
	if !ok {
		t.Fatalf("%v is no unix socket", l)
	}
	socket.SetUnlinkOnClose(false)
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	// Not File, whose descriptor makes the socket a blocking one for a moment, in which Accept would hang.
	var fd int
	if failed := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	file := os.NewFile(uintptr(fd), socket.Addr().String())
	defer file.Close()
	kept, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// Stop stops serving; the agent goes on.
func (h *Host) Stop(t testing.TB) {
	t.Helper()
	if h.Server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	h.Server.Stop(ctx)
	if ctx.Err() != nil {
		t.Error("stopping was held up until it was cut off")
	}
	if err := <-h.ended; err != nil {
		t.Error(err)
	}
	h.Server = nil
}

// Socket is the path of one of the sockets.
func (h *Host) Socket(name string) string { return filepath.Join(h.Dir, name) }

// URL is an https URL at one of the mock exchanges.
func (h *Host) URL(venue, target string) string { return "https://" + h.Venues.Host(venue) + target }

func (h *Host) config(settings Settings) string {
	if settings.Role == "" {
		settings.Role = DefaultRole
	}
	if settings.Sync == "" {
		settings.Sync = "group"
	}
	text := fmt.Sprintf(`version = 1
[agent]
environment = "test"
state_dir = %q
runtime_dir = %q
[tpm]
device = "simulator"
allow_software = true
[audit]
sync = %q
[callers.me]
uid = %d
roles = ["all"]
[roles.all]
keys = ["acme", "okx", "binance"]
%s
`, h.State, h.Dir, settings.Sync, os.Getuid(), settings.Role)
	for _, key := range keys {
		text += fmt.Sprintf("[keys.%s]\nvenue = %q\nalgorithm = %q\nenvironment = \"test\"\nprobe = \"off\"\n", key.name, key.name, key.algorithm)
	}
	if settings.Metrics != "" {
		text += fmt.Sprintf("[metrics]\nlisten = %q\n", strings.ReplaceAll(settings.Metrics, "DIR", h.Dir))
	}
	return text + h.Venues.Config("test")
}
