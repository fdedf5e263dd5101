package main

import (
	"archive/tar"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A restore by who may not write the state folder, be it there or not, is refused with
// the command that may.
func TestRestoreWithoutPermission(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // nobody is to come by
		t.Fatal(err)
	}
	backup := filepath.Join(dir, "sealsign.tar")
	file, err := os.Create(backup)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewWriter(file)
	if err := archive.WriteHeader(&tar.Header{Name: "state/host.json", Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	unreadable, unwritable := filepath.Join(dir, "unreadable"), filepath.Join(dir, "unwritable")
	for folder, mode := range map[string]os.FileMode{unreadable: 0, unwritable: 0o555} {
		if err := os.Mkdir(folder, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, state := range []string{unreadable, unwritable, filepath.Join(unwritable, "missing")} {
		status, errs := runAsNobody(t, "restore", backup, "--state-dir", state)
		if status != 1 || !strings.Contains(errs, "permission denied") || strings.Contains(errs, "the backup can't be read") || !strings.Contains(errs, "sudo sealsign restore "+backup+" --state-dir "+state) {
			t.Errorf("%s: exit status %d, %q", state, status, errs)
		}
	}
}

// runAsNobody runs the command on a thread that has no right to files but everybody's,
// and ends with it.
func runAsNobody(t *testing.T, args ...string) (status int, errs string) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread isn't used again
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			t.Error(err)
			return
		}
		var out, told strings.Builder
		status = run(t.Context(), args, nil, &out, &told)
		errs = told.String()
	}()
	<-done
	return status, errs
}
