package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker in a release; else the build's own information has it.
var version string

// buildJSON is what `version --json` prints.
type buildJSON struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "print the version of this command",
		Long:    "version prints the version of this command. 'sealsign status' has the daemon's.",
		Example: "  sealsign version",
		Args:    words(0, 0),
		RunE: func(*cobra.Command, []string) error {
			v := buildJSON{buildVersion(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if a.json {
				return a.printJSON(v)
			}
			a.printf("sealsign %s %s %s\n", v.Version, v.Go, v.Platform)
			return nil
		},
	}
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
