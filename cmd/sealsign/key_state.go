package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sealsign/sealsign/internal/fault"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func (a *app) keySuspendCommand() *cobra.Command {
	var all, cancelOnly bool
	cmd := &cobra.Command{
		Use:               "suspend [NAME|--all]",
		Short:             "stop signing with a key at once, until it is resumed",
		Example:           "  sealsign key suspend binance-main\n  sealsign key suspend --all\n  sealsign key suspend binance-main --cancel-only",
		Args:              words(0, 1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := oneOrAll(cmd, args, all)
			if err != nil {
				return err
			}
			request := &sealsignv1.SuspendKeysRequest{Name: name, All: all, CancelOnly: cancelOnly}
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.SuspendKeys, request)
			return a.printStates(answer, err)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every key")
	cmd.Flags().BoolVar(&cancelOnly, "cancel-only", false, "let cancels pass")
	return cmd
}

func (a *app) keyResumeCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:               "resume [NAME|--all]",
		Short:             "let a suspended key sign again",
		Example:           "  sealsign key resume binance-main\n  sealsign key resume --all",
		Args:              words(0, 1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := oneOrAll(cmd, args, all)
			if err != nil {
				return err
			}
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.ResumeKeys, &sealsignv1.ResumeKeysRequest{Name: name, All: all})
			if err := a.printStates(answer, err); err != nil || all {
				return err
			}
			return signs(answer.GetKeys()[0])
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every key")
	return cmd
}

// signs refuses a key that no version of signs, with the reason that a request would get.
func signs(key *sealsignv1.Key) error {
	if key.GetActive() != 0 && key.GetState() == "active" || key.GetReason() == "" {
		return nil
	}
	return fault.New(fault.Reason(key.GetReason()), "%s is resumed and can't sign: %s", key.GetName(), key.GetProblem()).WithHint("%s", key.GetNext())
}

// oneOrAll reads NAME or --all: one of them, not both.
func oneOrAll(cmd *cobra.Command, args []string, all bool) (string, error) {
	switch {
	case all && len(args) > 0:
		return "", usage(cmd, "%s takes a NAME or --all, not both", cmd.CommandPath())
	case !all && len(args) == 0:
		return "", usage(cmd, "%s takes a NAME, or --all", cmd.CommandPath())
	case all:
		return "", nil
	}
	return args[0], nil
}

func (a *app) keyRevokeCommand() *cobra.Command {
	var version uint32
	var yes, all bool
	cmd := &cobra.Command{
		Use:   "revoke [NAME|--all]",
		Short: "destroy a key's versions, for good",
		Long: `revoke destroys the sealed credential of one version, or of all that there are.
It is for good: nothing brings a revoked version back, a later import makes a
new one. The venue doesn't know of it: delete the API key there as well.

A copy of a version's file, in a backup for example, can be opened on this
host's TPM by root after that, until revoke --all. That destroys every version
of every key, and counts the TPM's host epoch on, so that the TPM opens none of
them any more, wherever a copy is. Where the TPM is gone, it is told when it is
back; sealsign status shows it until then.

On a terminal it asks first; elsewhere it wants --yes.`,
		Example:           "  sealsign key revoke binance-main --version 2\n  sealsign key revoke binance-main --yes\n  sealsign key revoke --all",
		Args:              words(0, 1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := oneOrAll(cmd, args, all)
			if err != nil {
				return err
			}
			if all {
				return a.revokeAll(cmd, version, yes)
			}
			if !yes {
				if err := a.confirmRevoke(cmd, name, version); err != nil {
					return err
				}
			}
			request := &sealsignv1.RevokeKeyRequest{Name: name, Version: version, All: version == 0}
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.RevokeKey, request)
			if err != nil || a.json {
				return a.printStates(answer, err)
			}
			a.printf("%s\n", revokedText(answer.GetKeys()[0], version))
			return nil
		},
	}
	versionFlag(cmd, &version, "version `N`; without it all there are")
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	cmd.Flags().BoolVar(&all, "all", false, "every version of every key, copies of their files included")
	return cmd
}

