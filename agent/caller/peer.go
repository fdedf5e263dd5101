package caller

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peerPidfd opens the process that connected. Linux 6.5 and later hand it out
// by the socket, which leaves no doubt; before, it is found by its pid.
func peerPidfd(fd, pid int, uid uint32, accepted ticks) (int, error) {
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	switch {
	case err == nil:
		return pidfd, nil
	case errors.Is(err, unix.ENOPROTOOPT):
		return pidfdOf(pid, uid, accepted)
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENODATA):
		return -1, gone(err) // which of them depends on the kernel's version
	}
	return -1, unknown("the kernel doesn't hand out process %d", pid).Because(err)
}

// pidfdOf opens a process by its pid, and refuses one that has got the pid since
// the connection was accepted, or that has another uid than the one that
// connected. What is left: a process of the same uid that got the pid while the
// connection waited to be accepted.
func pidfdOf(pid int, uid uint32, accepted ticks) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, gone(err)
	}
	started, err := startOf(pid)
	if err == nil && started > accepted {
		err = fmt.Errorf("pid %d is a younger process now", pid)
	}
	if err == nil {
		err = hasUID(pid, uid)
	}
	if err != nil {
		_ = unix.Close(pidfd)
		return -1, gone(err)
	}
	return pidfd, nil
}

// ticks are hundredths of a second since boot, suspended time included: the unit
// of /proc/PID/stat (USER_HZ, 100 on every Linux that Go runs on).
type ticks uint64

func bootTime() (ticks, error) {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return ticks(now.Nano() / 1e7), err
}

// startOf reads when a process started: field 22 of /proc/PID/stat, see
// proc_pid_stat(5). Field 2 is the program's own word and may hold anything, so
// the fields are counted from the last ")".
func startOf(pid int) (ticks, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const start = 22 - 3
	if len(fields) <= start {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	n, err := strconv.ParseUint(fields[start], 10, 64)
	return ticks(n), err
}

// hasUID: the process has this effective uid, the one that SO_PEERCRED tells.
func hasUID(pid int, uid uint32) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	_, line, _ := strings.Cut(string(status), "\nUid:")
	line, _, _ = strings.Cut(line, "\n")
	ids := strings.Fields(line) // real, effective, saved, file system
	if len(ids) != 4 || ids[1] != strconv.FormatUint(uint64(uid), 10) {
		return fmt.Errorf("pid %d has not the uid that connected", pid)
	}
	return nil
}

// peerGroups reads the supplementary groups that the process had when it
// connected. It asks again with more room where there are many.
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 32)
	for {
		size := uint32(4 * len(groups))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == unix.ERANGE && int(size) > 4*len(groups):
			groups = make([]uint32, size/4)
		case errno != 0:
			return nil, errno
		default:
			return groups[:size/4], nil
		}
	}
}
