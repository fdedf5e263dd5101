package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sealsign/sealsign/internal/fault"
)

const (
	manifestName  = "manifest.json"
	versionSuffix = ".tpm"
	newSuffix     = ".new" // of a file that is being written

	// maxVersionFile and maxManifest are sizes in bytes: a credential of 64 KiB
	// has 120 KiB after two rounds of base64, and 10,000 keys of ten versions
	// have 2 MiB of manifest.
	maxVersionFile = 256 << 10
	maxManifest    = 64 << 20
)

// namePattern is what a key may be named: it is a folder's name.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// checkName refuses a name that can't be a folder's.
func checkName(name string) error {
	if namePattern.MatchString(name) {
		return nil
	}
	return fault.New(fault.ConfigInvalid, "%q can't be the name of a key", name).
		WithHint("a name has up to 64 letters, digits, dots, dashes and underscores, and begins with a letter or digit")
}

// FS is what the store does to the disk. A nil function is the operating
// system's own; tests put faults in its place.
type FS struct {
	Mkdir  func(path string) error
	Create func(path string) (*os.File, error)
	Write  func(f *os.File, data []byte) (int, error)
	Sync   func(f *os.File) error // of a file or a folder
	Rename func(from, to string) error
	Remove func(path string) error
}

func (f FS) complete() FS {
	if f.Mkdir == nil {
		f.Mkdir = func(path string) error { return os.Mkdir(path, 0o700) }
	}
	if f.Create == nil {
		f.Create = func(path string) (*os.File, error) {
			return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
		}
	}
	if f.Write == nil {
		f.Write = (*os.File).Write
	}
	if f.Sync == nil {
		f.Sync = (*os.File).Sync
	}
	if f.Rename == nil {
		f.Rename = os.Rename
	}
	if f.Remove == nil {
		f.Remove = os.Remove
	}
	return f
}

// store is the state folder: manifest.json and keys/NAME/VERSION.tpm. Killed at
// any instant, it holds each file as it was before or after a write.
type store struct {
	dir string
	fs  FS
}

// openStore makes sure of the folder: nobody else's, closed to all others.
func openStore(dir string, faults FS) (*store, error) {
	s := &store{dir: dir, fs: faults.complete()}
	if err := s.folder(dir); err != nil {
		return nil, err
	}
	if err := s.private(dir); err != nil {
		return nil, err
	}
	_ = s.folder(s.keys()) // where the disk takes nothing now, readManifest tries again, and says so
	if _, err := os.Stat(s.keys()); errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	return s, s.private(s.keys())
}

func (s *store) private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return storeFault("looking at the state folder", err)
	}
	if !info.IsDir() {
		return fault.New(fault.ConfigInvalid, "the state folder %s is no folder", path).WithHint("set state_dir to a folder")
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		return fault.New(fault.ConfigInvalid, "the state folder %s belongs to uid %d, and this is uid %d", path, owner, os.Geteuid()).
			WithHint("if what is in it is to be trusted: chown -R %d %s", os.Geteuid(), s.dir)
	}
	if mode := info.Mode().Perm(); mode != 0o700 {
		return fault.New(fault.ConfigInvalid, "the state folder %s is open to others: its mode is %#o", path, mode).
			WithHint("chmod 0700 %s", path)
	}
	return nil
}

func (s *store) keys() string           { return filepath.Join(s.dir, "keys") }
func (s *store) manifest() string       { return filepath.Join(s.dir, manifestName) }
func (s *store) key(name string) string { return filepath.Join(s.keys(), name) }
func (s *store) version(name string, number int) string {
	return filepath.Join(s.key(name), strconv.Itoa(number)+versionSuffix)
}

// folder makes a folder that lasts, unless it is there.
func (s *store) folder(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := s.fs.Mkdir(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return storeFault("making a folder", err)
	}
	return s.syncFolder(filepath.Dir(path))
}

// write puts a file in place whole: write-new, fsync, rename, fsync the folder.
func (s *store) write(path string, data []byte) error {
	if err := s.writeNew(path+newSuffix, data); err != nil {
		_ = s.fs.Remove(path + newSuffix) // frees a full disk; what fails is cleaned later
		return storeFault("writing "+filepath.Base(path), err)
	}
	if err := s.fs.Rename(path+newSuffix, path); err != nil {
		return storeFault("renaming "+filepath.Base(path), err)
	}
	return s.syncFolder(filepath.Dir(path))
}

func (s *store) writeNew(path string, data []byte) error {
	f, err := s.fs.Create(path)
	if err != nil {
		return err
	}
	if _, err := s.fs.Write(f, data); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(s.fs.Sync(f), f.Close())
}

func (s *store) syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return storeFault("opening a folder", err)
	}
	if err := errors.Join(s.fs.Sync(f), f.Close()); err != nil {
		return storeFault("syncing a folder", err)
	}
	return nil
}

// read gives the bytes of a file that has no more than limit.
func (s *store) read(path string, limit int64) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", filepath.Base(path), limit)
	}
	return os.ReadFile(path)
}

// remove deletes a version's files for good.
func (s *store) remove(name string, number int) error {
	gone := 0
	for _, path := range []string{s.version(name, number), s.offline(name, number)} {
		switch err := s.fs.Remove(path); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return storeFault("deleting a version", err)
		default:
			gone++
		}
	}
	if gone == 0 {
		return nil
	}
	return s.syncFolder(s.key(name))
}

// numbers lists the versions of a key that have a file, lowest first, and deletes
// what interrupted writes left.
func (s *store) numbers(name string) ([]int, error) {
	entries, err := os.ReadDir(s.key(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, storeFault("listing versions", err)
	}
	var numbers []int
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), newSuffix) {
			if err := s.fs.Remove(filepath.Join(s.key(name), e.Name())); err != nil {
				return nil, storeFault("deleting what an interrupted write left", err)
			}
			continue
		}
		digits, isVersion := strings.CutSuffix(e.Name(), versionSuffix)
		if n, err := strconv.Atoi(digits); isVersion && err == nil && n > 0 && strconv.Itoa(n) == digits {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// storeFault says what the disk refused.
func storeFault(doing string, err error) error {
	f := fault.New(fault.StoreUnavailable, "%s failed: %v", doing, err).Because(err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return f.WithHint("free space in the state folder, then try again")
	}
	return f.WithHint("look at the state folder's disk: sealsign doctor")
}
