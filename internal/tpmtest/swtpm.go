package tpmtest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealsign/sealsign/tpm"
)

// Software is an swtpm process whose state outlives it until the test ends.
type Software struct {
	t       testing.TB
	network string // "unix" or "tcp"
	dir     string
	address string
	command *exec.Cmd
	output  *bytes.Buffer
}

// startTime is how long swtpm may take to answer; 80 ms are usual.
const startTime = 10 * time.Second

// StartSwtpm starts an swtpm that listens on a "unix" or a "tcp" socket.
func StartSwtpm(t testing.TB, network string) *Software {
	t.Helper()
	// A socket's path has at most 107 bytes, t.TempDir() may have more.
	dir, err := os.MkdirTemp("", "swtpm")
	if err != nil {
		t.Fatal(err)
	}
	s := &Software{t: t, network: network, dir: dir, address: filepath.Join(dir, "sock")}
	if network == "tcp" {
		s.address = freePort(t)
	}
	t.Cleanup(func() {
		s.Kill()
		_ = os.RemoveAll(dir) // what is left of it is in the system's temporary folder
	})
	s.Start()
	return s
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// Options opens it. Its device setting is the one an operator would write.
func (s *Software) Options() tpm.Options {
	return tpm.Options{Device: s.network + ":" + s.address, AllowSoftware: true}
}

// Start starts it again after Kill, with the state it had.
func (s *Software) Start() {
	s.t.Helper()
	path, err := exec.LookPath("swtpm")
	if err != nil {
		s.t.Fatal("swtpm is missing: apt-get install swtpm")
	}
	server := "type=unixio,path=" + s.address
	control := "type=unixio,path=" + filepath.Join(s.dir, "ctrl")
	if s.network == "tcp" {
		_, port, _ := strings.Cut(s.address, ":")
		server = "type=tcp,bindaddr=127.0.0.1,port=" + port
	}
	s.output = new(bytes.Buffer)
	s.command = exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+s.dir,
		"--server", server, "--ctrl", control, "--flags", "not-need-init,startup-clear")
	s.command.Stdout, s.command.Stderr = s.output, s.output
	if err := s.command.Start(); err != nil {
		s.t.Fatalf("starting swtpm: %v", err)
	}
	if err := s.wait(); err != nil {
		s.Kill()
		s.t.Fatalf("swtpm doesn't answer: %v\n%s", err, s.output)
	}
}

// wait connects until it is let in. swtpm serves one connection after the other.
func (s *Software) wait() error {
	deadline := time.Now().Add(startTime)
	for {
		conn, err := net.Dial(s.network, s.address)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v: %w", startTime, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Kill ends it as a power cut would.
func (s *Software) Kill() {
	if s.command == nil {
		return
	}
	_ = s.command.Process.Kill() // it may be dead already
	_ = s.command.Wait()
	s.command = nil
	_ = os.Remove(s.address)
}

// Clear makes it another TPM, as a new board has it. It starts it again.
func (s *Software) Clear() {
	s.t.Helper()
	s.Kill()
	states, err := filepath.Glob(filepath.Join(s.dir, "tpm2-*"))
	if err != nil || len(states) == 0 {
		s.t.Fatalf("swtpm has no state: %v", err)
	}
	for _, state := range states {
		if err := os.Remove(state); err != nil {
			s.t.Fatal(err)
		}
	}
	s.Start()
}

// Stop makes it hang: it takes connections and commands, and answers nothing
// until Continue.
func (s *Software) Stop() { s.signal(syscall.SIGSTOP) }

// Continue ends Stop.
func (s *Software) Continue() { s.signal(syscall.SIGCONT) }

func (s *Software) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.command.Process.Signal(sig); err != nil {
		s.t.Fatalf("signalling swtpm: %v", err)
	}
}

// Manufacture makes it anew, as swtpm_setup does: with an RSA-2048 endorsement key that
// the CA in the folder ca certifies, made where there is none yet. It gives the CA's
// certificates.
func (s *Software) Manufacture(ca string) (makers []byte) {
	s.t.Helper()
	s.Kill()
	tool, err := exec.LookPath("swtpm_localca")
	if err != nil {
		s.t.Fatal("swtpm_localca is missing: apt-get install swtpm-tools")
	}
	file := func(name string) string { return filepath.Join(ca, name) }
	for name, text := range map[string]string{
		"setup.conf": fmt.Sprintf("create_certs_tool = %s\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\n", tool, file("ca.conf"), file("options")),
		"ca.conf":    fmt.Sprintf("statedir = %s\nsigningkey = %s\nissuercert = %s\ncertserial = %s\n", ca, file("key.pem"), file("issuer.pem"), file("serial")),
		"options":    "--platform-manufacturer Example\n--platform-version 1\n--platform-model Example\n",
	} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	setup := exec.Command("swtpm_setup", "--tpm2", "--tpm-state", s.dir, "--overwrite", "--create-ek-cert", "--config", file("setup.conf"))
	if output, err := setup.CombinedOutput(); err != nil {
		s.t.Fatalf("swtpm_setup: %v\n%s", err, output)
	}
	s.Start()
	for _, name := range []string{"issuer.pem", "swtpm-localca-rootca-cert.pem"} {
		certificate, err := os.ReadFile(file(name))
		if err != nil {
			s.t.Fatal(err)
		}
		makers = append(makers, certificate...)
	}
	return makers
}
