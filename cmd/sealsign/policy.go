package main

import (
	"strings"

	"github.com/spf13/cobra"

	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func (a *app) policyCommand() *cobra.Command {
	return group("policy", "ask what the policy would decide",
		"  sealsign policy test --caller alpha GET https://api.binance.com/api/v3/account", a.policyTestCommand())
}

func (a *app) policyTestCommand() *cobra.Command {
	var m message
	var caller, key string
	var release bool
	cmd := &cobra.Command{
		Use:   "test METHOD URL",
		Short: "tell what would be decided for a caller's request, and by which rule",
		Long: `test asks the daemon what it would decide if the caller, a name under [callers],
made the request. Nothing is signed, sent, counted or recorded as a request.

The exit status is 0 where it would be allowed, 1 where it would be denied.`,
		Example: `  sealsign policy test --caller alpha GET https://api.binance.com/api/v3/account
  sealsign policy test --caller alpha --release POST https://api.binance.com/api/v3/order --data 'symbol=BTCUSDT&side=BUY&type=MARKET&quantity=1'`,
		Args: words(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if caller == "" {
				return usage(cmd, "%s needs --caller, a name under [callers] in the config", cmd.CommandPath())
			}
			if err := m.read(a, cmd, args); err != nil {
				return err
			}
			request := &sealsignv1.TestPolicyRequest{Caller: caller, Key: key, Method: m.method, Url: m.url, Body: m.body, Release: release}
			for name, values := range m.header {
				for _, value := range values {
					request.Headers = append(request.Headers, name+": "+value)
				}
			}
			verdict, err := admin(cmd.Context(), a, sealsignv1.AdminClient.TestPolicy, request)
			if err != nil {
				return err
			}
			return a.printVerdict(verdict)
		},
	}
	m.flags(cmd)
	cmd.Flags().StringVar(&caller, "caller", "", "the caller's `NAME` under [callers]")
	cmd.Flags().StringVar(&key, "key", "", "the key's `NAME`; without it the only one that the caller may use at that host")
	cmd.Flags().BoolVar(&release, "release", false, "judge it as 'sign' instead of 'request'")
	return cmd
}

// verdictJSON is what `policy test --json` prints.
type verdictJSON struct {
	Allowed bool     `json:"allowed"`
	Reason  string   `json:"reason"`
	Rule    string   `json:"rule"`
	Message string   `json:"message"`
	Hint    string   `json:"hint"`
	Key     string   `json:"key"`
	Effects []string `json:"effects"`
}

func (a *app) printVerdict(v *sealsignv1.TestPolicyResponse) error {
	if a.json {
		if err := a.printJSON(verdictJSON{v.GetAllowed(), v.GetReason(), v.GetRule(), v.GetMessage(), v.GetHint(), v.GetKey(), orEmpty(v.GetEffects())}); err != nil {
			return err
		}
	} else {
		line := func(name, text string) {
			if text != "" {
				a.printf("%-9s %s\n", name, visible(text))
			}
		}
		line("decision", joined(", ", either(v.GetAllowed(), "allowed", "denied"), v.GetReason()))
		line("rule", v.GetRule())
		line("key", v.GetKey())
		line("effects", strings.Join(v.GetEffects(), "; "))
		line("message", v.GetMessage())
		line("hint", v.GetHint())
	}
	if !v.GetAllowed() {
		return errReported
	}
	return nil
}
