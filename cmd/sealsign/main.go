// Command sealsign is what people type: operators manage keys and read the
// log, authors of bots try a request, auditors verify. It opens no TPM and
// keeps no key. It asks the daemon over the sockets in its runtime folder, and
// does on its own what needs no daemon: check a config, verify a log.
//
// main.go and root.go say how a command line becomes a command, fail.go how a
// failure becomes text and an exit status, and each other file is a command or
// a few that belong together.
//
// What is asked for goes to standard output, everything else to standard
// error. Errors are in lower case without a full stop: the prefix, the reason,
// the message, then a hint with the next command.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process: it gives the exit status.
func run(ctx context.Context, args []string, in *os.File, out, errs io.Writer) int {
	a := &app{in: in, out: &output{Writer: out}, errs: errs}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = a.out.err
	}
	if err == nil {
		return exitDone
	}
	printError(errs, err, a.json || slices.Contains(args, "--json")) // a wrong flag ends the reading of those behind it
	return exitStatus(err)
}
