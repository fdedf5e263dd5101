package main

import (
	"runtime"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/internal/build"
)

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
			v := buildJSON{build.Version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if a.json {
				return a.printJSON(v)
			}
			a.printf("sealsign %s %s %s\n", v.Version, v.Go, v.Platform)
			return nil
		},
	}
}
