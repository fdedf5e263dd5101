package agent

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/internal/fault"
)

// Backup writes a tar archive of what is worth keeping to w: under state/ the sealed
// keys, what proves them, the log and the ledger, under config/ the config. Nothing in
// it opens anywhere but in this TPM, except what `recovery` encrypted to offline keys.
// No key is imported or switched meanwhile.
func (a *Agent) Backup(who *caller.Caller, w io.Writer) error {
	return a.act(who, "backup", "", func() (int, error) {
		archive := tar.NewWriter(w)
		c := a.setup.Load().config
		err := a.ring.Still(func() error {
			return archiveState(archive, c.Agent.StateDir)
		})
		if err == nil {
			err = archiveConfig(archive, a.opts.Config)
		}
		if err = errors.Join(err, archive.Close()); err != nil {
			return 0, fault.New(fault.StoreUnavailable, "the backup is not whole: %v", err).WithHint("sealsign backup FILE").Because(err)
		}
		return 0, nil
	})
}

// notKept are the files of the state folder that mean nothing elsewhere.
var notKept = map[string]bool{"lock": true, "ledger.lock": true, "inbox": true, "audit/reserve": true}

// logFirst are archived before the log's segments, which grow meanwhile: there must be
// no checkpoint over records that the archive lacks.
var logFirst = []string{"audit/checkpoints", "audit/hashes"}

func archiveState(archive *tar.Writer, dir string) error {
	for _, name := range logFirst {
		if err := archiveFile(archive, "state/"+name, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return archiveFolder(archive, "state", dir, func(name string) bool { return notKept[name] || slices.Contains(logFirst, name) })
}

func archiveConfig(archive *tar.Writer, path string) error {
	if err := archiveFile(archive, "config/"+filepath.Base(path), path); err != nil {
		return err
	}
	fragments, err := filepath.Glob(filepath.Join(filepath.Dir(path), "conf.d", "*.toml"))
	for _, fragment := range fragments {
		err = errors.Join(err, archiveFile(archive, "config/conf.d/"+filepath.Base(fragment), fragment))
	}
	return err
}

// archiveFolder archives the regular files below a folder, but for what skip names.
func archiveFolder(archive *tar.Writer, as, folder string, skip func(name string) bool) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		switch {
		case err != nil:
			return err
		case skip(name) && entry.IsDir():
			return filepath.SkipDir
		case skip(name) || !entry.Type().IsRegular():
			return nil
		}
		return archiveFile(archive, filepath.Join(as, name), path)
	})
}

// archiveFile archives a file as long as it is now: the log grows meanwhile. One that
// went since it was listed is left out.
func archiveFile(archive *tar.Writer, name, path string) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: name, Mode: 0o600, Size: info.Size(), ModTime: info.ModTime()}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.CopyN(archive, file, info.Size())
	return err
}
