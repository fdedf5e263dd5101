// Package build tells which build of sealsign this program is.
package build

import "runtime/debug"

// version is set by the linker: see the Makefile.
var version string

// Version is that of the package and of what `make build` builds, as scripts/version
// gives it. Of another build, such as `go install`'s, it is the module's.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
