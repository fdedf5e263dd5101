// Package daemontest gives tests the programs as they are built: a real
// sealsignd process with a TPM of its own (swtpm), mock exchanges, and the
// sealsign command. Only tests import it.
package daemontest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/mockvenue"
	"github.com/sealsign/sealsign/internal/tpmtest"
)

// startTime is how long the daemon may take until it answers; 0.2 s are usual.
const startTime = 20 * time.Second

// Daemon is a sealsignd process and what is around it. The process that runs
// the test is its caller "me".
type Daemon struct {
	Environment string

	Dir    string // holds all else
	Run    string // of the sockets
	State  string
	Config string // path of its config file
	Venues *mockvenue.Server
	TPM    *tpmtest.Software

	t       testing.TB
	command *exec.Cmd
	log     *os.File
}

// built is the folder that Build has made.
var built string

// Main runs a package's tests and removes what Build has made for them.
func Main(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// Build compiles the production programs, once in a test run, into a folder
// that it returns.
var Build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sealsign-bin-")
	if err != nil {
		return "", err
	}
	built = dir
	build := exec.Command("go", "build", "-o", dir, "github.com/sealsign/sealsign/cmd/sealsign", "github.com/sealsign/sealsign/cmd/sealsignd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the programs: %w\n%s", err, output)
	}
	return dir, nil
})

// Start starts a daemon that ends with the test, in the environment testnet. settings
// are the config's [audit], keys, roles and callers.
func Start(t testing.TB, settings string) *Daemon {
	t.Helper()
	d := newDaemon(t, "testnet")
	var err error
	if d.Venues, err = mockvenue.Start(mockvenue.Options{Dir: d.Dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Venues.Close)
	d.TPM = tpmtest.StartSwtpm(t, "unix")
	d.begin(settings)
	return d
}

// Instance starts another daemon on the same host, with the same TPM, in another
// environment. The one before is stopped, since swtpm serves one at a time.
func (d *Daemon) Instance(environment, settings string) *Daemon {
	d.t.Helper()
	d.Stop()
	other := newDaemon(d.t, environment)
	other.Venues, other.TPM = d.Venues, d.TPM
	other.begin(settings)
	return other
}

func newDaemon(t testing.TB, environment string) *Daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealsign") // a socket's path has at most 107 bytes, t.TempDir() may have more
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &Daemon{
		t: t, Environment: environment,
		Dir: dir, Run: filepath.Join(dir, "run"), State: filepath.Join(dir, "state"), Config: filepath.Join(dir, "sealsign.toml"),
	}
}

func (d *Daemon) begin(settings string) {
	d.t.Helper()
	d.Write(settings)
	var err error
	if d.log, err = os.Create(filepath.Join(d.Dir, "log")); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		d.Kill()
		if d.t.Failed() {
			d.t.Logf("the daemon's log:\n%s", d.Log())
		}
		_ = d.log.Close()
	})
	d.Restart()
}

