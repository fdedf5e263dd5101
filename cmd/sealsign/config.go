package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/agent/config"
	"github.com/sealsign/sealsign/internal/fault"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func (a *app) configCommand() *cobra.Command {
	return group("config", "check the config, and have it read again", "  sealsign config check /etc/sealsign/sealsign.toml",
		a.configCheckCommand(), a.configReloadCommand())
}

// checkJSON is what `config check --json` prints.
type checkJSON struct {
	OK       bool          `json:"ok"`
	Problems []problemJSON `json:"problems"`
	Warnings []string      `json:"warnings"`
}

type problemJSON struct {
	Path    string `json:"path"` // e.g. roles.market-maker.allow; empty: the file as a whole
	File    string `json:"file"`
	Line    int    `json:"line"` // 0: none in particular
	Message string `json:"message"`
}

func (a *app) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "find all problems of a config, without a daemon",
		Long: `check reads the config and conf.d/*.toml beside it with the daemon's own code,
and prints all problems and warnings at once.

The exit status is 1 where the daemon would refuse it.`,
		Example: "  sealsign config check /etc/sealsign/sealsign.toml",
		Args:    words(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			loaded, problems := config.Load(args[0])
			if a.json {
				if err := a.printJSON(checkToJSON(loaded, problems)); err != nil {
					return err
				}
			} else {
				a.printCheck(args[0], loaded, problems)
			}
			if len(problems) > 0 {
				return fault.New(fault.ConfigInvalid, "the daemon refuses %s: %s", args[0], count(len(problems), "problem"))
			}
			return nil
		},
	}
}

func (a *app) configReloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "have the daemon read the config again, and tell whether it took it",
		Long: `reload returns once the daemon has read the config. An edit takes effect without
it too, within a second; this is for who wants to know.

The exit status is 1 where the edit is refused: the config before it stays in force.`,
		Example: "  sudo sealsign config reload",
		Args:    words(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.Reload, &sealsignv1.ReloadRequest{})
			if err != nil {
				return err
			}
			state := answer.GetConfig()
			if a.json {
				if err := a.printJSON(configToJSON(state)); err != nil {
					return err
				}
			} else if state.GetOk() {
				a.printf("%s is in force\n", visible(state.GetPath()))
			}
			if !state.GetOk() {
				reason, message, _ := strings.Cut(state.GetError(), ": ")
				return fault.New(fault.Reason(reason), "%s", message).WithHint("%s", state.GetHint())
			}
			return nil
		},
	}
}

func checkToJSON(loaded *config.Config, problems config.Problems) checkJSON {
	result := checkJSON{OK: len(problems) == 0, Problems: make([]problemJSON, 0, len(problems)), Warnings: []string{}}
	for _, p := range problems {
		result.Problems = append(result.Problems, problemJSON{p.Path, p.File, p.Line, p.Message})
	}
	if loaded != nil {
		result.Warnings = orEmpty(loaded.Warnings)
	}
	return result
}

func (a *app) printCheck(file string, loaded *config.Config, problems config.Problems) {
	for _, p := range problems {
		a.printf("%s\n", visible(p.String()))
	}
	if len(problems) > 0 {
		return
	}
	for _, warning := range loaded.Warnings {
		a.printf("warning: %s\n", visible(warning))
	}
	a.printf("%s is good: environment %s, %s, %s, %s\n", file, loaded.Agent.Environment,
		count(len(loaded.Keys), "key"), count(len(loaded.Roles), "role"), count(len(loaded.Callers), "caller"))
}
