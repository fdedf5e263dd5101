package secmem

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/internal/fault"
)

// The kinds of guarded memory.
const (
	kindSecret = "memfd_secret"
	kindLocked = "mlock"
)

// kind asks the kernel once. memfd_secret(2) is missing before Linux 5.14, where
// secretmem.enable=0, and where a seccomp filter doesn't know it.
var kind = sync.OnceValue(func() string {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return kindLocked
	}
	_ = unix.Close(fd) // nothing was written to it
	return kindSecret
})

// mapPages maps n zeroed bytes, n being a multiple of the page size.
func mapPages(n int) ([]byte, error) {
	mapKind := mapLocked
	if kind() == kindSecret {
		mapKind = mapSecret
	}
	pages, err := mapKind(n)
	if err != nil {
		return nil, refusal(n, err)
	}
	return pages, nil
}

// mapSecret maps pages that are in nobody's map but this process's.
func mapSecret(n int) ([]byte, error) {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_secret", err)
	}
	defer unix.Close(fd) // the mapping keeps the pages
	if err := unix.Ftruncate(fd, int64(n)); err != nil {
		return nil, os.NewSyscallError("ftruncate", err)
	}
	pages, err := unix.Mmap(fd, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return pages, nil
}

// mapLocked maps pages that aren't swapped, dumped or copied by fork.
func mapLocked(n int) ([]byte, error) {
	pages, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	err = errors.Join(
		os.NewSyscallError("mlock", unix.Mlock(pages)),
		os.NewSyscallError("madvise DONTDUMP", unix.Madvise(pages, unix.MADV_DONTDUMP)),
		os.NewSyscallError("madvise DONTFORK", unix.Madvise(pages, unix.MADV_DONTFORK)),
	)
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(pages))
	}
	return pages, nil
}

// refusal says what to change. EAGAIN comes from memfd_secret's mmap, ENOMEM and
// EPERM from mlock, when RLIMIT_MEMLOCK is reached.
func refusal(n int, err error) error {
	f := fault.New(fault.MemoryUnavailable, "%d more bytes of memory for secrets can't be had: %v", n, err).Because(err)
	if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.EPERM) {
		return f
	}
	return f.WithHint("raise %s: LimitMEMLOCK=64M in the unit, or ulimit -l in a shell", limit())
}

// limit is RLIMIT_MEMLOCK in words.
func limit() string {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l); err != nil || l.Cur == unix.RLIM_INFINITY {
		return "the limit on locked memory"
	}
	return fmt.Sprintf("the limit on locked memory, now %d KiB", l.Cur>>10)
}

// Harden keeps the memory of the whole process from other processes of its user
// and from core dumps. It is called first in main. It stops no root. From then on
// files under /proc/self belong to root, so that an unprivileged process can't
// open most of its own.
func Harden() error {
	return errors.Join(
		os.NewSyscallError("prctl PR_SET_DUMPABLE", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)),
		os.NewSyscallError("setrlimit RLIMIT_CORE", unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})),
	)
}
