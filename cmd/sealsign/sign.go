package main

import (
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/fault"
)

func (a *app) signCommand() *cobra.Command {
	var m message
	cmd := &cobra.Command{
		Use:   "sign NAME METHOD URL",
		Short: "print a signed request, which is not sent",
		Long: `sign asks the agent for a signed request and prints it. Sending it is up to you,
within the few seconds for which the venue accepts it.

The caller is the program that connects: what is granted is what the config
grants to this user and unit, and its role needs release = "bound" or "unbound".
'sealsign request' has the agent send it and needs neither.`,
		Example: `  sealsign sign okx-main GET https://www.okx.com/api/v5/account/balance
  sealsign sign okx-main POST https://www.okx.com/api/v5/trade/order --data @order.json --json`,
		Args:              words(3, 3),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := m.read(a, cmd, args[1:]); err != nil {
				return err
			}
			return a.withAgent(func(agent *client.Client) error {
				signed, err := agent.Sign(cmd.Context(), &client.Request{Key: args[0], Method: m.method, URL: m.url, Header: m.header, Body: m.body})
				if err != nil {
					return a.explained(err, agentSocket)
				}
				return a.printSigned(signed)
			})
		},
	}
	m.flags(cmd)
	return cmd
}

// signedJSON is what `sign --json` prints.
type signedJSON struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

func (a *app) printSigned(signed *client.Signed) error {
	if a.json {
		if !utf8.Valid(signed.Body) {
			return fault.New(failed, "the body is not UTF-8 text, which JSON can't hold").WithHint("leave out --json")
		}
		return a.printJSON(signedJSON{signed.Method, signed.URL, signed.Header, string(signed.Body)})
	}
	a.printf("%s %s\n", signed.Method, signed.URL)
	for _, name := range slices.Sorted(maps.Keys(signed.Header)) {
		a.printf("%s: %s\n", name, signed.Header[name])
	}
	if len(signed.Body) > 0 {
		a.printf("\n%s\n", signed.Body)
	}
	return nil
}
