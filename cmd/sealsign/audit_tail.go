package main

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/internal/fault"
)

// defaultTail is how many records tail prints, as tail(1) does.
const defaultTail = 10

func (a *app) auditTailCommand() *cobra.Command {
	var number int
	var follow bool
	cmd := &cobra.Command{
		Use:   "tail [DIR]",
		Short: "print the log's last records",
		Long: `tail prints a line for each of the last records; with --json the records
themselves, byte for byte. It needs no daemon.`,
		Example: `  sealsign audit tail
  sealsign audit tail -n 100 --follow
  sealsign audit tail /mnt/copy/audit --json`,
		Args: words(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if number < 0 {
				return usage(cmd, "-n %d is below zero", number)
			}
			dir := auditDir(args)
			var out io.Writer = recordPrinter{a}
			if a.json {
				out = a.out
			}
			if err := audit.Tail(cmd.Context(), dir, number, follow, out); err != nil {
				return noLog(dir, err)
			}
			return nil
		},
	}
	cmd.Flags().IntVarP(&number, "number", "n", defaultTail, "print the last `N` records")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with those that come, until interrupted")
	return cmd
}

// recordPrinter is a writer of records, one in each Write, that prints them for people.
type recordPrinter struct{ *app }

func (p recordPrinter) Write(line []byte) (int, error) {
	record, err := audit.ParseRecord(bytes.TrimSuffix(line, []byte("\n")))
	if err != nil {
		return 0, fault.New(auditDamaged, "a record can't be read: %v", err).WithHint("sealsign audit verify")
	}
	p.printf("%s\n", visible(recordText(record)))
	return len(line), nil
}

// recordText is one record in one line.
func recordText(r *audit.Record) string {
	what := r.Kind
	switch r.Kind {
	case audit.KindDecision:
		what = r.Decision
	case audit.KindAdmin:
		what = joined(" ", r.Kind, r.Decision)
	}
	key := r.Key
	if r.Version != 0 {
		key = fmt.Sprintf("%s/%d", r.Key, r.Version)
	}
	request := joined(" ", r.Method, r.Host+r.Path)
	if r.Kind == audit.KindOutcome {
		request = joined(" ", fmt.Sprintf("of #%d", r.Of), request)
	}
	status := ""
	if r.Status != 0 {
		status = fmt.Sprintf("status %d in %s", r.Status, time.Duration(r.DurationUS)*time.Microsecond)
	}
	times := ""
	if r.Count > 1 {
		times = fmt.Sprintf("%d times", r.Count)
	}
	return joined("  ", r.Time.UTC().Format(time.RFC3339), fmt.Sprintf("#%d", r.ID), what, r.Caller, key, r.Mode, request,
		r.Operation, status, r.Rule, r.Reason, times, r.Message)
}
