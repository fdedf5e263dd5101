package main

import (
	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/client"
)

func (a *app) loginCommand() *cobra.Command {
	var channel string
	cmd := &cobra.Command{
		Use:   "login NAME",
		Short: "print the message that logs a WebSocket of the venue in",
		Long: `login prints the venue's own login message, to be sent as it is on a WebSocket
that was opened to the address printed on standard error. With --json standard
error stays empty.`,
		Example: `  sealsign login okx-main
  sealsign login coinbase-main --channel user --json`,
		Args:              words(1, 1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAgent(func(agent *client.Client) error {
				login, err := agent.Login(cmd.Context(), args[0], channel)
				if err != nil {
					return a.explained(err, agentSocket)
				}
				a.printf("%s\n", login.Message)
				if !a.json && login.URL != "" {
					a.notef("to be sent on a WebSocket to %s", login.URL)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&channel, "channel", "", "the `CHANNEL`, where the venue's login names one")
	return cmd
}
