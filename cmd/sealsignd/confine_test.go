package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sealsign/sealsign/agent"
)

// confinedIn has TestMain shut itself in to a folder, and look out.
const confinedIn = "SEALSIGN_TEST_CONFINED_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(confinedIn); dir != "" {
		lookOut(dir)
		return
	}
	os.Exit(m.Run())
}

// lookOut prints what a confined process finds that shouldn't be so.
func lookOut(dir string) {
	_, err := confine(&agent.Reach{
		Own: []string{filepath.Join(dir, "state"), filepath.Join(dir, "missing")}, Config: []string{filepath.Join(dir, "config")},
		TPM: "/dev/null",
	})
	wants := func(what string, err error, allowed bool) {
		if denied := errors.Is(err, fs.ErrPermission); denied == allowed || allowed && err != nil {
			fmt.Printf("%s: %v\n", what, err)
		}
	}
	write := func(name string) error { return os.WriteFile(filepath.Join(dir, name), nil, 0o600) }
	read := func(path string) error { _, err := os.ReadFile(path); return err }
	dial := func() error {
		conn, err := net.Dial("tcp", os.Args[1])
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	listen := func() error {
		var config net.ListenConfig
		config.SetMultipathTCP(false) // Go's default, which Landlock doesn't limit
		l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err == nil {
			_ = l.Close()
		}
		return err
	}
	wants("confining", err, true)
	wants("writing state", write("state/new"), true)
	wants("moving within state", os.Rename(filepath.Join(dir, "state/new"), filepath.Join(dir, "state/sub/new")), true)
	wants("reading the config", read(filepath.Join(dir, "config/sealsign.toml")), true)
	wants("writing the config", write("config/sealsign.toml"), false)
	wants("reading a file outside", read(filepath.Join(dir, "shadow")), false)
	wants("writing a file outside", write("new"), false)
	wants("reading another process's cgroup", read("/proc/1/cgroup"), true)
	wants("reading a group file", read("/etc/group"), true)
	tpm, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	_ = tpm.Close()
	wants("opening the TPM", err, true)
	wants("running a program", exec.Command("/bin/true").Run(), false)
	wants("connecting to an exchange", dial(), true)
	wants("listening", listen(), false)
	_, err = os.Readlink("/proc/" + strconv.Itoa(os.Getppid()) + "/exe")
	wants("looking at another's program", err, false) // why callers with exe or sha256 go unconfined
}

// A process that is shut in opens nothing but its own.
func TestConfined(t *testing.T) {
	dir := t.TempDir()
	for _, folder := range []string{"state/sub", "config"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"config/sealsign.toml", "shadow"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	exchange, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer exchange.Close()
	command := exec.Command(os.Args[0], exchange.Addr().String())
	command.Env = append(os.Environ(), confinedIn+"="+dir)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output, err := command.CombinedOutput()
	if err != nil || len(output) > 0 {
		t.Errorf("%v\n%s", err, output)
	}
}

// One that is to look at others' programs isn't shut in, and says so.
func TestUnconfined(t *testing.T) {
	if how, err := confine(&agent.Reach{Programs: true}); err == nil || !strings.Contains(err.Error(), "exe or sha256") {
		t.Errorf("%q, %v", how, err)
	}
}
