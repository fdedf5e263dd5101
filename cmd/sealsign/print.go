package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// output is standard output. It remembers that something could not be written,
// so that a full disk never looks like success.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(text []byte) (int, error) {
	n, err := o.Writer.Write(text)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// isTerminal reports whether a writer is a terminal.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// printJSON prints one JSON value. Nothing in it is escaped for HTML: signed URLs hold &.
func (a *app) printJSON(value any) error {
	encoder := json.NewEncoder(a.out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// printf prints what was asked for.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

// notef prints what is good to know, beside what was asked for.
func (a *app) notef(format string, args ...any) {
	fmt.Fprintf(a.errs, "sealsign: "+format+"\n", args...)
}

// printTable prints rows in columns, the first row being the heads. An empty cell shows as "-".
func printTable(w *output, rows ...[]string) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if cell == "" {
				cell = "-"
			}
			if i > 0 {
				fmt.Fprint(table, "\t")
			}
			fmt.Fprint(table, visible(cell))
		}
		fmt.Fprintln(table)
	}
	_ = table.Flush() // w remembers its errors
}

// timeOf is nil where the daemon gave no time, which JSON shows as null.
func timeOf(stamp *timestamppb.Timestamp) *time.Time {
	if stamp == nil {
		return nil
	}
	t := stamp.AsTime()
	return &t
}

// timeText is empty where the daemon gave no time.
func timeText(stamp *timestamppb.Timestamp) string {
	if stamp == nil {
		return ""
	}
	return stamp.AsTime().Format(time.RFC3339)
}

// numberText is empty for 0, which stands for none.
func numberText(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// either is yes where ok, else no.
func either(ok bool, yes, no string) string {
	if ok {
		return yes
	}
	return no
}

// joined makes one text of the parts that aren't empty.
func joined(separator string, parts ...string) string {
	var kept []string
	for _, part := range parts {
		if part != "" {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, separator)
}

// orEmpty makes an empty list of none, so that JSON shows [] and not null.
func orEmpty[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

// lines splits a text, which may be empty.
func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// count is "1 record" or "2 records".
func count[Number int | uint64](n Number, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
