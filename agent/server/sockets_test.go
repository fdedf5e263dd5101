package server

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
)

func TestListen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "sealsign")
	sockets, err := Listen(dir, os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.close()
	for name, want := range map[string]fs.FileMode{
		"": fs.ModeDir | 0o755, "agent.sock": fs.ModeSocket | 0o660, "http.sock": fs.ModeSocket | 0o660, "admin.sock": fs.ModeSocket | 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", info.Name(), info.Mode(), want)
		}
	}
	if _, err := Listen(dir, os.Getgid()); !errors.Is(err, fault.AgentUnavailable) || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("a second daemon in the same folder gets %v", err)
	}
}

func TestListenWithoutGroupIsForOneUser(t *testing.T) {
	dir := t.TempDir()
	sockets, err := Listen(dir, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.close()
	if info, err := os.Stat(filepath.Join(dir, "agent.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("agent.sock has mode %v, %v", info.Mode(), err)
	}
}

func TestListenReplacesAStaleSocket(t *testing.T) {
	dir := t.TempDir()
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "agent.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false) // as a killed daemon leaves it
	_ = left.Close()
	sockets, err := Listen(dir, -1)
	if err != nil {
		t.Fatal(err)
	}
	sockets.close()
	if _, err := os.Stat(filepath.Join(dir, "agent.sock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("closing leaves the socket: %v", err)
	}
}

func TestListenRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(dir string) error
		says    string
	}{
		"a file in the socket's place": {
			func(dir string) error { return os.WriteFile(filepath.Join(dir, "http.sock"), nil, 0o600) }, "is not a socket",
		},
		"a folder that everybody may write to": {
			func(dir string) error { return os.Chmod(dir, 0o777) }, "everybody may write",
		},
		"a file in the folder's place": {
			func(dir string) error { return errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600)) }, "not a directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := test.prepare(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Listen(dir, -1)
			if !errors.Is(err, fault.ConfigInvalid) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want CONFIG_INVALID with %q", err, test.says)
			}
			if _, err := os.Stat(filepath.Join(dir, "agent.sock")); err == nil {
				t.Error("it leaves agent.sock behind")
			}
		})
	}
}

// The daemon's user may seldom make its folder: root does it, and is told how.
func TestListenSaysHowTheFolderIsMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Listen(filepath.Join(file, "run"), -1)
	if hint := fault.From(err).Hint; !strings.Contains(hint, "sudo install -d -o ") || !strings.HasSuffix(hint, "/file/run") {
		t.Errorf("%v has the hint %q", err, hint)
	}
}

func TestPlaces(t *testing.T) {
	var p places
	for range maxPerCaller {
		if _, err := p.connect(7); err != nil {
			t.Fatal(err)
		}
	}
	var refusal *fault.Error
	if _, err := p.connect(7); !errors.As(err, &refusal) || refusal.Reason != fault.TooManyConnections || refusal.RetryAfter == 0 {
		t.Errorf("connection %d of one uid gets %v", maxPerCaller+1, err)
	}
	leave, err := p.connect(8)
	if err != nil {
		t.Errorf("another uid gets %v", err)
	}
	leave()
	if p.of[8] != nil {
		t.Error("a uid that has left is still counted")
	}
	for range maxConnections {
		if leave, err = p.enter(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.enter(); !errors.Is(err, fault.TooManyConnections) {
		t.Errorf("connection %d gets %v", maxConnections+1, err)
	}
	leave()
	if _, err := p.enter(); err != nil {
		t.Errorf("a place that is free again isn't given: %v", err)
	}
}
