// Package caller says who is on the other end of a Unix socket, by what the
// kernel tells: user, groups and systemd unit, and where the daemon may read
// it, the program. None of it is the caller's own word. A caller is identified
// once per connection, and asked for again (Alive) before anything leaves: a
// descriptor that it hands on speaks for it, and only as long as it lives.
package caller

import (
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/sealsign/sealsign/internal/fault"
	"golang.org/x/sys/unix"
)

// Caller is the process that connected. UID, GID and Groups are those that it
// had when it did. A Caller is safe for concurrent use.
type Caller struct {
	PID    int
	UID    uint32
	GID    uint32
	Groups []uint32 // GID first, then the supplementary ones
	Unit   string   // systemd unit that the system manager made, or empty: see unitOf

	exe, sha256 func() (string, error)

	mu    sync.RWMutex // keeps the descriptor open while it is asked
	open  bool
	pidfd int
}

// Identify asks the kernel who connected. Errors are faults: CALLER_GONE where
// the process has ended, CALLER_UNKNOWN where it can't be described. The caller
// is to be closed; the connection stays the server's own.
func Identify(conn *net.UnixConn) (*Caller, error) {
	accepted, err := bootTime()
	if err != nil {
		return nil, fmt.Errorf("reading the boot clock: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, gone(err)
	}
	c := &Caller{}
	if ctlErr := raw.Control(func(fd uintptr) { err = c.ask(int(fd), accepted) }); ctlErr != nil {
		return nil, gone(ctlErr)
	}
	if err == nil {
		err = c.readUnit()
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	c.exe = sync.OnceValues(c.readExe)
	c.sha256 = sync.OnceValues(c.hashExe)
	return c, nil
}

// ask fills in what the socket itself knows.
func (c *Caller) ask(fd int, accepted ticks) error {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return unknown("the kernel doesn't say who is connected").Because(err)
	}
	if cred.Pid == 0 {
		return unknown("the process that connected is in a pid namespace that the agent can't see").
			WithHint("run sealsignd in the host's pid namespace")
	}
	groups, err := peerGroups(fd)
	if err != nil {
		return unknown("the kernel doesn't say the groups of process %d", cred.Pid).Because(err)
	}
	c.PID, c.UID, c.GID = int(cred.Pid), cred.Uid, cred.Gid
	c.Groups = append([]uint32{cred.Gid}, groups...)
	c.pidfd, err = peerPidfd(fd, c.PID, c.UID, accepted)
	c.open = err == nil
	return err
}

// readUnit reads the unit by pid, then makes sure that the pid was the caller's
// all along.
func (c *Caller) readUnit() error {
	cgroup, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.PID))
	if goneErr := c.Alive(); goneErr != nil {
		return goneErr
	}
	if err != nil {
		return unknown("the systemd unit of process %d can't be read", c.PID).Because(err).
			WithHint("let sealsignd see all processes: ProtectProc=default in its unit, /proc without hidepid")
	}
	c.Unit = unitOf(string(cgroup))
	return nil
}

// Alive says whether the process that connected still lives, in about a
// microsecond. The error is CALLER_GONE.
func (c *Caller) Alive() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.open {
		return gone(os.ErrClosed)
	}
	poll := [1]unix.PollFd{{Fd: int32(c.pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll[:], 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return gone(err)
		case n > 0: // a pidfd is readable once its process has ended: pidfd_open(2)
			return gone(nil)
		}
		return nil
	}
}

// Close lets go of the process. Alive is CALLER_GONE from then on.
func (c *Caller) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open {
		return nil
	}
	c.open = false
	return unix.Close(c.pidfd)
}

func gone(cause error) *fault.Error {
	return fault.New(fault.CallerGone, "the process that connected has ended").Because(cause)
}

func unknown(format string, args ...any) *fault.Error {
	return fault.New(fault.CallerUnknown, format, args...)
}