// Write writes the config file anew.
func (d *Daemon) Write(settings string) {
	d.t.Helper()
	if err := os.WriteFile(d.Config, []byte(d.Text(settings)), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// Text is what Write writes.
func (d *Daemon) Text(settings string) string {
	return fmt.Sprintf("version = 1\n[agent]\nenvironment = %q\nstate_dir = %q\nruntime_dir = %q\n[tpm]\ndevice = %q\nallow_software = true\n%s\n%s",
		d.Environment, d.State, d.Run, d.TPM.Options().Device, d.Venues.Config(d.Environment), settings)
}

// Restart starts the daemon again after Kill or Stop, and waits until it answers.
func (d *Daemon) Restart() {
	d.t.Helper()
	bin, err := Build()
	if err != nil {
		d.t.Fatal(err)
	}
	d.command = exec.Command(filepath.Join(bin, "sealsignd"), "--config", d.Config)
	if traces := os.Getenv(Traces); traces != "" {
		d.trace(traces)
	}
	d.command.Stderr = d.log
	d.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.command.Start(); err != nil {
		d.t.Fatal(err)
	}
	for deadline := time.Now().Add(startTime); ; time.Sleep(10 * time.Millisecond) {
		if _, err := d.Try("status"); err == nil {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("sealsignd doesn't answer after %v:\n%s", startTime, d.Log())
		}
	}
}

// Traces, in the environment, is a folder in which each daemon leaves the number and
// the names of the system calls that it made.
const Traces = "SEALSIGN_TEST_TRACES"

// trace puts strace beside the daemon: with -D it is no parent, so that signals reach
// the daemon itself.
func (d *Daemon) trace(dir string) {
	d.t.Helper()
	file, err := os.CreateTemp(dir, "trace-*")
	if err != nil {
		d.t.Fatal(err)
	}
	_ = file.Close()
	strace := []string{"strace", "-D", "-f", "-qq", "-c", "-U", "calls,name", "-o", file.Name(), d.command.Path}
	d.command = exec.Command(strace[0], append(strace[1:], d.command.Args[1:]...)...)
}

// PID is the daemon's process.
func (d *Daemon) PID() int { return d.command.Process.Pid }

// Kill ends the daemon with SIGKILL.
func (d *Daemon) Kill() { d.end(syscall.SIGKILL) }

// Stop ends the daemon with SIGTERM and waits until it has drained.
func (d *Daemon) Stop() { d.end(syscall.SIGTERM) }

func (d *Daemon) end(signal syscall.Signal) {
	if d.command == nil || d.command.ProcessState != nil {
		return
	}
	_ = d.command.Process.Signal(signal)
	_ = d.command.Wait() // its status is the signal's
}

// Log is what the daemon has logged.
func (d *Daemon) Log() string {
	text, err := os.ReadFile(d.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Try runs the sealsign command and gives its output; the error has what it
// printed on standard error.
func (d *Daemon) Try(args ...string) (string, error) { return d.TryInput(nil, args...) }

// TryInput is Try with standard input.
func (d *Daemon) TryInput(input []byte, args ...string) (string, error) {
	bin, err := Build()
	if err != nil {
		return "", err
	}
	var stderr strings.Builder
	command := exec.Command(filepath.Join(bin, "sealsign"), args...)
	command.Env = append(os.Environ(), "SEALSIGN_RUNTIME_DIR="+d.Run)
	command.Stdin, command.Stderr = bytes.NewReader(input), &stderr
	output, err := command.Output()
	if err != nil {
		return string(output), fmt.Errorf("sealsign %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(output), nil
}

// Must runs the sealsign command, which is to succeed.
func (d *Daemon) Must(args ...string) string {
	d.t.Helper()
	output, err := d.Try(args...)
	if err != nil {
		d.t.Fatal(err)
	}
	return output
}

// Import imports a credential that a mock exchange issued.
func (d *Daemon) Import(key string, credential mockvenue.Credential) {
	d.t.Helper()
	if _, err := d.TryInput(credential.JSON(), "key", "import", key); err != nil {
		d.t.Fatal(err)
	}
}

// Records are the lines of the log, as they are on disk.
func (d *Daemon) Records() []map[string]any {
	d.t.Helper()
	segments, err := filepath.Glob(filepath.Join(d.State, "audit", "*.jsonl"))
	if err != nil || len(segments) == 0 {
		d.t.Fatalf("no segments: %v", err)
	}
	var records []map[string]any
	for _, segment := range segments {
		text, err := os.ReadFile(segment)
		if err != nil {
			d.t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var record map[string]any
			if err := json.Unmarshal(line, &record); err != nil {
				d.t.Fatalf("%s: %v: %s", segment, err, line)
			}
			records = append(records, record)
		}
	}
	return records
}

// URL is an https URL at one of the mock exchanges.
func (d *Daemon) URL(venue, target string) string { return "https://" + d.Venues.Host(venue) + target }
