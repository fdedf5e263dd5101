package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func testRoot() *cobra.Command {
	return (&app{out: &output{Writer: io.Discard}, errs: io.Discard}).root()
}

// walk visits a command and all below it.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, member := range cmd.Commands() {
		walk(member, visit)
	}
}

// What the commands are named is part of the contract with scripts and people.
func TestTheCommandsAreTheContracts(t *testing.T) {
	want := []string{
		"audit checkpoint", "audit public-key", "audit tail", "audit verify", "backup", "completion", "config check", "config reload", "doctor",
		"host-key", "importer enroll", "importer list", "importer remove",
		"key generate", "key import", "key list", "key public", "key rebind", "key reseal", "key resume", "key revoke", "key rotate", "key show",
		"key suspend", "key wrap", "login", "pcr approve", "pcr install", "pcr show", "policy test", "request", "restore", "sign", "status", "store recover", "venues", "version",
	}
	var got []string
	walk(testRoot(), func(cmd *cobra.Command) {
		if !cmd.HasSubCommands() && cmd.IsAvailableCommand() {
			got = append(got, strings.TrimPrefix(cmd.CommandPath(), "sealsign "))
		}
	})
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("commands\n got %v\nwant %v", got, want)
	}
}

// Each example must be a command line that is accepted as far as its words and flags go.
func TestEachCommandHasExamplesThatParse(t *testing.T) {
	walk(testRoot(), func(cmd *cobra.Command) {
		if cmd.Name() == "help" {
			return
		}
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s: no short description or no example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			if err := parseExample(strings.TrimSpace(line)); err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), line, err)
			}
		}
	})
}

// parseExample takes a line of shell apart as far as the examples go: a pipe
// before, a redirection after, single quotes.
func parseExample(line string) error {
	line = line[strings.Index(line, "sealsign "):]
	line, _, _ = strings.Cut(line, " > ")
	line, _, _ = strings.Cut(line, " < ")
	var args []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			args = append(args, part)
		} else {
			args = append(args, strings.Fields(part)...)
		}
	}
	cmd, rest, err := testRoot().Find(args[1:])
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// A flag that could carry a credential must not exist.
func TestNoFlagTakesACredential(t *testing.T) {
	walk(testRoot(), func(cmd *cobra.Command) {
		for _, name := range []string{"secret", "passphrase", "private-key", "api-key", "credential", "password"} {
			if cmd.Flags().Lookup(name) != nil {
				t.Errorf("%s has the flag --%s", cmd.CommandPath(), name)
			}
		}
	})
}
