package config

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
)

// load loads a case of testdata that is good.
func load(t *testing.T, source string) (*Config, string) {
	t.Helper()
	path, _, _ := testCase(t, filepath.Join("testdata", "good", source))
	c, problems := Load(path)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c, path
}

func TestDefaults(t *testing.T) {
	c, _ := load(t, "minimal.toml")
	want := Config{
		Agent: Agent{StateDir: "/var/lib/sealsign", RuntimeDir: "/run/sealsign", Environment: "production", SocketGroup: "sealsign", SocketGID: c.Agent.SocketGID},
		TPM:   TPM{Device: "/dev/tpmrm0"},
		Audit: Audit{Sync: SyncGroup, Checkpoint: time.Minute, Segment: 64 << 20, Keep: 400 * 24 * time.Hour, MaxSize: 20 << 30},
	}
	if !reflect.DeepEqual(c.Agent, want.Agent) || !reflect.DeepEqual(c.TPM, want.TPM) || c.Audit != want.Audit {
		t.Errorf("got %+v %+v %+v", c.Agent, c.TPM, c.Audit)
	}
	for _, name := range venue.Names() {
		if c.Venues[name] == nil {
			t.Errorf("the built-in venue %s is missing", name)
		}
	}
}

func TestValues(t *testing.T) {
	c, path := load(t, "full.toml")

	main := c.Keys["binance-main"]
	if main.Name != "binance-main" || main.Venue.Name() != "binance" || main.Environment != "production" || main.Algorithm != venue.HMACSHA256 ||
		main.Protection != Sealed || main.Version != 3 || main.Grace != 10*time.Minute || main.MaxAge != 90*24*time.Hour ||
		!main.Expires.Equal(time.Date(2027, 2, 1, 0, 0, 0, 5e8, time.UTC)) || main.IdleAfter != 30*24*time.Hour || main.Probe != ProbeRequired {
		t.Errorf("got %+v", main)
	}
	acme := c.Keys["acme-main"]
	if acme.Algorithm != venue.HMACSHA256 || acme.Version != 0 || acme.Protection != Resident || acme.Probe != ProbeAuto || acme.MaxAge != 0 || !acme.Expires.IsZero() || acme.IdleAfter != idleAfter || acme.Venue != c.Venues["acme"] {
		t.Errorf("got %+v", acme)
	}
	if hosts := c.Venues["binance"].Hosts("testnet"); len(hosts) != 1 || hosts[0] != "127.0.0.1:9443" {
		t.Errorf("the override of hosts is lost: %v", hosts)
	}
	if ca := c.CAs["binance"]; ca == nil || ca.Pool == nil || ca.File != filepath.Join(filepath.Dir(path), "ca.pem") || len(ca.SHA256) != 64 || len(c.CAs) != 1 {
		t.Errorf("got CAs %+v", c.CAs)
	}

	want := &policy.Role{
		Name: "market-maker", Keys: map[string]bool{"binance-main": true, "acme-main": true},
		Allow:   map[venue.Operation]bool{venue.Read: true, venue.Trade: true, venue.Cancel: true},
		Lines:   map[policy.Line]bool{{Method: "DELETE", Path: "/api/v3/openOrders"}: true},
		Symbols: map[string]bool{"BTCUSDT": true, "ETHUSDT": true},
		Rate:    policy.Rate{Count: 50, Per: time.Second}, Release: policy.Never,
	}
	if got := c.Roles["market-maker"]; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}

	alpha, beta, gamma := c.Callers[0], c.Callers[1], c.Callers[2]
	if alpha.Name != "alpha" || *alpha.UID != 0 || alpha.GID != nil || alpha.Unit != "bot-alpha.service" || alpha.Roles[0] != c.Roles["market-maker"] {
		t.Errorf("got %+v", alpha)
	}
	if *beta.UID != 4001 || beta.Exe != "/usr/bin/beta" || !strings.HasPrefix(beta.SHA256, "e3b0c442") || len(beta.Roles) != 2 || beta.Roles[0].Name != "acme-trader" {
		t.Errorf("got %+v", beta)
	}
	if gamma.UID != nil || *gamma.GID != 0 {
		t.Errorf("got %+v", gamma)
	}
}