func (a *app) revokeAll(cmd *cobra.Command, version uint32, yes bool) error {
	if version != 0 {
		return usage(cmd, "--all takes no --version")
	}
	if !yes {
		err := a.confirm(cmd, cmd.CommandPath()+" --all --yes", "This destroys every version of every key of this host, for good. Type all", "all")
		if err != nil {
			return err
		}
	}
	answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.RevokeAllKeys, &sealsignv1.RevokeAllKeysRequest{})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(revokedJSON{Keys: keysToJSON(answer.GetKeys()), Outside: orEmpty(answer.GetOutside())})
	}
	a.printf("every version of every key is revoked, and opens from no copy on this host any more; delete the API keys at their exchanges too\n")
	if outside := answer.GetOutside(); len(outside) > 0 {
		a.printf("but for these, which an earlier sealsign sealed: delete their API keys at the venues: %s\n", visible(strings.Join(outside, ", ")))
	}
	return nil
}

// revokedJSON is what `key revoke --all --json` prints.
type revokedJSON struct {
	Keys    []keyJSON `json:"keys"`
	Outside []string  `json:"outside"` // "binance-main 1": a copy of its file opens on this host still
}

// revokedText says what was revoked, and what signs from now on.
func revokedText(key *sealsignv1.Key, version uint32) string {
	switch {
	case version == 0:
		return "all versions of " + key.GetName() + " are revoked"
	case key.GetActive() != 0:
		return fmt.Sprintf("version %d of %s is revoked; version %d signs on", version, key.GetName(), key.GetActive())
	}
	return fmt.Sprintf("version %d of %s is revoked; none signs", version, key.GetName())
}

// confirmRevoke wants the key's name typed, since there is no way back.
func (a *app) confirmRevoke(cmd *cobra.Command, name string, version uint32) error {
	what := "all versions of " + name
	if version != 0 {
		what = fmt.Sprintf("version %d of %s", version, name)
	}
	return a.confirm(cmd, cmd.CommandPath()+" "+name+" --yes", "This destroys "+what+", for good. Type the key's name", name)
}

// confirm wants a word typed before what can't be undone. Without a terminal it
// names the command that doesn't ask.
func (a *app) confirm(cmd *cobra.Command, unasked, question, word string) error {
	if !term.IsTerminal(int(a.in.Fd())) {
		return usage(cmd, "this can't be undone, and there is no terminal to ask at").WithHint("%s", unasked)
	}
	fmt.Fprintf(a.errs, "%s to go on: ", question)
	line, _ := bufio.NewReader(a.in).ReadString('\n')
	if strings.TrimSpace(line) != word {
		return fault.New(failed, "that isn't %q, so nothing was done", word)
	}
	return nil
}

func (a *app) keyRebindCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rebind NAME",
		Short: "accept the config's hosts, CA and template for a key",
		Long: `Each version is sealed together with its venue, environment, algorithm, hosts,
CA and template, so that an edit of the config alone can't send a key elsewhere.
After such an edit the key answers KEY_REBIND_REQUIRED until rebind accepts it.
Another venue, environment or algorithm needs another import.`,
		Example:           "  sealsign key rebind binance-main",
		Args:              words(1, 1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.RebindKey, &sealsignv1.RebindKeyRequest{Name: args[0]})
			return a.printStates(answer, err)
		},
	}
}

// printStates prints the keys that a command changed, as they are now.
func (a *app) printStates(answer *sealsignv1.KeysResponse, err error) error {
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(keysToJSON(answer.GetKeys()))
	}
	for _, key := range answer.GetKeys() {
		a.printf("%s\n", visible(stateText(key)))
	}
	return nil
}

// stateText is a key's state, with the version that signs or why none does.
func stateText(key *sealsignv1.Key) string {
	text := key.GetName() + " is " + key.GetState()
	if key.GetState() == "active" {
		text += fmt.Sprintf(", version %d signs", key.GetActive())
	}
	return joined("; ", text, key.GetProblem())
}
