package main

import (
	"errors"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
)

// Root opens any socket, so the refusal is given rather than met.
func TestNoPermissionNamesTheGroupThatMay(t *testing.T) {
	socket := filepath.Join(t.TempDir(), agentSocket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	group, err := user.LookupGroupId(strconv.Itoa(os.Getgid()))
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]string{
		0o660: "members of the group " + group.Name + " may: sudo usermod -aG " + group.Name + " $USER, then log in again",
		0o600: "sudo sealsign ",
	} {
		if err := os.Chmod(socket, mode); err != nil {
			t.Fatal(err)
		}
		got := unavailable(socket, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)})
		if !errors.Is(got, fault.AgentUnavailable) || got.Message != "no permission to open "+socket || !strings.HasPrefix(got.Hint, want) {
			t.Errorf("%v: got %v with hint %q, want hint %q", mode, got, got.Hint, want)
		}
	}
}

func TestShellLineReadsBackAsTheArguments(t *testing.T) {
	got := shellLine([]string{"policy", "test", "--data", "a=1&b=it's", ""})
	if want := `policy test --data 'a=1&b=it'\''s' ''`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
