package agent

import (
	"archive/tar"
	"bytes"
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
func (a *Agent) Backup(who *caller.Caller, w io.Writer) error {
	return a.act(who, "backup", "", func() (int, error) {
		dir := a.setup.Load().config.Agent.StateDir
		err := a.archiveStore(w, dir)
		archive := tar.NewWriter(w)
		if err == nil {
			err = archiveLog(archive, dir)
		}
		if err == nil {
			err = archiveConfig(archive, a.opts.Config)
		}
		if err = errors.Join(err, archive.Close()); err != nil {
			return 0, fault.New(fault.StoreUnavailable, "the backup is not whole: %v", err).WithHint("sealsign backup FILE").Because(err)
		}
		return 0, nil
	})
}

// notStore are the files of the state folder that change on their own, or mean nothing
// elsewhere.
var notStore = []string{"ledger.lock", "inbox", "audit", "ledger"}

// archiveStore writes the keys and what proves them, between two changes of them. It
// holds them in memory first: who is slow to take a backup must not keep a suspension
// or a switch from being written.
func (a *Agent) archiveStore(w io.Writer, dir string) error {
	var held bytes.Buffer
	err := a.ring.Still(func() error {
		part := tar.NewWriter(&held)
		err := archiveFolder(part, "state", dir, func(name string) bool { return slices.Contains(notStore, name) })
		return errors.Join(err, part.Flush()) // not its end: more follows
	})
	if err == nil {
		_, err = w.Write(held.Bytes())
	}
	return err
}

// logFirst are archived before the log's segments, which grow meanwhile: there must be
// no checkpoint over records that the archive lacks.
var logFirst = []string{"checkpoints", "hashes"}

func archiveLog(archive *tar.Writer, dir string) error {
	folder := filepath.Join(dir, "audit")
	for _, name := range logFirst {
		if err := archiveFile(archive, "state/audit/"+name, filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	err := archiveFolder(archive, "state/audit", folder, func(name string) bool { return name == "reserve" || slices.Contains(logFirst, name) })
	return errors.Join(err, archiveFile(archive, "state/ledger", filepath.Join(dir, "ledger")))
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
