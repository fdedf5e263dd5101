package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The test binary is also the command: a script that says sealsign runs main.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sealsign": main})
}

// Each script is a story that its name tells. Beside testscript's commands they
// have those of the table in commands.
func TestScripts(t *testing.T) {
	s := &scripts{t: t, program: buildDaemon(t), stages: make(map[string]*stage)}
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		Cmds:               s.commands(),
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			// Never the sockets of a daemon that runs on this machine.
			env.Setenv("SEALSIGN_RUNTIME_DIR", filepath.Join(env.WorkDir, "run"))
			return nil
		},
	})
}

// scripts is what the scripts' commands share.
type scripts struct {
	t       *testing.T
	program func() (string, error)

	mu     sync.Mutex
	stages map[string]*stage // by the script's folder
}

func (s *scripts) commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits":     exits,
		"until":     until,
		"stale":     stale,
		"zeros":     zeros,
		"replace":   replace,
		"daemon":    s.daemon,
		"configure": s.configure,
		"extend":    s.extend,
	}
}

// exits STATUS PROGRAM [ARGS]: the program ends with just this status.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// until PATTERN PROGRAM [ARGS]: the program is run again and again until its
// standard output matches, for thirty seconds.
func until(ts *testscript.TestScript, _ bool, args []string) {
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		program := exec.Command(args[1], args[2:]...)
		program.Env = append(os.Environ(), "SEALSIGN_RUNTIME_DIR="+ts.Getenv("SEALSIGN_RUNTIME_DIR"))
		text, _ := program.Output() // what it prints decides
		if pattern.Match(text) {
			ts.Check(ts.Exec(args[1], args[2:]...)) // for the lines after this one to look at
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no match for %q in\n%s", args[0], text)
		}
	}
}

// stale FILE: a socket whose daemon is gone.
func stale(ts *testscript.TestScript, _ bool, args []string) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: ts.MkAbs(args[0]), Net: "unix"})
	ts.Check(err)
	listener.SetUnlinkOnClose(false)
	ts.Check(listener.Close())
}

// zeros COUNT FILE: a file of so many bytes.
func zeros(ts *testscript.TestScript, _ bool, args []string) {
	count, err := strconv.Atoi(args[0])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), make([]byte, count), 0o600))
}

// replace PATTERN TEXT FILE: in the file, at the first match.
func replace(ts *testscript.TestScript, _ bool, args []string) {
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	text := ts.ReadFile(args[2])
	at := pattern.FindStringIndex(text)
	if at == nil {
		ts.Fatalf("no match for %q in %s", args[0], args[2])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(text[:at[0]]+args[1]+text[at[1]:]), 0o600))
}

// daemon [stop]: starts sealsignd on a stage of the script's own, or stops it.
// The stage's facts, such as $STATE and $BINANCE, are set from then on.
func (s *scripts) daemon(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.Getenv("WORK")
	s.mu.Lock()
	st := s.stages[dir]
	s.mu.Unlock()
	if len(args) > 0 {
		ts.Check(st.stop())
		return
	}
	if st == nil {
		st = s.stage(ts, dir)
	}
	ts.Check(st.start())
}

// stage sets a stage for a script, with the usual config.
func (s *scripts) stage(ts *testscript.TestScript, dir string) *stage {
	program, err := s.program()
	ts.Check(err)
	st, err := newStage(s.t, dir, program, "testnet")
	ts.Check(err)
	ts.Defer(st.strike)
	config, err := os.ReadFile("testdata/daemon/sealsign.toml")
	ts.Check(err)
	ts.Check(st.configure(string(config)))
	for name, value := range st.facts() {
		ts.Setenv(name, value)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stages[dir] = st
	return st
}

// configure FILE: gives the daemon another config, in which $NAMES are replaced.
func (s *scripts) configure(ts *testscript.TestScript, _ bool, args []string) {
	s.mu.Lock()
	st := s.stages[ts.Getenv("WORK")]
	s.mu.Unlock()
	ts.Check(st.configure(ts.ReadFile(args[0])))
}

// extend PCR: another value for it, as an update brings. No daemon may run.
func (s *scripts) extend(ts *testscript.TestScript, _ bool, args []string) {
	s.mu.Lock()
	st := s.stages[ts.Getenv("WORK")]
	s.mu.Unlock()
	pcr, err := strconv.Atoi(args[0])
	ts.Check(err)
	st.tpm.Extend(pcr)
}
