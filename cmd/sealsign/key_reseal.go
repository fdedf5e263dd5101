package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/internal/fault"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
	"github.com/sealsign/sealsign/tpm"
)

func (a *app) keyResealCommand() *cobra.Command {
	var all bool
	var file string
	cmd := &cobra.Command{
		Use:   "reseal [NAME|--all]",
		Short: "bind a key's versions to the PCRs as they are now, or will be after an update",
		Long: `Versions with protection = "sealed" open with the values that the PCRs under
[tpm] pcrs had when they were sealed. reseal seals them again, to the PCRs that the
config names now, as they are now.

Before an update of firmware, boot loader or kernel give it, with --pcr-values, what
the PCRs will be: then a version opens with these values as well as with those of now,
so also where the update is taken back. The file has the form that 'sealsign doctor
--pcr-values' prints, on another host after the same update for example; PCRs that it
doesn't name stay as they are. After the update reseal once more, without the file:
the values before it open nothing then, but in copies of the files.

A version that an update has locked can't be sealed again: nothing opens it but the
PCRs that it was sealed to. It is imported again, from the file of the offline keys
that recovery under [agent] names, or from the venue.`,
		Example:           "  sealsign key reseal binance-main\n  sealsign key reseal --all --pcr-values updated.json\n  sealsign key reseal --all --json",
		Args:              words(0, 1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := oneOrAll(cmd, args, all)
			if err != nil {
				return err
			}
			request := &sealsignv1.ResealKeysRequest{Name: name, All: all}
			if file != "" {
				if request.PcrValues, err = readPCRValues(file); err != nil {
					return err
				}
			}
			done := a.progress("the TPM is sealing")
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.ResealKeys, request)
			done()
			if err != nil {
				return err
			}
			return a.printResealed(answer.GetVersions())
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every key")
	cmd.Flags().StringVar(&file, "pcr-values", "", "the `FILE` with what the PCRs will be after an update")
	return cmd
}

// readPCRValues reads a file that has something in it; the daemon looks at what.
func readPCRValues(path string) ([]byte, error) {
	text, err := readSmall(path)
	if err == nil && len(text) == 0 {
		err = fault.New(failed, "%s is empty", path)
	}
	return text, err
}

// resealedJSON is one element of what `key reseal --json` prints.
type resealedJSON struct {
	Name      string   `json:"name"`
	Version   uint32   `json:"version"`
	PCRs      []uint32 `json:"pcrs"`      // it is bound to now
	Predicted bool     `json:"predicted"` // it opens with the predicted values too
	Reason    string   `json:"reason"`    // of the problem, e.g. KEY_LOCKED; empty: none
	Problem   string   `json:"problem"`   // why it is as it was
	Next      string   `json:"next"`      // the next step then
}

// printResealed prints what came of each version. It fails where one stayed as it was.
func (a *app) printResealed(versions []*sealsignv1.ResealedVersion) (err error) {
	list := make([]resealedJSON, 0, len(versions))
	for _, v := range versions {
		one := resealedJSON{v.GetName(), v.GetVersion(), orEmpty(v.GetPcrs()), v.GetPredicted(), v.GetReason(), v.GetProblem(), v.GetNext()}
		list = append(list, one)
		switch {
		case one.Reason != "":
			err = errReported
			if !a.json {
				printError(a.errs, fault.New(fault.Reason(one.Reason), "%s", one.Problem).WithHint("%s", one.Next), false)
			}
		case !a.json:
			a.printf("%s\n", visible(one.text()))
		}
	}
	if a.json {
		if err := a.printJSON(list); err != nil {
			return err
		}
	}
	if len(list) == 0 && !a.json {
		a.notef("there is no sealed version")
	}
	return err
}

// text says what opens the version now.
func (r *resealedJSON) text() string {
	version := fmt.Sprintf("version %d of %s", r.Version, r.Name)
	if len(r.PCRs) == 0 {
		return version + " opens with any PCRs: the config names none"
	}
	pcrs := make([]int, len(r.PCRs))
	for i, pcr := range r.PCRs {
		pcrs[i] = int(pcr)
	}
	return version + " opens with " + tpm.PCRNames(pcrs) + " as now" + either(r.Predicted, ", and as predicted", "")
}