// The digest is what an auditor can work out with sha256sum alone.
func TestDigestIsThatOfSha256sum(t *testing.T) {
	for source, files := range map[string]string{
		"split":          "sealsign.toml conf.d/*.toml",
		"full.toml":      "sealsign.toml ca.pem ops.pub",
		"authority.toml": "sealsign.toml authority.pem",
	} {
		c, path := load(t, source)
		cmd := exec.Command("sh", "-c", "sha256sum "+files+" | sha256sum")
		cmd.Dir = filepath.Dir(path)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if want, _, _ := strings.Cut(string(out), " "); c.Digest != want {
			t.Errorf("%s: got %s, want %s", source, c.Digest, want)
		}
	}
}

// tooLong is a hundred times what the slowest of these takes, and far less than
// what takes the square of a file's length.
const tooLong = time.Minute

// refused loads what is no configuration, and wants a problem to say so in good time.
func refused(t *testing.T, path, want string) {
	t.Helper()
	started := time.Now()
	_, problems := Load(path)
	if text := problems.Error(); !strings.Contains(text, want) {
		t.Errorf("got %.500s, want %q", text, want)
	}
	if text := problems.Error(); len(text) > 64<<10 {
		t.Errorf("the problems take %d bytes to tell", len(text))
	}
	if took := time.Since(started); took > tooLong {
		t.Errorf("took %v", took)
	}
}

func TestWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Mkdir(path("folder"), 0o755),
		os.Symlink("loop", path("loop")),
		syscall.Mkfifo(path("pipe"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	refused(t, path("none"), "can't be read: no such file or directory")
	refused(t, path("folder"), "is a folder, and a file is wanted")
	refused(t, path("loop"), "can't be read: too many levels of symbolic links")
	refused(t, path("pipe"), "is not a regular file")
	refused(t, "/dev/zero", "is not a regular file")
	if os.Getuid() != 0 {
		if err := os.WriteFile(path("secret"), nil, 0); err != nil {
			t.Fatal(err)
		}
		refused(t, path("secret"), "can't be read: uid "+strconv.Itoa(os.Getuid())+" may not: namei -l "+path("secret")+" shows why")
	}
}

func TestWhatIsInConfD(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sealsign.toml")
	write(t, path, "version = 1\nagent.environment = \"x\"\n")
	write(t, filepath.Join(dir, "conf.d"), "")
	if _, problems := Load(path); len(problems) != 1 || problems[0].Message != "can't be read: not a directory" {
		t.Errorf("conf.d is a file: %v", problems)
	}
	if err := os.Remove(filepath.Join(dir, "conf.d")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "conf.d", "a.toml"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, problems := Load(path); len(problems) != 1 || problems[0].Message != "is a folder, and a file is wanted" {
		t.Errorf("a folder in conf.d: %v", problems)
	}
	if err := os.Remove(filepath.Join(dir, "conf.d", "a.toml")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "conf.d", "a.toml"), "")
	if _, problems := Load(path); len(problems) != 1 || !strings.Contains(problems[0].Message, "is empty") {
		t.Errorf("an empty file in conf.d: %v", problems)
	}
}

func TestWhatIsTooMuch(t *testing.T) {
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for name, test := range map[string]struct{ content, want string }{
		"10 MB":                        {strings.Repeat("# filler\n", 10<<20/9), "is larger than 1024 KiB"},
		"lists in lists":               {"x = " + strings.Repeat("[", 500_000), "not TOML"},
		"lists in lists, closed":       {"x = " + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000), "nest deeper than 8"},
		"tables in tables":             {"x = " + strings.Repeat("{a=", 300_000), "not TOML"},
		"tables in tables, closed":     {"x = " + strings.Repeat("{a=", 9_000) + "1" + strings.Repeat("}", 9_000), "nest deeper than 8"},
		"a long dotted key":            {"x" + strings.Repeat(".a", 500_000) + " = 1", "nest deeper than 8"},
		"a long header":                {"[x" + strings.Repeat(".a", 500_000) + "]", "nest deeper than 8"},
		"many names":                   {many(80_000, "n%d = 1\n"), "is missing"},
		"many tables":                  {many(60_000, "[roles.r%d]\n"), "is missing"},
		"many of the same":             {strings.Repeat("a = 1\n", 170_000), "is defined already on line 1"},
		"a long list":                  {"tpm.pcrs = [" + strings.Repeat("1,", 500_000) + "]", "is missing"},
		"a list of names of no key":    {"[roles.r]\nkeys = [" + many(100_000, "'%d',") + "]", "is missing"},
		"a long text":                  {"agent.environment = '" + strings.Repeat("x", 1_000_000) + "'", "is missing"},
		"zeros":                        {strings.Repeat("\x00", 1<<20), "not TOML"},
		"no UTF-8":                     {strings.Repeat("\xff", 1<<20), "not TOML"},
		"the other byte order":         {"\xff\xfev\x00e\x00r\x00", "not TOML"},
		"a program":                    {"\x7fELF\x02\x01\x01", "not TOML"},
		"an unfinished text":           {"x = \"\"\"" + strings.Repeat("\n", 1_000_000), "not TOML"},
		"nothing but a header's start": {"[", "not TOML"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sealsign.toml")
			write(t, path, test.content)
			refused(t, path, test.want)
		})
	}
}

func TestProblemsAreCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sealsign.toml")
	write(t, path, "version = 1\nagent.environment = 'x'\n"+strings.Repeat("x = 1\n", 1000))
	_, problems := Load(path)
	if want := "has 900 problems more"; len(problems) != maxProblems+1 || problems[maxProblems].Message != want {
		t.Errorf("%d problems, the last of them %v; want %q", len(problems), problems[len(problems)-1], want)
	}
}

func TestWarnsOfAFileThatAllMayWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sealsign.toml")
	write(t, path, "version = 1\nagent = { environment = 'x', socket_group = 'root' }\n")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	c, problems := Load(path)
	if len(problems) > 0 || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "chmod o-w") {
		t.Errorf("got %+v, %v", c, problems)
	}
}

func TestManyKeys(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "sealsign.toml"), "version = 1\nagent.environment = 'production'\n")
	var b bytes.Buffer
	for i := range 10_000 {
		fmt.Fprintf(&b, "[keys.k%d]\nvenue = 'kraken'\nenvironment = 'production'\n", i)
		if i%5000 == 4999 {
			write(t, filepath.Join(dir, "conf.d", fmt.Sprintf("%d.toml", i)), b.String())
			b.Reset()
		}
	}
	started := time.Now()
	c, problems := Load(filepath.Join(dir, "sealsign.toml"))
	if len(problems) > 0 || len(c.Keys) != 10_000 {
		t.Fatalf("%v", problems)
	}
	if took := time.Since(started); took > tooLong {
		t.Errorf("10,000 keys took %v", took)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Metrics are served on this host only.
func TestMetricsListen(t *testing.T) {
	for listen, want := range map[string]Metrics{
		`unix:/run/sealsign/metrics.sock`: {"unix", "/run/sealsign/metrics.sock"},
		`127.0.0.1:9464`:                  {"tcp", "127.0.0.1:9464"},
		`127.8.8.8:1`:                     {"tcp", "127.8.8.8:1"},
		`[::1]:9464`:                      {"tcp", "[::1]:9464"},
		"":                                {}, ":9464": {}, "0.0.0.0:9464": {}, "[::]:9464": {}, "10.0.0.1:9464": {}, "192.0.2.1:9464": {},
		"localhost:9464": {}, "127.0.0.1": {}, "127.0.0.1:0": {}, "127.0.0.1:65536": {}, "tcp:127.0.0.1:9464": {}, "unix:": {}, "unix:/": {},
		"unix:metrics.sock": {}, "unix:/run/../m": {}, "unix:/run/m/": {}, "unix:@abstract": {}, "unix:/run/sealsign/admin.sock": {},
		"unix:/" + strings.Repeat("m", 107): {},
	} {
		path := filepath.Join(t.TempDir(), "sealsign.toml")
		text := fmt.Sprintf("version = 1\nagent.environment = \"production\"\n[metrics]\nlisten = %q\n", listen)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, problems := Load(path)
		switch {
		case want != Metrics{} && len(problems) > 0:
			t.Errorf("%s is refused: %v", listen, problems)
		case want != Metrics{} && c.Metrics != want:
			t.Errorf("%s: got %+v", listen, c.Metrics)
		case want == Metrics{} && (len(problems) != 1 || problems[0].Path != "metrics.listen" || problems[0].Line != 4):
			t.Errorf("%s: got %v, want one problem with metrics.listen", listen, problems)
		}
	}
}
