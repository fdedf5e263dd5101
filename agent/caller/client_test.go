package caller

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
	"golang.org/x/sys/unix"
)

// The test binary is its own client: with roleVar set it plays one of the roles
// below instead of running tests.
const (
	roleVar   = "SEALSIGN_CALLER_TEST"
	socketVar = "SEALSIGN_CALLER_SOCKET"
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVar); role {
	case "":
		os.Exit(m.Run())
	case "connect": // and stay until standard input ends
		dialled()
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "hand on": // the connection to the parent, as descriptor 3, and stay
		file, err := dialled().File()
		check(err)
		check(unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(file.Fd())), nil, 0))
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "read the parent's program":
		pidfd, err := unix.PidfdOpen(os.Getppid(), 0)
		check(err)
		c := &Caller{PID: os.Getppid(), open: true, pidfd: pidfd}
		_, err = c.readExe()
		fmt.Printf("%v|%s", err, fault.From(err).Hint)
	default:
		panic(role)
	}
}

func dialled() *net.UnixConn {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: os.Getenv(socketVar)})
	check(err)
	return conn
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// server accepts what its clients connect.
type server struct {
	*net.UnixListener
	path string
}

// folder is one that every user may enter, unlike t.TempDir.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "caller")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func listen(t *testing.T) server {
	t.Helper()
	path := filepath.Join(folder(t), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	return server{l, path}
}

func (s server) accept(t *testing.T) *net.UnixConn {
	t.Helper()
	_ = s.SetDeadline(time.Now().Add(10 * time.Second))
	conn, err := s.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// client is a child process; end lets it finish.
type client struct {
	*exec.Cmd
	end func()
}

func (s server) start(t *testing.T, role string, edits ...func(*exec.Cmd)) client {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVar+"="+role, socketVar+"="+s.path)
	cmd.Stderr = os.Stderr
	for _, edit := range edits {
		edit(cmd)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() { _, _ = stdin.Close(), cmd.Wait() })
	t.Cleanup(end)
	return client{cmd, end}
}

const nobody = 65534

// asNobody runs a copy of the test binary, since nobody else may enter the
// folder that the Go tool built it in.
func asNobody(t *testing.T) func(*exec.Cmd) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can start another user's process")
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder(t), "client")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	return func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = path, []string{path}
		cmd.Dir = "/"
		groups := make([]uint32, 100) // more than the first guess has room for
		for i := range groups {
			groups[i] = uint32(5000 + i)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: groups}}
	}
}
