package config

import (
	"fmt"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// formatVersion is the version of the file format that this code reads.
const formatVersion = 1

func (l *loader) version(root *section) {
	n, at, ok := typed[int64](root, "version", "the number 1")
	_, found := root.members["version"]
	switch {
	case !found:
		l.problem(at, "is missing; write version = %d, the version of this format, at the top", formatVersion)
	case ok && n != formatVersion:
		l.problem(at, "is %d; this version of sealsign reads %d", n, formatVersion)
	}
}

func (l *loader) agent(s *section) {
	a := &l.config.Agent
	a.StateDir, _ = s.absolute("state_dir", l.instance("/var/lib/sealsign"))
	a.RuntimeDir, _ = s.absolute("runtime_dir", l.instance("/run/sealsign"))
	var at place
	a.Environment, at = s.required("environment", `"production", "testnet" or a name of your own`)
	if a.Environment != "" && !isName(a.Environment) {
		l.problem(at, "%s is no name for an environment: %s", clip(a.Environment), nameRule)
	}
	a.SocketGroup, at = s.text("socket_group", "sealsign")
	gid, err := lookupGroup(a.SocketGroup)
	switch {
	case a.SocketGroup == "":
		l.problem(at, "is empty; name the group that may connect to the sockets")
	case err != nil:
		a.SocketGID = -1
		l.warning(at.path, "this host has no group %s: only the daemon's own user and root can connect to the sockets", clip(a.SocketGroup))
	default:
		a.SocketGID = int(gid)
	}
	a.Recovery = s.recovery("recovery")
	s.done("a setting of the agent")
}

// instance is the folder of the daemon that reads this config: sealsign@NAME.service,
// whose config is /etc/sealsign/NAME/sealsign.toml, has one of its own below the usual one.
func (l *loader) instance(usual string) string {
	if folder, name := filepath.Split(filepath.Dir(l.mainFile)); folder == "/etc/sealsign/" {
		return filepath.Join(usual, name)
	}
	return usual
}

func (l *loader) tpm(s *section) {
	t := &l.config.TPM
	var at place
	t.Device, at = s.text("device", "/dev/tpmrm0")
	if err := checkDevice(t.Device); err != nil {
		l.problem(at, "%v", err)
	}
	t.AllowSoftware = s.flag("allow_software")
	t.PCRs = s.pcrs("pcrs")
	t.PCRAuthority = s.authority("pcr_authority")
	t.NVBase = s.nvBase("nv_base")
	s.done("a setting of the TPM")
}

// checkDevice checks the form; whether the device is there is the daemon's business.
func checkDevice(device string) error {
	isPath := func(path string) bool { return filepath.IsAbs(path) && filepath.Clean(path) == path }
	if path, ok := strings.CutPrefix(device, "unix:"); ok && isPath(path) {
		return nil
	}
	if address, ok := strings.CutPrefix(device, "tcp:"); ok {
		host, port, err := net.SplitHostPort(address)
		if n, portErr := strconv.ParseUint(port, 10, 16); err == nil && host != "" && portErr == nil && n > 0 {
			return nil
		}
	}
	if device == "simulator" || isPath(device) {
		return nil
	}
	return fmt.Errorf(`is %s; it can be a device such as "/dev/tpmrm0", "unix:/path", "tcp:host:port", or "simulator" in development builds`, clip(device))
}

// The owner's NV indexes: TCG registry of reserved TPM 2.0 handles, table 2. The
// agent takes up to 256 from the base on.
const firstNV, lastNV = 0x01800000, 0x01bfff00

func (s *section) nvBase(name string) uint32 {
	n, at, ok := typed[int64](s, name, "a number such as 0x01835300")
	if ok && (n < firstNV || n > lastNV) {
		s.problem(at, "is %#x; the owner's NV indexes are from %#x to %#x", n, firstNV, lastNV)
		return 0
	}
	return uint32(n) //nolint:gosec // within the two
}

// maxPCR is the highest register of the banks that PC platforms have: TCG PC
// Client Platform TPM Profile, section 4.6.
const maxPCR = 23

func (s *section) pcrs(name string) []int {
	items, _, _ := typed[[]value](s, name, "a list of numbers")
	var pcrs []int
	for _, item := range items {
		n, ok := item.data.(int64)
		switch {
		case !ok:
			s.mistyped(item, "the number of a register")
		case n < 0 || n > maxPCR:
			s.problem(item.place, "is %d; registers have the numbers 0 to %d", n, maxPCR)
		case slices.Contains(pcrs, int(n)):
			s.problem(item.place, "is %d a second time", n)
		default:
			pcrs = append(pcrs, int(n))
		}
	}
	slices.Sort(pcrs)
	return pcrs
}

func (l *loader) audit(s *section) {
	a := &l.config.Audit
	a.Sync = choice(s, "sync", SyncGroup, SyncGroup, SyncInterval)
	a.Checkpoint = s.duration("checkpoint", time.Minute)
	a.Segment = s.size("segment", 64<<20)
	a.Keep = s.duration("keep", 400*24*time.Hour)
	a.MaxSize = s.size("max_size", 20<<30)
	s.ignored("keep", "all records are kept")
	s.ignored("max_size", "the log is not kept below any size")
	s.done("a setting of the audit log")
}

// ignored warns of a value that is set and that this version doesn't act on.
func (s *section) ignored(name, instead string) {
	if _, ok := s.members[name]; ok {
		s.warning(join(s.path, name), "this version of sealsign doesn't act on it yet: %s", instead)
	}
}

var durationUnits = []unit{
	{"ms", int64(time.Millisecond)}, {"s", int64(time.Second)}, {"m", int64(time.Minute)},
	{"h", int64(time.Hour)}, {"d", 24 * int64(time.Hour)},
}

var sizeUnits = []unit{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}}

type unit struct {
	name string
	size int64
}

func (s *section) duration(name string, fallback time.Duration) time.Duration {
	return time.Duration(s.measure(name, int64(fallback), "10m", durationUnits))
}

func (s *section) size(name string, fallback int64) int64 {
	return s.measure(name, fallback, "64MiB", sizeUnits)
}

// measure reads a whole number with one of the units, e.g. "10m".
func (s *section) measure(name string, fallback int64, example string, units []unit) int64 {
	text, at, ok := typed[string](s, name, fmt.Sprintf("text such as %q", example))
	if !ok {
		return fallback
	}
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	n, err := strconv.ParseUint(digits, 10, 63)
	var names []string
	for _, u := range units {
		names = append(names, u.name)
		if err == nil && n > 0 && digits+u.name == text && int64(n) <= math.MaxInt64/u.size {
			return int64(n) * u.size
		}
	}
	s.problem(at, "is %s; a whole number above 0 with one of %s is wanted, such as %q", clip(text), list(names), example)
	return fallback
}
