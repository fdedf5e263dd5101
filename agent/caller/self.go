package caller

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Self is this process: who asks where the agent itself does. The caller is to be
// closed.
func Self() (*Caller, error) {
	pid := os.Getpid()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the agent's own process: %w", err)
	}
	return &Caller{PID: pid, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), open: true, pidfd: pidfd}, nil //nolint:gosec // ids are 32 bits wide
}
