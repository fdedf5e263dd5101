package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/client"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// completionPatience is how long the Tab key may wait for the daemon.
const completionPatience = 500 * time.Millisecond

func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "print a shell's completion script",
		Example: `  sealsign completion bash > /etc/bash_completion.d/sealsign
  sealsign completion zsh > /usr/share/zsh/site-functions/_sealsign
  sealsign completion fish > ~/.config/fish/completions/sealsign.fish`,
		Args:      words(1, 1),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.out)
			case "fish":
				return cmd.Root().GenFishCompletion(a.out, true)
			}
			return usage(cmd, "there is no completion for %q: only bash, zsh and fish", args[0])
		},
	}
}

// completeKey completes the first argument with the names of keys: those that
// this user's caller has, or all, for root.
func (a *app) completeKey(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
	defer cancel()
	return a.keyNames(ctx), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) keyNames(ctx context.Context) (names []string) {
	all, err := admin(ctx, a, sealsignv1.AdminClient.ListKeys, &sealsignv1.AdminListKeysRequest{})
	for _, key := range all.GetKeys() {
		names = append(names, key.GetName())
	}
	if err == nil {
		return names
	}
	_ = a.withAgent(func(agent *client.Client) error { // Tab has no place for an error
		granted, err := agent.Keys(ctx)
		for _, key := range granted {
			names = append(names, key.Name)
		}
		return err
	})
	return names
}
