package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/agent/config"
)

// littleSpace is what the log of a busy host takes in some hours: with less, it is time to look.
const littleSpace = 1 << 30

// offline is what doctor finds without a daemon: why there is none, mostly.
type offline []findingJSON

func (o *offline) add(area, level, what, next string) {
	*o = append(*o, findingJSON{area, level, what, next})
}

// examineOffline looks at what a daemon with this config stands on. It opens no TPM.
func examineOffline(file string) (o offline) {
	loaded, problems := config.Load(file)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		o.add("config", problem, "there is no "+file, "write it, or name another: sealsign doctor --config FILE")
		return o
	}
	if len(problems) > 0 {
		o.add("config", problem, joined("", problems[0].String(), more(len(problems)-1)), "sealsign config check "+file)
		return o
	}
	o.add("config", fine, file+" is good", "")
	if n := len(loaded.Warnings); n > 0 {
		o.add("config", warning, file+" has "+count(n, "warning"), "sealsign config check "+file)
	}
	if loaded.Agent.SocketGID < 0 {
		o.add("permissions", warning, "this host has no group "+loaded.Agent.SocketGroup+", whose members may connect to the sockets",
			"sudo groupadd --system "+loaded.Agent.SocketGroup)
	}
	owner := o.examineState(&loaded.Agent)
	o.examineReading(loaded.Files, owner)
	o.examineRuntime(loaded.Agent.RuntimeDir, owner)
	o.examineDevice(loaded.TPM.Device, owner)
	return o
}

// more says how many there are beside the one that is told.
func more(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", n)
}

// examineState looks at the state folder. Its owner is the user that the daemon is
// to run as; nil: nobody knows.
func (o *offline) examineState(agent *config.Agent) *user.User {
	dir := agent.StateDir
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		o.add("permissions", problem, "agent.state_dir: there is no "+dir, "sudo install -d -o sealsign -g sealsign -m 0700 "+dir)
		return nil
	case err != nil:
		o.add("permissions", problem, "agent.state_dir: "+err.Error(), "sudo sealsign "+shellLine(os.Args[1:]))
		return nil
	}
	owner := ownerOf(info)
	foreign := agent.Foreign(statOf(info).Uid)
	switch {
	case !info.IsDir():
		o.add("permissions", problem, "agent.state_dir: "+dir+" is no folder", "move it away, or correct agent.state_dir")
		return nil
	case info.Mode().Perm()&0o077 != 0:
		o.add("permissions", problem, fmt.Sprintf("agent.state_dir: others may use %s (mode %04o)", dir, info.Mode().Perm()), "sudo chmod 0700 "+dir)
	case len(foreign) > 0:
		o.add("permissions", problem, fmt.Sprintf("%d of the files and folders in %s do not belong to %s, %s first", len(foreign), dir, owner.Username, foreign[0]),
			fmt.Sprintf("if what is in it is to be trusted: sudo chown -R %s %s", owner.Username, dir))
	default:
		o.add("permissions", fine, fmt.Sprintf("%s is for %s alone, who the daemon must run as", dir, owner.Username), "")
	}
	o.examineSpace(dir)
	return owner
}

// ownerOf gives the number where the owner has no name.
func ownerOf(info fs.FileInfo) *user.User {
	id := strconv.Itoa(int(statOf(info).Uid))
	if owner, err := user.LookupId(id); err == nil {
		return owner
	}
	return &user.User{Uid: id, Username: "uid " + id}
}

func statOf(info fs.FileInfo) *syscall.Stat_t {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return new(syscall.Stat_t)
	}
	return stat
}

func (o *offline) examineSpace(dir string) {
	var disk unix.Statfs_t
	if unix.Statfs(dir, &disk) != nil {
		return
	}
	free := disk.Bavail * uint64(disk.Bsize) //nolint:gosec // a block has a positive size
	what := fmt.Sprintf("%d MiB are free for %s", free>>20, dir)
	switch {
	case free < littleSpace/16:
		o.add("disk", problem, what+": the log needs room, and without it nothing is signed", "df -h "+dir)
	case free < littleSpace:
		o.add("disk", warning, what, "df -h "+dir)
	default:
		o.add("disk", fine, what, "")
	}
}

