package server

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sealsign/sealsign/internal/fault"
)

// Sockets are the listeners that a Server serves. A nil one isn't served. They
// are Listen's, or what systemd opened.
type Sockets struct {
	Agent net.Listener // gRPC, for apps: release
	HTTP  net.Listener // HTTP/1.1, for apps: forward
	Admin net.Listener // gRPC, for root and the daemon's own user

	Metrics net.Listener // HTTP/1.1, for Prometheus; see ListenMetrics
}

// probeTimeout is ample for a daemon on the same host.
const probeTimeout = time.Second

// Listen opens agent.sock, http.sock and admin.sock in dir, which is made where
// it is missing. The first two are for the members of the group gid; with -1,
// for the daemon's own user and root. Who may do what is decided by who
// connects; the modes only keep others from connecting at all.
func Listen(dir string, gid int) (_ *Sockets, err error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	sockets := new(Sockets)
	defer func() {
		if err != nil {
			sockets.close()
		}
	}()
	if sockets.Agent, err = listen(filepath.Join(dir, "agent.sock"), appMode(gid), gid); err != nil {
		return nil, err
	}
	if sockets.HTTP, err = listen(filepath.Join(dir, "http.sock"), appMode(gid), gid); err != nil {
		return nil, err
	}
	if sockets.Admin, err = listen(filepath.Join(dir, "admin.sock"), 0o600, -1); err != nil {
		return nil, err
	}
	return sockets, nil
}

func (s *Sockets) close() {
	for _, l := range []net.Listener{s.Agent, s.HTTP, s.Admin, s.Metrics} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// makeDir makes the runtime folder. One in which others may rename files is
// refused: they could put a socket of their own in place of the daemon's.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fault.New(fault.ConfigInvalid, "agent.runtime_dir: %v", err).WithHint("%s", ownHint(dir)).Because(err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fault.New(fault.ConfigInvalid, "agent.runtime_dir: %v", err)
	}
	if info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fault.New(fault.ConfigInvalid, "agent.runtime_dir: everybody may write to %s", dir).WithHint("chmod o-w %s", dir)
	}
	return nil
}

// ownHint has the runtime folder made for the daemon, which is no root in most places.
func ownHint(dir string) string {
	return fmt.Sprintf("make it for the daemon's user: sudo install -d -o %s -m 0755 %s", cmp.Or(userName(), "USER"), dir)
}

// userName is the name of the user that this process runs as, or empty.
func userName() string {
	me, err := user.Current()
	if err != nil {
		return ""
	}
	return me.Username
}

// appMode is the mode of a socket for the members of a group; -1 is none.
func appMode(gid int) fs.FileMode {
	if gid < 0 {
		return 0o600
	}
	return 0o660
}

// listen opens one socket. Between bind and chmod only the daemon's own user can
// connect, with any umask but 0.
func listen(path string, mode fs.FileMode, gid int) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fault.New(fault.ConfigInvalid, "%s can't be opened: %v", path, err).WithHint("%s", ownHint(filepath.Dir(path))).Because(err)
	}
	if err = errors.Join(ownedBy(path, gid), os.Chmod(path, mode)); err != nil {
		_ = l.Close()
		return nil, fault.New(fault.ConfigInvalid, "%s: %v", path, err).
			WithHint("the daemon's user must be root or in the group of agent.socket_group").Because(err)
	}
	return l, nil
}

// ownedBy gives a socket to a group, unless it is: the unit forbids the call.
func ownedBy(path string, gid int) error {
	info, err := os.Lstat(path)
	if err != nil || gid < 0 || info.Sys().(*syscall.Stat_t).Gid == uint32(gid) { //nolint:gosec // ids are 32 bits wide
		return err
	}
	return os.Chown(path, -1, gid)
}

// removeStale removes the socket that a killed daemon left. One that answers is
// another daemon's. Of two daemons that start in the same instant both may find
// it stale: the later one's socket stays. systemd never starts two.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.New(fault.ConfigInvalid, "%s: %v", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fault.New(fault.ConfigInvalid, "%s is there and is not a socket", path).WithHint("look at what it is, and move it away")
	}
	c, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fault.New(fault.AgentUnavailable, "another daemon serves %s", path).
			WithHint("pgrep -a sealsignd shows which; stop it, or set agent.runtime_dir").Because(err)
	}
	return os.Remove(path)
}
