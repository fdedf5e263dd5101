package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sealsign/sealsign/internal/build"
)

// manCommand is for packagers, and so not in the help.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "write a man page for each command into a folder",
		Example: "  sealsign man dist/man",
		Hidden:  true,
		Args:    words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return writeManPages(cmd.Root(), args[0])
		},
	}
}

// writeManPages writes sealsign.1, sealsign-key.1, sealsign-key-import.1, ….
func writeManPages(cmd *cobra.Command, dir string) error {
	path := filepath.Join(dir, pageName(cmd)+".1")
	if err := os.WriteFile(path, []byte(manPage(cmd)), 0o644); err != nil {
		return err
	}
	for _, member := range cmd.Commands() {
		if !member.IsAvailableCommand() {
			continue
		}
		if err := writeManPages(member, dir); err != nil {
			return err
		}
	}
	return nil
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage is a command's help in the man macros of groff_man(7).
func manPage(cmd *cobra.Command) string {
	var b strings.Builder
	section := func(name string) { fmt.Fprintf(&b, ".SH %s\n", name) }

	fmt.Fprintf(&b, ".TH %s 1 \"\" \"sealsign %s\"\n", strings.ToUpper(pageName(cmd)), roff(build.Version()))
	section("NAME")
	fmt.Fprintf(&b, "%s \\- %s\n", roff(pageName(cmd)), roff(cmd.Short))
	section("SYNOPSIS")
	fmt.Fprintf(&b, ".B %s\n%s\n", roff(cmd.CommandPath()), roff(synopsis(cmd)))
	if cmd.Long != "" {
		section("DESCRIPTION")
		writeText(&b, cmd.Long)
	}
	if cmd.HasAvailableSubCommands() {
		section("COMMANDS")
		for _, member := range cmd.Commands() {
			if member.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(member.Name()), roff(member.Short))
			}
		}
	}
	section("OPTIONS")
	writeOptions(&b, cmd.NonInheritedFlags())
	writeOptions(&b, cmd.InheritedFlags())
	section("EXAMPLES")
	fmt.Fprintf(&b, ".nf\n%s\n.fi\n", roff(cmd.Example))
	section("EXIT STATUS")
	fmt.Fprintf(&b, "%d done, %d refused or failed, %d wrong usage.\n", exitDone, exitFailed, exitUsage)
	if cmd.HasParent() {
		section("SEE ALSO")
		fmt.Fprintf(&b, ".BR %s (1)\n", roff(pageName(cmd.Parent())))
	}
	return b.String()
}

// synopsis is what follows the command's name.
func synopsis(cmd *cobra.Command) string {
	_, takes, _ := strings.Cut(cmd.Use, " ")
	if cmd.HasAvailableSubCommands() {
		takes = "COMMAND"
	}
	return joined(" ", takes, "[options]")
}

// writeText writes paragraphs; an indented one is shown as it is.
func writeText(b *strings.Builder, text string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		switch {
		case strings.HasPrefix(paragraph, " "):
			fmt.Fprintf(b, ".PP\n.nf\n%s\n.fi\n", roff(paragraph))
		case i > 0:
			fmt.Fprintf(b, ".PP\n%s\n", roff(paragraph))
		default:
			fmt.Fprintf(b, "%s\n", roff(paragraph))
		}
	}
}

func writeOptions(b *strings.Builder, flags *pflag.FlagSet) {
	flags.VisitAll(func(flag *pflag.Flag) {
		kind, text := pflag.UnquoteUsage(flag)
		name := "--" + flag.Name
		if flag.Shorthand != "" {
			name = "-" + flag.Shorthand + ", " + name
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(joined(" ", name, kind)), roff(text))
	})
}

// roff escapes text for the man macros: backslashes, dashes that must stay
// plain ones, dots that aren't ASCII, and line starts that would be read as a macro.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", `\[u2026]`).Replace(text)
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}
