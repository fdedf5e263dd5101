package agent_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/audit"
	"github.com/sealsign/sealsign/agent/caller"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
	"github.com/sealsign/sealsign/internal/mockvenue"
	"github.com/sealsign/sealsign/internal/tpmtest"
	"github.com/sealsign/sealsign/tpm"
)

// stage is an agent with all that is around it: a software TPM, mock exchanges,
// and the process that runs the test as its caller "me".
type stage struct {
	testing.TB
	scene  scene
	dir    string
	venues *mockvenue.Server
	agent  *agent.Agent
	me     *caller.Caller
}

// scene is how a stage is set. The zero scene has the keys acme, okx, binance and
// kraken, each with a credential, and a caller that may read, trade and cancel.
type scene struct {
	keys    []key
	role    string // lines of [roles.all]
	config  string // more of the config
	device  string // of the TPM; a simulator where it is empty
	venues  mockvenue.Options
	options agent.Options
}

// key is one key of the config; named as its venue unless it has a name.
type key struct {
	venue, algorithm string
	name             string
	lines            string // more lines of its section
	empty            bool   // it gets no credential
}

func (k key) called() string { return cmp.Or(k.name, k.venue) }

var usualKeys = []key{
	{venue: "acme", algorithm: "hmac-sha256"}, {venue: "okx", algorithm: "hmac-sha256"},
	{venue: "binance", algorithm: "hmac-sha256"}, {venue: "kraken", algorithm: "hmac-sha512"},
}

const usualRole = `allow = ["read", "trade", "cancel"]` + "\n" + `release = "bound"` + "\n"

// set sets a stage and starts its agent.
func set(t testing.TB, sc scene) *stage {
	t.Helper()
	s := &stage{TB: t, scene: sc, dir: t.TempDir(), me: identify(t, dial(t))}
	if s.scene.keys == nil {
		s.scene.keys = usualKeys
	}
	s.scene.role = cmp.Or(sc.role, usualRole)
	s.scene.venues.Dir = s.dir
	var err error
	if s.venues, err = mockvenue.Start(s.scene.venues); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.venues.Close)
	if sc.device == "" && sc.options.TPM == nil {
		s.scene.options.TPM = simulator(t)
	}
	s.write(s.scene.role)
	s.start()
	t.Cleanup(func() { s.agent.Stop() })
	for _, k := range s.scene.keys {
		if !k.empty && s.agent.Status().TPMError == nil {
			s.imports(k)
		}
	}
	return s
}

