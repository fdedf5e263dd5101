package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"

	"github.com/sealsign/sealsign/agent"
)

// What a file of the system's may be read or written by.
const (
	read      = ll.AccessFSReadFile | ll.AccessFSReadDir
	readWrite = ll.AccessFSReadFile | ll.AccessFSWriteFile
)

// systemFolders are where resolver, users, time zones and root certificates are. They
// are whole folders, since a rule is bound to a file's inode, and these files are
// replaced while the daemon runs: with a rule for /etc/resolv.conf alone, no name
// would resolve after the next DHCP lease. What the daemon's user may not read stays
// unreadable.
var systemFolders = []string{"/etc", "/usr/share", "/usr/local/share/ca-certificates", "/var/lib/ca-certificates"}

// limits are what Landlock limits: files, and listening on TCP. Not where the daemon
// connects to, since an edit may bring an exchange on any port, and is in force at once:
// that is for IPAddressAllow= of the unit.
var limits = landlock.Config{HandledAccessFS: landlock.V5.HandledAccessFS, HandledAccessNet: ll.AccessNetBindTCP}.BestEffort()

// confine shuts the process in by Landlock (landlock(7)), as far as the kernel has it:
// files from Linux 5.19 on, TCP from 6.7 on. It says how.
func confine(r *agent.Reach) (how string, err error) {
	if r.Programs {
		return "", errors.New("callers are told by exe or sha256, and Landlock keeps a process from looking at others' programs")
	}
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < 2 { // the inbox moves files from one folder to another, which the first never lets
		return "", errors.New("this kernel has no Landlock, or the first version only")
	}
	rules := []landlock.Rule{
		landlock.RWDirs(r.Own...).WithRefer().IgnoreIfMissing(),
		landlock.PathAccess(read, slices.Concat(r.Config, systemFolders, elsewhere())...).IgnoreIfMissing(),
		landlock.PathAccess(read, "/proc"), // of who connects: stat, status, cgroup
	}
	if filepath.IsAbs(r.TPM) { // its folder: the node is another one when the driver comes back
		rules = append(rules, landlock.PathAccess(readWrite, filepath.Dir(r.TPM)))
	}
	if err := limits.Restrict(rules...); err != nil {
		return "", fmt.Errorf("landlock: %w", err)
	}
	return fmt.Sprintf("Landlock ABI %d", abi), nil
}

// elsewhere lists what the system keeps outside of its folders on some hosts: the
// resolver's file below /run, certificates that the environment names (crypto/x509),
// and the credentials of the unit.
func elsewhere() (folders []string) {
	if target, err := filepath.EvalSymlinks("/etc/resolv.conf"); err == nil && strings.Count(target, "/") > 2 {
		folders = append(folders, filepath.Dir(target))
	}
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		folders = append(folders, filepath.Dir(file))
	}
	folders = append(folders, filepath.SplitList(os.Getenv("SSL_CERT_DIR"))...)
	if credentials := os.Getenv("CREDENTIALS_DIRECTORY"); credentials != "" {
		folders = append(folders, credentials)
	}
	return folders
}
