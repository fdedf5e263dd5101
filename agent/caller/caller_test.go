package caller

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
	"golang.org/x/sys/unix"
)

func identify(t *testing.T, conn *net.UnixConn) *Caller {
	t.Helper()
	c, err := Identify(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestIdentifyAProcess(t *testing.T) {
	s := listen(t)
	client := s.start(t, "connect")
	c := identify(t, s.accept(t))

	if c.PID != client.Process.Pid || int(c.UID) != os.Getuid() || int(c.GID) != os.Getgid() {
		t.Errorf("got pid %d, uid %d, gid %d", c.PID, c.UID, c.GID)
	}
	own, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, gid := range append(own, os.Getgid()) {
		if !slices.Contains(c.Groups, uint32(gid)) {
			t.Errorf("group %d is not in %v", gid, c.Groups)
		}
	}
	if err := c.Alive(); err != nil {
		t.Errorf("a living process: %v", err)
	}
	client.end()
	if err := c.Alive(); !errors.Is(err, fault.CallerGone) {
		t.Errorf("a dead process: %v", err)
	}
}

func TestProgram(t *testing.T) {
	s := listen(t)
	client := s.start(t, "connect")
	c := identify(t, s.accept(t))

	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if exe, err := c.Exe(); err != nil || exe != self {
		t.Errorf("got %q, %v; want %q", exe, err, self)
	}
	want, err := hashFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := c.SHA256(); err != nil || sum != want || len(sum) != 64 {
		t.Errorf("got %q, %v; want %q", sum, err, want)
	}

	unread := identify(t, func() *net.UnixConn { client = s.start(t, "connect"); return s.accept(t) }())
	client.end()
	if _, err := unread.Exe(); !errors.Is(err, fault.CallerGone) {
		t.Errorf("the program of a dead process: %v", err)
	}
	if _, err := unread.SHA256(); !errors.Is(err, fault.CallerGone) {
		t.Errorf("the hash of a dead process: %v", err)
	}
}

func TestADeadProcessIsGone(t *testing.T) {
	s := listen(t)
	client := s.start(t, "connect")
	conn := s.accept(t)
	client.end()
	if c, err := Identify(conn); !errors.Is(err, fault.CallerGone) {
		t.Errorf("got %+v, %v", c, err)
	}
}

// A connection that was handed on speaks for the process that made it, and not
// for longer than that one lives, though it is still open elsewhere.
func TestAPassedDescriptorSpeaksForItsMaker(t *testing.T) {
	s := listen(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(pair[0]) }()
	childEnd := os.NewFile(uintptr(pair[1]), "pair")
	maker := s.start(t, "hand on", func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{childEnd} })
	_ = childEnd.Close()
	passed := receive(t, pair[0])
	defer func() { _ = passed.Close() }()

	conn := s.accept(t)
	c := identify(t, conn)
	if c.PID != maker.Process.Pid {
		t.Errorf("got pid %d, want the maker's %d", c.PID, maker.Process.Pid)
	}
	maker.end()
	if _, err := passed.Write([]byte("x")); err != nil {
		t.Fatalf("the passed descriptor doesn't work: %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the connection is not open any more: %v", err)
	}
	if err := c.Alive(); !errors.Is(err, fault.CallerGone) {
		t.Errorf("the maker has ended: %v", err)
	}
	if _, err := Identify(conn); !errors.Is(err, fault.CallerGone) {
		t.Errorf("identified anew: %v", err)
	}
}

func receive(t *testing.T, socket int) *os.File {
	t.Helper()
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), control, 0)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "passed")
}

func TestIdentifyAnotherUser(t *testing.T) {
	s := listen(t)
	s.start(t, "connect", asNobody(t))
	c := identify(t, s.accept(t))
	if c.UID != nobody || c.GID != nobody {
		t.Errorf("got uid %d, gid %d", c.UID, c.GID)
	}
	if len(c.Groups) != 101 || c.Groups[0] != nobody || !slices.Contains(c.Groups, 5099) {
		t.Errorf("got groups %v", c.Groups)
	}
}

func TestAnotherUsersProgramNeedsACapability(t *testing.T) {
	cmd := exec.Command("")
	asNobody(t)(cmd)
	cmd.Env = append(os.Environ(), roleVar+"=read the parent's program")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out); !strings.HasPrefix(got, "CALLER_UNKNOWN") || !strings.Contains(got, "CAP_SYS_PTRACE") {
		t.Errorf("got %s", got)
	}
}

func TestPidfdOf(t *testing.T) {
	now, err := bootTime()
	if err != nil {
		t.Fatal(err)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	pid, uid := os.Getpid(), uint32(os.Getuid())
	for _, test := range []struct {
		name     string
		pid      int
		uid      uint32
		accepted ticks
		gone     bool
	}{
		{"the one that connected", pid, uid, now, false},
		{"a pid that was given anew", pid, uid, 0, true},
		{"another user's pid", pid, uid + 1, now, true},
		{"no such process", ended.Process.Pid, uid, now, true},
	} {
		pidfd, err := pidfdOf(test.pid, test.uid, test.accepted)
		if errors.Is(err, fault.CallerGone) != test.gone {
			t.Errorf("%s: %v", test.name, err)
		}
		if err == nil {
			_ = unix.Close(pidfd)
		}
	}
}

// The program's name in /proc/PID/stat is its own to choose.
func TestStartOfIsNotMisledByTheName(t *testing.T) {
	const comm = "/proc/self/comm"
	name, err := os.ReadFile(comm)
	if err != nil {
		t.Fatal(err)
	}
	want, err := startOf(os.Getpid())
	if err != nil || want == 0 {
		t.Fatalf("got %d, %v", want, err)
	}
	if err := os.WriteFile(comm, []byte("x) S 1 2 (3"), 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.WriteFile(comm, name, 0) }()
	if got, err := startOf(os.Getpid()); err != nil || got != want {
		t.Errorf("got %d, %v; want %d", got, err, want)
	}
}

func TestCloseWhileAsked(t *testing.T) {
	c := self(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for c.Alive() == nil {
			}
		})
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := c.Alive(); !errors.Is(err, fault.CallerGone) {
		t.Errorf("a closed caller: %v", err)
	}
}

// self is this process as its own caller.
func self(t testing.TB) *Caller {
	t.Helper()
	pidfd, err := pidfdOf(os.Getpid(), uint32(os.Getuid()), ^ticks(0))
	if err != nil {
		t.Fatal(err)
	}
	c := &Caller{PID: os.Getpid(), open: true, pidfd: pidfd}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestAliveAllocatesNothing(t *testing.T) {
	c := self(t)
	if n := testing.AllocsPerRun(100, func() { _ = c.Alive() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAlive(b *testing.B) {
	c := self(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Alive(); err != nil {
			b.Fatal(err)
		}
	}
}
