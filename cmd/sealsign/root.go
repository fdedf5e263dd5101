package main

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sealsign/sealsign/client"
)

// app is what the commands share.
type app struct {
	runtimeDir string // where the daemon's sockets are
	json       bool   // print JSON

	in   *os.File
	out  *output
	errs io.Writer
}

// root makes the whole command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "sealsign",
		Short: "exchange API keys that never leave the host's TPM",
		Long: `sealsign talks to sealsignd, the agent that keeps exchange API credentials
sealed to this host's TPM and signs or sends requests for the programs on it.

Exit status: 0 done, 1 refused or failed, 2 wrong usage.`,
		Example: `  sealsign status
  sealsign key import binance-main
  sealsign request binance-main GET https://api.binance.com/api/v3/account`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:                       noSuchCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.runtimeDir, "runtime-dir", client.Dir(""), "the `DIR` of the daemon's sockets; $SEALSIGN_RUNTIME_DIR names another default")
	flags.BoolVar(&a.json, "json", false, "print JSON")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand())
	root.AddCommand(
		a.statusCommand(), a.doctorCommand(), a.venuesCommand(), a.configCommand(),
		a.keyCommand(), a.storeCommand(), a.backupCommand(), a.restoreCommand(),
		a.hostKeyCommand(), a.importerCommand(), a.pcrCommand(),
		a.signCommand(), a.requestCommand(), a.loginCommand(),
		a.policyCommand(), a.auditCommand(),
		a.completionCommand(), a.versionCommand(), a.manCommand(),
	)
	return root
}

// helpCommand is --help in another place.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "explain a command, as --help does",
		Example: "  sealsign help key import",
		Hidden:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 && about.HasSubCommands() {
				return noSuchCommand(about, rest)
			}
			about.InitDefaultHelpFlag() // which is in what --help prints
			return about.Help()
		},
	}
}

// flagError explains a flag that isn't there or has a value that it can't have, in
// other words than the parser's of numbers.
func flagError(cmd *cobra.Command, err error) error {
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if _, isNumber := errors.AsType[*strconv.NumError](err); !ok || !isNumber {
		return usage(cmd, "%v", err)
	}
	return usage(cmd, "--%s can't be %q: a number is wanted", invalid.GetFlag().Name, invalid.GetValue())
}

// group makes a command that only holds others.
func group(use, short, example string, members ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example,
		SuggestionsMinimumDistance: 2,
		Args:                       noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, "%s needs one of the commands %s", cmd.CommandPath(), strings.Join(names(cmd), ", "))
		},
	}
	cmd.AddCommand(members...)
	return cmd
}

// names lists the commands below cmd.
func names(cmd *cobra.Command) []string {
	var list []string
	for _, member := range cmd.Commands() {
		if member.IsAvailableCommand() {
			list = append(list, member.Name())
		}
	}
	return list
}

// noSuchCommand refuses words after a command that only holds others.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := usage(cmd, "%s has no command %q", cmd.CommandPath(), args[0])
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		return err.WithHint("%s %s", cmd.CommandPath(), similar[0])
	}
	return err.WithHint("%s --help", cmd.CommandPath())
}

// words accepts from least to most arguments. The names of them are those in cmd.Use.
func words(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		_, takes, _ := strings.Cut(cmd.Use, " ")
		if takes == "" {
			return usage(cmd, "%s takes no arguments", cmd.CommandPath())
		}
		return usage(cmd, "%s takes %s", cmd.CommandPath(), takes)
	}
}
