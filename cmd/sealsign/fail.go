package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/internal/fault"
)

// The exit statuses.
const (
	exitDone   = 0
	exitFailed = 1 // refused or failed
	exitUsage  = 2 // wrong usage
)

// The reasons that only the command line has.
const (
	wrongUsage   fault.Reason = "WRONG_USAGE"
	failed       fault.Reason = "FAILED"        // an error of this process's own, such as a file that can't be read
	interrupted  fault.Reason = "INTERRUPTED"   // by a signal
	auditDamaged fault.Reason = "AUDIT_DAMAGED" // the log is not as it was written
)

// errReported ends a command with exitFailed when its output has said why.
var errReported = errors.New("reported")

// usage refuses a command line. The hint is the command's first example.
func usage(cmd *cobra.Command, format string, args ...any) *fault.Error {
	err := fault.New(wrongUsage, format, args...)
	example, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n")
	if example == "" {
		example = cmd.CommandPath() + " --help"
	}
	return err.WithHint("%s", example)
}

func exitStatus(err error) int {
	if errors.Is(err, wrongUsage) {
		return exitUsage
	}
	return exitFailed
}

// printError prints "sealsign: REASON: message" and a line for each line of the
// hint, or all of it as JSON.
func printError(w io.Writer, err error, asJSON bool) {
	if errors.Is(err, errReported) {
		return
	}
	refusal, ok := errors.AsType[*fault.Error](err)
	switch {
	case ok:
	case errors.Is(err, context.Canceled):
		refusal = fault.New(interrupted, "stopped by a signal")
	default:
		refusal = fault.New(failed, "%v", err)
	}
	hint := refusal.Hint
	if hint == "" && refusal.RetryAfter > 0 {
		hint = fmt.Sprintf("try again in %s", refusal.RetryAfter)
	}
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(failureJSON{errorJSON{string(refusal.Reason), refusal.Message, hint}}) // there is nowhere else to say it
		return
	}
	fmt.Fprintf(w, "sealsign: %s: %s\n", refusal.Reason, visible(refusal.Message))
	for _, line := range lines(strings.TrimSuffix(hint, "\n")) {
		fmt.Fprintf(w, "  hint: %s\n", visible(line))
	}
}

// failureJSON is a refusal as scripts read it, and as http.sock answers it.
type failureJSON struct {
	Error errorJSON `json:"error"`
}

type errorJSON struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// visible replaces the control characters of a text from elsewhere, so that it
// can't move a terminal's cursor or forge a second line.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069) {
			return '\ufffd'
		}
		return r
	}, text)
}
