package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/fault"
)

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "archive the state folder and the config",
		Long: `backup writes a tar archive of all that is worth keeping: the sealed keys and what
proves them, the log, the ledger and the config. No key in it opens anywhere but
in this host's TPM, or with an offline key that the config's recovery names. FILE
must not exist yet; - is standard output.`,
		Example: "  sealsign backup sealsign.tar",
		Args:    words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "-" {
				if term.IsTerminal(int(os.Stdout.Fd())) {
					return usage(cmd, "an archive is no text for a terminal").WithHint("%s FILE", cmd.CommandPath())
				}
				_, err := a.backup(cmd.Context(), a.out)
				return err
			}
			size, err := a.backupTo(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"file": args[0], "bytes": size})
			}
			a.printf("%s has %d bytes; sealsign restore %s brings it back\n", args[0], size, args[0])
			return nil
		},
	}
}

// backupTo writes a backup into a new file, whole or not at all.
func (a *app) backupTo(ctx context.Context, path string) (size int64, err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, fault.New(failed, "the backup can't be written: %v", err).WithHint("name a file that isn't there yet")
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			_ = os.Remove(path)
		}
	}()
	if size, err = a.backup(ctx, file); err != nil {
		return size, err
	}
	return size, file.Sync()
}

func (a *app) backup(ctx context.Context, w io.Writer) (size int64, err error) {
	agent, err := client.DialAdmin(a.runtimeDir)
	if err != nil {
		return 0, fmt.Errorf("connect to the agent: %w", err)
	}
	defer func() { _ = agent.Close() }()
	size, err = agent.BackupTo(ctx, w)
	return size, a.explained(err, adminSocket)
}
