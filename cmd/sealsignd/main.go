// Command sealsignd is the daemon. It runs in the foreground and logs to
// standard error, or as a service of systemd's to the journal:
//
//	sealsignd --config /etc/sealsign/sealsign.toml
//
// SIGHUP reads the config again, as an edit of it does; SIGTERM and SIGINT let
// what is in flight finish, for ten seconds at most.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/server"
	"github.com/sealsign/sealsign/internal/build"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/secmem"
	"github.com/sealsign/sealsign/systemd"
)

// drain is how long requests in flight may take when the daemon stops.
const drain = 10 * time.Second

// garbage is how much the heap may grow, in percent, before it is collected. The
// daemon's is so small that with Go's default of 100 a collection would come every
// few hundred requests, and the slowest ones are those that meet one. It costs some 15 MB under load.
const garbage = 400

func main() {
	flags := flag.NewFlagSet("sealsignd", flag.ExitOnError)
	path := flags.String("config", "/etc/sealsign/sealsign.toml", "the config file; conf.d/*.toml beside it is read too")
	version := flags.Bool("version", false, "print the version")
	demo := flags.Bool("dev", false, "run with a TPM simulator, temporary folders and a demo key (development builds)")
	_ = flags.Parse(os.Args[1:]) // it exits on errors
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "sealsignd: unexpected %q; sealsignd --help shows the flags\n", flags.Arg(0))
		os.Exit(2)
	}
	if *version {
		fmt.Println("sealsignd", build.Version())
		return
	}
	if err := secmem.Harden(); err != nil {
		fail(err)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	run := serve
	if *demo {
		run = dev
	}
	if err := run(ctx, *path, nil); err != nil {
		fail(err)
	}
}

// serve runs the daemon until ctx ends. ready, if given, is called when the sockets are open.
func serve(ctx context.Context, path string, ready func(*agent.Agent)) error {
	logger := slog.New(systemd.LogHandler())
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // from the first moment, for it would end the process
	a, err := agent.Start(ctx, agent.Options{Config: path, Logger: logger, Reloading: systemd.Reloading})
	if err != nil {
		return err
	}
	defer a.Stop()
	sockets, err := open(a)
	if err != nil {
		return err
	}
	if err := sockets.ListenMetrics(a); err != nil {
		return err
	}
	if ready == nil { // --dev removes its folder in the end, which it couldn't
		a.Confine(confine)
	}
	s := server.New(a, logger)
	served := make(chan error, 1)
	go func() { served <- s.Serve(sockets) }()
	systemd.Ready()
	go systemd.TellStatus(ctx, func() string { return statusLine(a.Status()) })
	go systemd.Watch(ctx, logger, func(ctx context.Context) error { return s.SelfTest(ctx, sockets) })
	go reloadOn(ctx, hangup, a)
	go a.Watch(ctx)
	logger.Info("ready", "version", build.Version(), "runtime_dir", a.RuntimeDir(), "environment", a.Environment())
	if ready != nil {
		ready(a)
	}

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	systemd.Stopping()
	logger.Info("stopping: requests in flight are finished")
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	s.Stop(draining)
	return <-served
}

func reloadOn(ctx context.Context, hangup <-chan os.Signal, a *agent.Agent) {
	for {
		select {
		case <-hangup:
			_ = a.Reload() // it has logged why it refused
		case <-ctx.Done():
			return
		}
	}
}

// fail prints why the daemon can't run, and what to do.
func fail(err error) {
	fmt.Fprintf(os.Stderr, "sealsignd: %v\n", err)
	if refusal, ok := errors.AsType[*fault.Error](err); ok && refusal.Hint != "" {
		fmt.Fprintf(os.Stderr, "  hint: %s\n", refusal.Hint)
	}
	os.Exit(1)
}
