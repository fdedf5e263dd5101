package agent

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/internal/fault"
)

// openState makes sure that the state folder is the daemon's alone, and that no
// other daemon uses it. The lock ends with the folder's handle that is returned.
func openState(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.New(fault.ConfigInvalid, "agent.state_dir: %v", err).
			WithHint("make it for the daemon's user: install -d -m 0700 -o USER %s", dir)
	}
	var at unix.Stat_t
	if err := unix.Stat(dir, &at); err != nil {
		return nil, fault.New(fault.ConfigInvalid, "agent.state_dir: %s: %v", dir, err)
	}
	if int(at.Uid) != os.Geteuid() {
		return nil, fault.New(fault.ConfigInvalid, "agent.state_dir: %s belongs to uid %d, and the daemon runs as uid %d", dir, at.Uid, os.Geteuid()).
			WithHint("chown -R %d %s, if what is in it is to be trusted", os.Geteuid(), dir)
	}
	if at.Mode&0o077 != 0 {
		return nil, fault.New(fault.ConfigInvalid, "agent.state_dir: others may use %s (mode %04o)", dir, at.Mode&0o777).
			WithHint("chmod 0700 %s", dir)
	}
	lock, err := os.Open(dir) // the folder itself: a disk that takes no file will do
	if err != nil {
		return nil, fault.New(fault.ConfigInvalid, "agent.state_dir: %v", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fault.New(fault.AgentUnavailable, "another sealsignd uses %s", dir).
			WithHint("pgrep -a sealsignd shows which; stop it, or set agent.state_dir").Because(err), lock.Close())
	}
	return lock, nil
}
