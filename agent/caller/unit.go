package caller

import "strings"

// unitOf finds the systemd unit in the text of /proc/PID/cgroup: the first
// .service or .scope below slices that the system manager made, counted from
// the root. What is below it was made by the unit itself, in a subtree that is
// delegated to it, and counts for nothing. Nothing below user.slice or
// machine.slice counts: users' own managers and containers make units there
// under any name. Empty where there is no such unit, or any doubt.
func unitOf(cgroup string) string {
	path, found := unifiedPath(cgroup)
	if !found || !strings.HasPrefix(path, "/") {
		return ""
	}
	slice := ""
	for name := range strings.SplitSeq(path[1:], "/") {
		// systemd writes "_" before names that the kernel has a use for, such as cpu.service.
		name = strings.TrimPrefix(name, "_")
		if name == "user.slice" || name == "machine.slice" {
			return ""
		}
		if inner, ok := strings.CutSuffix(name, ".slice"); ok {
			// systemd.slice(5): a-b.slice is in a.slice, and nowhere else.
			if !isUnitName(name) || slice != "" && !strings.HasPrefix(inner, slice+"-") {
				return ""
			}
			slice = inner
			continue
		}
		if (strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".scope")) && isUnitName(name) {
			return name
		}
		return ""
	}
	return ""
}

// unifiedPath is the path of the one line that is of cgroup v2: cgroups(7).
func unifiedPath(cgroup string) (path string, found bool) {
	for line := range strings.Lines(cgroup) {
		rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue
		}
		if found {
			return "", false
		}
		path, found = rest, true
	}
	// A process outside of the agent's own cgroup namespace is seen from above.
	for name := range strings.SplitSeq(path, "/") {
		if name == ".." {
			return "", false
		}
	}
	return path, found
}

// isUnitName: something before the suffix, and only what systemd.unit(5) allows.
func isUnitName(name string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@"
	return name != "" && name[0] != '.' && strings.Trim(name, allowed) == ""
}
