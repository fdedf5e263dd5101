package config

import (
	"io/fs"
	"path/filepath"
	"syscall"
)

// Foreign lists the paths in the state folder that belong to another user than uid, the
// daemon's: what root put back, the daemon can't read. The inbox is left out, since others
// put files there, and so is what can't be looked at.
func (a *Agent) Foreign(uid uint32) (paths []string) {
	_ = filepath.WalkDir(a.StateDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // its folder is on the list
		}
		if path == filepath.Join(a.StateDir, "inbox") {
			return fs.SkipDir
		}
		info, err := entry.Info()
		if err != nil {
			return nil //nolint:nilerr // it is gone
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != uid {
			paths = append(paths, path)
		}
		return nil
	})
	return paths
}
