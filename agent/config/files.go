package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// What is read at most, so that a wrong path can't stall the daemon.
const (
	maxFile  = 1 << 20 // bytes of one file: thousands of keys
	maxTotal = 8 << 20 // bytes of all
	maxFiles = 1000    // in conf.d
)

// file is a file that was read.
type file struct {
	path    string
	name    string // as the digest has it
	content []byte
	public  bool // every user of the host may write it
}

// readFiles reads the main file and those of conf.d, by name.
func readFiles(path string, problems *Problems) []file {
	var files []file
	total := 0
	for i, p := range append([]string{path}, fragments(path, problems)...) {
		name := filepath.Base(p)
		if i > 0 {
			name = "conf.d/" + name
		}
		f, err := readFile(p, name)
		if err != nil {
			*problems = append(*problems, Problem{File: p, Message: err.Error()})
			continue
		}
		if total += len(f.content); total > maxTotal {
			*problems = append(*problems, Problem{File: p, Message: fmt.Sprintf("with the files before it is more than %d MiB, the most that is read", maxTotal>>20)})
			break
		}
		files = append(files, f)
	}
	return files
}

// fragments lists conf.d/*.toml beside the main file, without hidden files.
func fragments(path string, problems *Problems) []string {
	folder := filepath.Join(filepath.Dir(path), "conf.d")
	entries, err := os.ReadDir(folder)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			*problems = append(*problems, Problem{File: folder, Message: "can't be read: " + reason(err)})
		}
		return nil
	}
	var paths []string
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".toml") && !strings.HasPrefix(name, ".") {
			paths = append(paths, filepath.Join(folder, name))
		}
	}
	if len(paths) > maxFiles {
		*problems = append(*problems, Problem{File: folder, Message: fmt.Sprintf("has %d files; at most %d are read", len(paths), maxFiles)})
		return nil
	}
	slices.Sort(paths)
	return paths
}

// readFile reads a regular file of at most maxFile bytes. It doesn't wait for
// the other end of a pipe.
func readFile(path, name string) (file, error) {
	in, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return file{}, fmt.Errorf("can't be read: %s", reason(err))
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return file{}, fmt.Errorf("can't be read: %s", reason(err))
	}
	switch {
	case info.IsDir():
		return file{}, errors.New("is a folder, and a file is wanted")
	case !info.Mode().IsRegular():
		return file{}, errors.New("is not a regular file")
	}
	content, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return file{}, fmt.Errorf("can't be read: %s", reason(err))
	case len(content) == 0:
		return file{}, errors.New("is empty, as while it is being written; remove it, or write a comment into it")
	case len(content) > maxFile:
		return file{}, fmt.Errorf("is larger than %d KiB, the most that is read", maxFile>>10)
	}
	return file{path: path, name: name, content: slices.Clip(content), public: info.Mode().Perm()&0o002 != 0}, nil
}

// reason is an error of the file system without the path, which the problem has. Where
// owner and mode are the cause it says so: an operator who looks may be root, who reads it
// all the same. Landlock refuses an open with the same error, and an access(2) never.
func reason(err error) string {
	e, ok := errors.AsType[*fs.PathError](err)
	if !ok {
		return err.Error()
	}
	if errors.Is(e.Err, unix.EACCES) && unix.Access(e.Path, unix.R_OK) != nil {
		return fmt.Sprintf("uid %d may not: namei -l %s shows why", os.Getuid(), e.Path)
	}
	return e.Err.Error()
}

// digest is the hash of the list that sha256sum prints of the files.
func digest(files []file) string {
	list := sha256.New()
	for _, f := range files {
		fmt.Fprintf(list, "%x  %s\n", sha256.Sum256(f.content), f.name)
	}
	return fmt.Sprintf("%x", list.Sum(nil))
}
