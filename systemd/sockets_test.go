package systemd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is the daemon that systemd hands sockets to, where a test starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv("LISTEN_FDS") == "" {
		os.Exit(m.Run())
	}
	sockets, err := Sockets("agent", "http")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var names []string
	for name, l := range sockets {
		names = append(names, name+"="+l.Addr().String())
		_ = l.Close()
	}
	slices.Sort(names)
	fmt.Println(strings.Join(names, " "))
}

// handed starts a process that is handed the files as systemd does it, and gives what it prints.
func handed(t *testing.T, names string, files ...*os.File) string {
	t.Helper()
	command := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	command.ExtraFiles = files
	command.Env = append(os.Environ(), "LISTEN_FDNAMES="+names, fmt.Sprintf("LISTEN_FDS=%d", len(files)))
	output, err := command.Output()
	if err != nil && command.ProcessState == nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(output))
}

func TestSockets(t *testing.T) {
	dir := t.TempDir()
	file := func(network, name string) *os.File {
		t.Helper()
		var socket interface {
			File() (*os.File, error)
			Close() error
		}
		var err error
		switch network {
		case "tcp":
			socket, err = net.ListenTCP(network, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		case "unixgram":
			socket, err = net.ListenUnixgram(network, &net.UnixAddr{Name: filepath.Join(dir, name), Net: network})
		default:
			var l *net.UnixListener
			if l, err = net.ListenUnix(network, &net.UnixAddr{Name: filepath.Join(dir, name), Net: network}); err == nil {
				l.SetUnlinkOnClose(false)
			}
			socket = l
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = socket.Close() })
		f, err := socket.File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	a, h := file("unix", "a"), file("unix", "h")
	if got, want := handed(t, "agent:http", a, h), "agent="+dir+"/a http="+dir+"/h"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); err != nil {
		t.Errorf("a socket of systemd's is gone when the daemon has closed it: %v", err)
	}
	for _, wrong := range []struct{ names, want string }{{"agent:other", `socket "other"`}, {"agent:agent", `socket "agent"`}, {"", `socket "LISTEN_FD_3"`}} {
		if got := handed(t, wrong.names, a, h); !strings.Contains(got, wrong.want) {
			t.Errorf("names %q: %q, want %q", wrong.names, got, wrong.want)
		}
	}
	pipe, other, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer other.Close()
	unheard, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	connected := os.NewFile(uintptr(unheard), "") // a unix stream socket that doesn't listen
	defer connected.Close()
	for what, f := range map[string]*os.File{"one that doesn't listen": connected, "TCP": file("tcp", ""), "datagrams": file("unixgram", "d"), "a pipe": pipe} {
		if got := handed(t, "agent", f); !strings.Contains(got, "no listening unix stream socket") {
			t.Errorf("%s: %q", what, got)
		}
	}
	if sockets, err := Sockets("agent"); sockets != nil || err != nil {
		t.Errorf("without systemd: %v, %v", sockets, err)
	}
}
