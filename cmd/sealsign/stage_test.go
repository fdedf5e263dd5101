package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealsign/sealsign/internal/mockvenue"
	"github.com/sealsign/sealsign/internal/tpmtest"
)

// stage is a host with all that a daemon needs, in one folder: a software TPM,
// the mock venues with a credential for each of their algorithms, and a config.
type stage struct {
	dir     string
	tpm     *tpmtest.Software
	venues  *mockvenue.Server
	program string // sealsignd
	process *exec.Cmd
	ended   chan struct{} // closed when it has ended; nil: it doesn't run
	err     error         // how it ended
	log     *bytes.Buffer // its standard error; to be read once it has ended
}

// readyTime is how long the daemon may take to open its sockets; half a second is usual.
const readyTime = 20 * time.Second

// newStage sets the stage in dir for one environment, with no daemon on it yet.
func newStage(t *testing.T, dir, program, environment string) (*stage, error) {
	for _, name := range []string{"etc/conf.d", "credentials"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	venues, err := mockvenue.Start(mockvenue.Options{Dir: filepath.Join(dir, "etc")})
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir, tpm: tpmtest.StartSwtpm(t, "unix"), venues: venues, program: program}
	for _, name := range mockvenue.Venues() {
		for _, algorithm := range venues.Algorithms(name) {
			file := filepath.Join(dir, "credentials", name+"-"+algorithm+".json")
			if err := os.WriteFile(file, venues.Credential(name, algorithm).JSON(), 0o600); err != nil {
				return nil, err
			}
		}
	}
	return s, os.WriteFile(filepath.Join(dir, "etc/conf.d/venues.toml"), []byte(venues.Config(environment)), 0o600)
}

// facts are what scripts and configs may name with $.
func (s *stage) facts() map[string]string {
	facts := map[string]string{
		"STATE":   filepath.Join(s.dir, "state"),
		"RUNTIME": filepath.Join(s.dir, "run"),
		"CONFIG":  filepath.Join(s.dir, "etc/sealsign.toml"),
		"TPM":     s.tpm.Options().Device,
		"UID":     strconv.Itoa(os.Getuid()),
		"GROUP":   groupName(),
	}
	for _, name := range mockvenue.Venues() {
		facts[strings.ToUpper(strings.ReplaceAll(name, "-", "_"))] = s.venues.Host(name)
	}
	return facts
}

// groupName is a group that this user may give the sockets to.
func groupName() string {
	id := strconv.Itoa(os.Getgid())
	if group, err := user.LookupGroupId(id); err == nil {
		return group.Name
	}
	return id
}

// configure writes the config, in one step as an editor does.
func (s *stage) configure(text string) error {
	facts := s.facts()
	text = os.Expand(text, func(name string) string { return facts[name] })
	path := filepath.Join(s.dir, "etc/sealsign.toml")
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// start runs the daemon until it answers.
func (s *stage) start() error {
	s.log = new(bytes.Buffer)
	s.process = exec.Command(s.program, "--config", filepath.Join(s.dir, "etc/sealsign.toml"))
	s.process.Stderr = s.log
	if err := s.process.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		s.err = s.process.Wait()
		close(ended)
	}()
	s.ended = ended
	for deadline := time.Now().Add(readyTime); time.Now().Before(deadline); {
		conn, err := net.Dial("unix", filepath.Join(s.dir, "run", adminSocket))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			s.ended = nil
			return fmt.Errorf("sealsignd ended: %w\n%s", s.err, s.log)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return errors.New("sealsignd opened no sockets")
}

// stop ends the daemon as systemd does.
func (s *stage) stop() error {
	if s.ended == nil {
		return errors.New("no sealsignd runs")
	}
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-s.ended
	s.ended = nil
	if s.err != nil {
		return fmt.Errorf("sealsignd: %w\n%s", s.err, s.log)
	}
	return nil
}

// strike ends all of it.
func (s *stage) strike() {
	if s.ended != nil {
		_ = s.process.Process.Kill() // it may have ended by itself
		<-s.ended
	}
	s.venues.Close()
	s.tpm.Kill()
}

// buildDaemon builds sealsignd, once for all that ask through the function it gives.
func buildDaemon(t *testing.T) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		program := filepath.Join(t.TempDir(), "sealsignd")
		build := exec.Command("go", "build", "-o", program, "../sealsignd")
		if text, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build sealsignd: %w\n%s", err, text)
		}
		return program, nil
	})
}
