package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func (a *app) storeCommand() *cobra.Command {
	return group("store", "what to do when the state folder is not to be trusted", "  sealsign store recover", a.storeRecoverCommand())
}

func (a *app) storeRecoverCommand() *cobra.Command {
	var yes, onlyTime bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "accept a restored state folder, or another TPM",
		Long: `The daemon refuses to sign with a state folder that isn't the newest of this
host: one from a backup may bring back versions that were revoked since. recover
accepts it. Every version becomes pending, and signs only once the config names
it (version = N under [keys.NAME]), so look at each before you do. What another
TPM sealed can't be opened any more: import it again.

On a terminal it asks first; elsewhere it wants --yes. It is recorded in the log.

With --time it accepts nothing, and only forgets the latest time that this host's
clock ever had. Keys expire by that time, so that a clock that is set back revives
none; where the clock was ahead while the kernel or a venue vouched for it, keys
end too early. Set the clock right first: from then on keys expire by it.`,
		Example: "  sealsign store recover\n  sealsign store recover --yes\n  sealsign store recover --time",
		Args:    words(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if onlyTime {
				return a.resetTime(cmd)
			}
			if !yes {
				err := a.confirm(cmd, cmd.CommandPath()+" --yes",
					"Versions that were revoked since this state was saved can be made active again. Type recover", "recover")
				if err != nil {
					return err
				}
			}
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.RecoverStore, &sealsignv1.RecoverStoreRequest{})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(recoveredToJSON(answer.GetKeys()))
			}
			for _, key := range answer.GetKeys() {
				a.printf("%s: %s\n", key.GetName(), joined("; ", versionList("pending", key.GetPending()), versionList("revoked", key.GetRevoked())))
			}
			a.printf("each version signs once the config names it: version = N under [keys.NAME]\n")
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	cmd.Flags().BoolVar(&onlyTime, "time", false, "only forget the latest time ever seen")
	return cmd
}

type recoveredJSON struct {
	Name    string   `json:"name"`
	Pending []uint32 `json:"pending"`
	Revoked []uint32 `json:"revoked"`
}

func recoveredToJSON(keys []*sealsignv1.RecoveredKey) []recoveredJSON {
	list := make([]recoveredJSON, len(keys))
	for i, key := range keys {
		list[i] = recoveredJSON{Name: key.GetName(), Pending: orEmpty(key.GetPending()), Revoked: orEmpty(key.GetRevoked())}
	}
	return list
}

// versionList is "pending 1, 2", or nothing.
func versionList(state string, versions []uint32) string {
	if len(versions) == 0 {
		return ""
	}
	return state + " " + strings.Trim(strings.ReplaceAll(fmt.Sprint(versions), " ", ", "), "[]")
}
