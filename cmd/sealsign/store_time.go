package main

import (
	"time"

	"github.com/spf13/cobra"

	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// resetTimeJSON is what `store recover --time --json` prints.
type resetTimeJSON struct {
	Forgotten *time.Time `json:"forgotten"` // null: no time had been seen
}

// resetTime has the daemon forget the latest time.
func (a *app) resetTime(cmd *cobra.Command) error {
	answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.ResetTime, &sealsignv1.ResetTimeRequest{})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(resetTimeJSON{timeOf(answer.GetForgotten())})
	}
	forgotten := timeText(answer.GetForgotten())
	a.printf("%s: keys expire by this host's clock\n", either(forgotten != "", "forgot "+forgotten, "no time had been seen"))
	return nil
}