// write writes the config with these lines of the role.
func (s *stage) write(role string) {
	s.Helper()
	text := fmt.Sprintf("version = 1\n[agent]\nenvironment = \"testnet\"\nstate_dir = %q\nruntime_dir = %q\n", s.state(), filepath.Join(s.dir, "run"))
	text += fmt.Sprintf("[tpm]\ndevice = %q\nallow_software = true\n", cmp.Or(s.scene.device, "simulator"))
	names := make([]string, len(s.scene.keys))
	for i, k := range s.scene.keys {
		names[i] = fmt.Sprintf("%q", k.called())
		if !strings.Contains(k.lines, "probe = ") {
			k.lines += "\nprobe = \"off\"" // nothing arrives but what the test sends
		}
		text += fmt.Sprintf("[keys.%s]\nvenue = %q\nalgorithm = %q\nenvironment = \"testnet\"\n%s\n", k.called(), k.venue, k.algorithm, k.lines)
	}
	if !strings.Contains(role, "keys = ") {
		role += "\nkeys = [" + strings.Join(names, ", ") + "]"
	}
	text += "[roles.all]\n" + role + fmt.Sprintf("\n[callers.me]\nuid = %d\nroles = [\"all\"]\n", os.Getuid())
	text += s.venues.Config("testnet") + s.scene.config
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

func (s *stage) state() string  { return filepath.Join(s.dir, "state") }
func (s *stage) config() string { return filepath.Join(s.dir, "sealsign.toml") }

// start starts the agent, after Stop a second one.
func (s *stage) start() {
	s.Helper()
	o := s.scene.options
	o.Config = s.config()
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(s.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	if o.Synchronised == nil { // the kernel knows nothing of a test's clock
		o.Synchronised = func() bool { return false }
	}
	a, err := agent.Start(s.Context(), o)
	if err != nil {
		s.Fatal(err)
	}
	s.agent = a
}

// restart stops the agent and starts it again.
func (s *stage) restart() {
	s.Helper()
	s.agent.Stop()
	s.start()
}

// imports imports what the mock exchange issued.
func (s *stage) imports(k key) {
	s.Helper()
	if _, err := s.agent.Import(s.Context(), s.me, k.called(), s.venues.Credential(k.venue, k.algorithm).JSON()); err != nil {
		s.Fatal(err)
	}
}

// ask is a request for a path of a venue, to be forwarded with the key that is named as it.
func (s *stage) ask(venueName, line string, body ...string) *agent.Ask {
	s.Helper()
	return s.askAt(venueName, s.venues.Host(venueName), line, strings.Join(body, ""))
}

func (s *stage) askAt(key, host, line, body string) *agent.Ask {
	s.Helper()
	method, target, _ := strings.Cut(line, " ")
	request, err := venue.NewRequest(method, host, target, "", []byte(body))
	if err != nil {
		s.Fatal(err)
	}
	return &agent.Ask{Key: key, Mode: policy.Forward, Request: request}
}

// release makes an ask one for the signed request.
func release(ask *agent.Ask) *agent.Ask {
	ask.Mode = policy.Release
	return ask
}

// do has the agent answer an ask, and reads what the venue says to its end.
func (s *stage) do(ctx context.Context, ask *agent.Ask) (status int, err error) {
	s.Helper()
	answer, err := s.agent.Do(ctx, s.me, ask)
	if err != nil || answer.Response == nil {
		return 0, err
	}
	defer answer.Response.Body.Close()
	_, err = io.Copy(io.Discard, answer.Response.Body)
	return answer.Response.StatusCode, err
}

// must does an ask that is to succeed.
func (s *stage) must(ask *agent.Ask) {
	s.Helper()
	if status, err := s.do(s.Context(), ask); err != nil || status != 200 && ask.Mode == policy.Forward {
		s.Errorf("%s %s: status %d, %v", ask.Request.Method, ask.Request.Path, status, err)
	}
}

// refused does an ask that is to be refused for that reason, and gives the refusal.
func (s *stage) refused(ask *agent.Ask, reason fault.Reason) fault.Error {
	s.Helper()
	_, err := s.do(s.Context(), ask)
	var refusal *fault.Error
	if !errors.As(err, &refusal) || refusal.Reason != reason {
		s.Errorf("%s %s: got %v, want %s", ask.Request.Method, ask.Request.Path, err, reason)
		return fault.Error{}
	}
	return *refusal
}

// arrived is what reached a venue, without the agent's own readings of its clock.
func (s *stage) arrived(venueName string) (arrivals []mockvenue.Arrival) {
	for _, a := range s.venues.Arrivals(venueName) {
		if !strings.HasSuffix(strings.ToLower(a.Path), "/time") {
			arrivals = append(arrivals, a)
		}
	}
	return arrivals
}

// nothingArrived holds that no venue was asked for anything.
func (s *stage) nothingArrived() {
	s.Helper()
	for _, name := range mockvenue.Venues() {
		s.nothingArrivedAt(name)
	}
}

func (s *stage) nothingArrivedAt(venueName string) {
	s.Helper()
	for _, a := range s.arrived(venueName) {
		s.Errorf("at %s arrived %s %s", venueName, a.Method, a.Path)
	}
}

// records reads the log.
func (s *stage) records() (all []*audit.Record) {
	s.Helper()
	var lines bytes.Buffer
	if err := audit.Tail(s.Context(), filepath.Join(s.state(), "audit"), 10_000, false, &lines); err != nil {
		s.Fatal(err)
	}
	for line := range bytes.Lines(lines.Bytes()) {
		record, err := audit.ParseRecord(bytes.TrimSpace(line))
		if err != nil {
			s.Fatal(err)
		}
		all = append(all, record)
	}
	return all
}

// recorded waits for the newest record that fits, and gives it.
func (s *stage) recorded(what string, fits func(*audit.Record) bool) (found *audit.Record) {
	s.Helper()
	s.eventually("the record of "+what, func() bool {
		for _, r := range s.records() {
			if fits(r) {
				found = r
			}
		}
		return found != nil
	})
	return found
}

// eventually waits for what happens in the background.
func (s *stage) eventually(what string, is func() bool) {
	s.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("%s did not happen", what)
		}
	}
}

// connectTo, in the environment, makes the test binary a process that connects
// there and then waits for the end of its standard input.
const connectTo = "SEALSIGN_TEST_CONNECT"

func TestMain(m *testing.M) {
	if path := os.Getenv(connectTo); path != "" {
		conn, err := net.Dial("unix", path)
		if err == nil {
			_, _ = io.Copy(io.Discard, os.Stdin)
			_ = conn.Close()
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func listen(t testing.TB) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// dial is this process's connection to itself.
func dial(t testing.TB) *net.UnixConn {
	t.Helper()
	l := listen(t)
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return accept(t, l)
}

func accept(t testing.TB, l *net.UnixListener) *net.UnixConn {
	t.Helper()
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func identify(t testing.TB, conn *net.UnixConn) *caller.Caller {
	t.Helper()
	who, err := caller.Identify(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = who.Close() })
	return who
}

// mortal is a caller that is a process of its own, and the end of it.
func mortal(t testing.TB) (who *caller.Caller, kill func()) {
	t.Helper()
	l := listen(t)
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), connectTo+"="+l.Addr().String())
	stdin, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	}
	t.Cleanup(func() { stdin.Close(); kill() })
	return identify(t, accept(t, l)), kill
}

// simulator is a software TPM of the test's own.
func simulator(t testing.TB) func() (tpm.Transport, error) { return tpmtest.Simulator(t).Dial }