// examineReading looks whether the daemon's user may read the config, which whoever
// runs doctor may.
func (o *offline) examineReading(files []string, owner *user.User) {
	if owner == nil {
		return
	}
	said := make(map[string]bool)
	for _, path := range files {
		for bits := fs.FileMode(0o4); !said[path]; path, bits = filepath.Dir(path), 0o1 {
			said[path] = true // "/" in the end
			if info, err := os.Stat(path); err == nil && !may(owner, info, bits) {
				o.add("permissions", problem, fmt.Sprintf("%s may not read %s (mode %04o, of %s)", owner.Username, path, info.Mode().Perm(), ownerOf(info).Username), "sudo chmod a+rX "+path)
			}
		}
	}
}

// examineRuntime looks at the folder of the sockets, which the daemon makes if it may.
func (o *offline) examineRuntime(dir string, owner *user.User) {
	if owner == nil || owner.Uid == "0" {
		return
	}
	next := fmt.Sprintf("sudo install -d -o %s -m 0755 %s", owner.Username, dir)
	info, err := os.Stat(dir)
	switch {
	case err == nil && ownerOf(info).Uid != owner.Uid:
		o.add("permissions", problem, fmt.Sprintf("agent.runtime_dir: %s belongs to %s, not to %s", dir, ownerOf(info).Username, owner.Username), next)
	case err == nil:
		o.add("permissions", fine, dir+" is "+owner.Username+"'s", "")
	default:
		parent, err := os.Stat(filepath.Dir(dir))
		if err != nil || ownerOf(parent).Uid != owner.Uid {
			o.add("permissions", problem, fmt.Sprintf("agent.runtime_dir: there is no %s, and %s may not make it", dir, owner.Username), next)
		}
	}
}

// examineDevice looks at the TPM's node, and whether the daemon's user may open it.
func (o *offline) examineDevice(device string, owner *user.User) {
	path, isSocket := strings.CutPrefix(device, "unix:")
	if !filepath.IsAbs(path) {
		o.add("tpm", warning, device+" can't be looked at without the daemon", "")
		return
	}
	info, err := os.Stat(path)
	switch {
	case err != nil && isSocket:
		o.add("tpm", problem, "tpm.device: "+err.Error(), "start the software TPM (swtpm) that is to listen there")
	case err != nil:
		o.add("tpm", problem, "tpm.device: "+err.Error(), "ls -l /dev/tpm*; where there is none, enable the TPM in the firmware")
	case owner != nil && !may(owner, info, 0o6):
		group := groupOf(info)
		next := fmt.Sprintf("sudo usermod -aG %s %s", group, owner.Username)
		if group == "root" { // which is no group to be in
			next = "have udev give it to the group tss: sudo apt install tpm-udev && sudo udevadm trigger --subsystem-match=tpmrm"
		}
		o.add("tpm", problem, fmt.Sprintf("tpm.device: %s may not open %s, which is for the group %s", owner.Username, path, group), next)
	default:
		o.add("tpm", fine, path+" is there", "")
	}
}

// may tells whether a file's mode has the bits for a user, as its last digit has them:
// 6 to read and write it.
func may(who *user.User, file fs.FileInfo, bits fs.FileMode) bool {
	stat, mode := statOf(file), file.Mode().Perm()
	groups, err := who.GroupIds()
	switch {
	case who.Uid == "0":
		return true
	case who.Uid == strconv.Itoa(int(stat.Uid)):
		mode >>= 6
	case err == nil && slices.Contains(groups, strconv.Itoa(int(stat.Gid))):
		mode >>= 3
	}
	return mode&bits == bits
}

func groupOf(info fs.FileInfo) string {
	id := strconv.Itoa(int(statOf(info).Gid))
	if group, err := user.LookupGroupId(id); err == nil {
		return group.Name
	}
	return id
}
