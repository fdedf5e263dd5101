package main

import (
	"errors"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/internal/fault"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// The levels of a finding. A problem makes doctor fail.
const (
	fine    = "ok"
	warning = "warning"
	problem = "problem"
)

// findingJSON is one element of what `doctor --json` prints.
type findingJSON struct {
	Area  string `json:"area"`
	Level string `json:"level"` // ok, warning, problem
	What  string `json:"what"`
	Next  string `json:"next"` // the next step
}

func (a *app) doctorCommand() *cobra.Command {
	var file string
	var pcrValues bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "look for what is wrong: TPM, memory, clock, permissions, limits, config, keys, log",
		Long: `doctor lists what it found, each problem and warning with the next step. Where no
daemon answers it looks at what the config's daemon stands on: the config itself,
its folders, the TPM's device, the group of the sockets and the disk.

The exit status is 1 where there is a problem.

With --pcr-values it prints nothing but what the PCRs that the config names hold now,
as JSON: what another host that gets the same update takes for its prediction, with
'sealsign key reseal --all --pcr-values FILE'.`,
		Example: "  sealsign doctor\n  sealsign doctor --json\n  sealsign doctor --pcr-values > updated.json",
		Args:    words(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if pcrValues {
				return a.printPCRValues(cmd)
			}
			findings, err := a.findings(cmd, file)
			if err != nil {
				return err
			}
			return a.printFindings(findings)
		},
	}
	cmd.Flags().StringVar(&file, "config", defaultConfig, "the `FILE` of the config that is looked at where no daemon answers")
	cmd.Flags().BoolVar(&pcrValues, "pcr-values", false, "only print what the PCRs hold that versions are bound to")
	return cmd
}

func (a *app) printPCRValues(cmd *cobra.Command) error {
	answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.PCRValues, &sealsignv1.PCRValuesRequest{})
	if err != nil {
		return err
	}
	a.printf("%s\n", answer.GetDocument())
	return nil
}

// findings asks the daemon. That it can't be reached is a finding as well; where it
// doesn't run, so is what may keep it from running.
func (a *app) findings(cmd *cobra.Command, file string) ([]findingJSON, error) {
	answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.Doctor, &sealsignv1.DoctorRequest{})
	if errors.Is(err, fault.AgentUnavailable) {
		refusal := fault.From(err)
		findings := []findingJSON{{"agent", problem, refusal.Message, refusal.Hint}}
		if !errors.Is(err, fs.ErrPermission) {
			findings = append(findings, examineOffline(file)...)
		}
		return findings, nil
	}
	if err != nil {
		return nil, err
	}
	findings := make([]findingJSON, 0, len(answer.GetFindings()))
	for _, f := range answer.GetFindings() {
		findings = append(findings, findingJSON{f.GetArea(), f.GetLevel(), f.GetWhat(), f.GetNext()})
	}
	return findings, nil
}

func (a *app) printFindings(findings []findingJSON) error {
	if a.json {
		if err := a.printJSON(findings); err != nil {
			return err
		}
	}
	var err error
	for _, f := range findings {
		if f.Level == problem {
			err = errReported
		}
		if a.json {
			continue
		}
		a.printf("%-8s %-12s %s\n", f.Level, f.Area, visible(f.What))
		for _, step := range lines(f.Next) {
			a.printf("%21s next: %s\n", "", visible(step))
		}
	}
	return err
}
