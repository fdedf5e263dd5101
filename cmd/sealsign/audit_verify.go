package main

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/internal/fault"
)

// reportJSON is what `audit verify --json` prints.
type reportJSON struct {
	OK          bool               `json:"ok"`
	Dir         string             `json:"dir"`
	Key         string             `json:"key"` // the file of the public key; empty: the one beside the log
	Origin      string             `json:"origin"`
	Segments    int                `json:"segments"`
	Records     uint64             `json:"records"`
	Checkpoints int                `json:"checkpoints"`
	Covered     uint64             `json:"covered"`
	CoveredAt   *time.Time         `json:"covered_at"`
	Torn        []string           `json:"torn"`
	Unfinished  []string           `json:"unfinished"`
	Problems    []auditProblemJSON `json:"problems"`
	More        int                `json:"more"` // problems beyond the first hundred
}

type auditProblemJSON struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // 0: the file as a whole
	Message string `json:"message"`
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "check that the log is as it was written",
		Long: `verify checks each record, the tree over them and each signed checkpoint, from the
files and the public key alone. It needs no daemon, and no sealsign host: a copy of
the folder will do.

Without --key it uses the public key kept beside the log, and says so: whoever
could change the log could change that as well. Keep the output of
'sealsign audit public-key' elsewhere.`,
		Example: `  sealsign audit verify
  sealsign audit verify /mnt/copy/audit --key audit.pem --json`,
		Args: words(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := auditDir(args)
			keys, err := readPublicKeys(keyFile)
			if err != nil {
				return err
			}
			done := a.progress("checking " + dir)
			report, err := audit.Verify(dir, keys...)
			done()
			if err != nil {
				return noLog(dir, err)
			}
			return a.printReport(dir, keyFile, report)
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "the `FILE` of the public key (PEM), from 'sealsign audit public-key'")
	return cmd
}

// auditDir is DIR, or where the log is by default.
func auditDir(args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	return defaultAuditDir
}

// readPublicKeys gives none where no file is named.
func readPublicKeys(file string) ([]*ecdsa.PublicKey, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	keys, err := audit.ParsePublicKeys(data)
	if err != nil {
		return nil, fault.New(failed, "--key %s: %v", file, err).WithHint("sealsign audit public-key > %s", file)
	}
	return keys, nil
}

// noLog explains why a log can't be read.
func noLog(dir string, err error) error {
	if refusal, ok := errors.AsType[*fault.Error](err); ok {
		return refusal // a record of it
	}
	refusal := fault.New(failed, "the log in %s can't be read: %v", dir, err).Because(err)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return refusal.WithHint("sudo sealsign %s", shellLine(os.Args[1:]))
	case !errors.Is(err, fs.ErrNotExist):
		return refusal
	}
	if _, err := os.Stat(dir); err != nil {
		return refusal.WithHint("it is the folder audit in the config's state_dir, which may be elsewhere")
	}
	return refusal.WithHint("the first checkpoint brings it: sealsign audit checkpoint")
}

func (a *app) printReport(dir, keyFile string, r *audit.Report) error {
	if a.json {
		if err := a.printJSON(reportToJSON(dir, keyFile, r)); err != nil {
			return err
		}
	} else {
		a.printReportText(dir, r)
	}
	if !r.OK() {
		return fault.New(auditDamaged, "the log in %s is not as it was written: %s", dir, count(len(r.Problems)+r.More, "problem"))
	}
	return nil
}

func (a *app) printReportText(dir string, r *audit.Report) {
	if r.Beside {
		a.notef("checked with the public key kept beside the log: --key FILE takes one kept elsewhere")
	}
	for _, p := range r.Problems {
		a.printf("%s\n", visible(p.String()))
	}
	for _, file := range r.Torn {
		a.printf("%s was set aside after a crash\n", visible(file))
	}
	for _, rest := range r.Unfinished {
		a.printf("unfinished: %s\n", visible(rest))
	}
	a.printf("%s: %s in %s, log %s\n", dir, count(r.Records, "record"), count(r.Segments, "segment"), visible(r.Origin))
	if r.Checkpoints > 0 {
		a.printf("%s, the last over %s at %s\n", count(r.Checkpoints, "signed checkpoint"), count(r.Covered, "record"), r.CoveredAt.Format(time.RFC3339))
	}
	if r.Beyond() > 0 {
		a.printf("%s not under a checkpoint yet, so not signed: sealsign audit checkpoint\n", count(r.Beyond(), "record"))
	}
	if r.OK() {
		a.printf("all as it was written\n")
	}
}

func reportToJSON(dir, keyFile string, r *audit.Report) reportJSON {
	report := reportJSON{
		OK: r.OK(), Dir: dir, Key: keyFile, Origin: r.Origin, Segments: r.Segments, Records: r.Records,
		Checkpoints: r.Checkpoints, Covered: r.Covered, Torn: orEmpty(r.Torn), Unfinished: orEmpty(r.Unfinished),
		Problems: make([]auditProblemJSON, 0, len(r.Problems)), More: r.More,
	}
	if r.Checkpoints > 0 {
		report.CoveredAt = &r.CoveredAt
	}
	for _, p := range r.Problems {
		report.Problems = append(report.Problems, auditProblemJSON(p))
	}
	return report
}
