package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/internal/fault"
)

func (a *app) restoreCommand() *cobra.Command {
	var stateDir, configDir string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "bring a backup back into an empty state folder",
		Long: `restore unpacks a backup into a state folder that is empty, for the user whom the
folder belongs to; the daemon must not run. With --config-dir it unpacks the
config too, for who may read that folder, and overwrites nothing.

If keys changed since the backup, or the TPM is another one, the daemon then
signs nothing until an operator has looked: sealsign store recover.`,
		Example: "  sudo sealsign restore sealsign.tar\n  sudo sealsign restore sealsign.tar --state-dir /var/lib/sealsign --config-dir /etc/sealsign",
		Args:    words(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			count, err := restore(args[0], stateDir, configDir)
			if errors.Is(err, fs.ErrPermission) {
				return fault.From(err).WithHint("sudo sealsign restore %s --state-dir %s%s", args[0], stateDir, either(configDir != "", " --config-dir "+configDir, ""))
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"files": count, "state_dir": stateDir})
			}
			a.printf("%d files are in %s; start the daemon, then: sealsign status\n", count, stateDir)
			return nil
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", "/var/lib/sealsign", "the empty `DIR` that the config names as state_dir")
	cmd.Flags().StringVar(&configDir, "config-dir", "", "unpack the config into `DIR` as well")
	return cmd
}

// restore unpacks a backup and tells how many files it had.
func restore(path, stateDir, configDir string) (count int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, fault.New(failed, "the backup can't be read: %v", err).Because(err)
	}
	defer file.Close()
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return 0, fault.New(failed, "%v", err).WithHint("install -d -o sealsign -m 0700 %s", stateDir).Because(err)
	}
	entries, err := os.ReadDir(stateDir)
	if err != nil {
		return 0, fault.New(failed, "%v", err).Because(err)
	}
	if len(entries) > 0 {
		return 0, fault.New(failed, "%s is not an empty folder", stateDir).
			WithHint("stop the daemon and move what is there away: mv %s/* ELSEWHERE", stateDir)
	}
	folders := map[string]string{"state": stateDir}
	if configDir != "" {
		folders["config"] = configDir
		if err := os.MkdirAll(configDir, 0o755); err != nil {
			return 0, fault.New(failed, "%v", err).Because(err)
		}
	}
	archive := tar.NewReader(file)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) && count > 0 {
			return count, nil
		}
		if err != nil {
			return count, fault.New(failed, "%s is no whole backup: %v", path, err).WithHint("sealsign backup makes one")
		}
		top, name, ok := strings.Cut(header.Name, "/")
		if !ok || !filepath.IsLocal(name) || header.Typeflag != tar.TypeReg || top != "state" && top != "config" {
			return count, fault.New(failed, "%s is no backup of sealsign: it has an entry %q", path, header.Name)
		}
		if folders[top] == "" {
			continue
		}
		if err := unpack(archive, folders[top], name, top == "config"); err != nil {
			return count, fault.New(failed, "%s can't be restored: %v", header.Name, err).Because(err)
		}
		count++
	}
}

// unpack writes one file below a folder, for the folder's owner alone; or shared with
// who may read the folder: root writes a config that the daemon's user reads.
func unpack(content io.Reader, folder, name string, shared bool) error {
	info, err := os.Stat(folder)
	if err != nil {
		return err
	}
	owner, mode := info.Sys().(*syscall.Stat_t), fs.FileMode(0o700)
	if shared {
		mode |= info.Mode().Perm() & 0o055
	}
	at := folder
	for part := range strings.SplitSeq(filepath.Dir(name), "/") {
		at = filepath.Join(at, part)
		err := os.Mkdir(at, 0o700)
		if err == nil {
			err = errors.Join(os.Chown(at, int(owner.Uid), int(owner.Gid)), os.Chmod(at, mode))
		}
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	file, err := os.OpenFile(filepath.Join(folder, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, content); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := errors.Join(file.Chown(int(owner.Uid), int(owner.Gid)), file.Chmod(mode&^0o111), file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("writing it: %w", err)
	}
	return nil
}
