package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/agent/venue"
)

// The shell in the documents is run. Each block says its language after the
// fence. Blocks of sh are run with sh -e, and so are the commands in blocks of
// console: the lines that begin with "$ ", and those that a "\" continues them
// with; the other lines are what they print. A file's blocks run in order on one
// stage with a daemon whose config is testdata/docs/sealsign.toml. The venues'
// hosts and sealsign's folders are replaced by the stage's, sudo does nothing,
// and standard input is a credential of Binance.
//
// A comment in the line before the fence changes that:
//
//	<!-- docs: skip, REASON -->   it isn't run
//	<!-- docs: exits 1 -->        it ends with this status
//	<!-- docs: output -->         a console block prints what it shows; … stands for any text in a line
//	<!-- docs: boot -->           it needs the package and a running systemd: systemd/packaging/boot-test runs it
//	<!-- docs: after EVENT -->    one of docsEvents has happened before; or: after EVENT, exits 1
type block struct {
	line     int // of the fence
	language string
	mark     string // of the comment; empty: none
	text     string
}

func TestDocuments(t *testing.T) {
	program := buildDaemon(t)
	files := documents(t)
	run := 0
	for _, file := range files {
		blocks := readBlocks(t, file)
		t.Run(strings.TrimPrefix(file, "../../"), func(t *testing.T) {
			run += runBlocks(t, file, blocks, program)
		})
	}
	if run < 2 { // the example's blocks are always there
		t.Error("no document has a block of sh or console that is run")
	}
}

// documents are all of the project's, and the example of this test.
func documents(t *testing.T) []string {
	files := []string{"testdata/docs/example.md"}
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "testdata" || entry.Name() == ".git"):
			return fs.SkipDir
		case filepath.Ext(path) == ".md":
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var docsMark = regexp.MustCompile(`^<!-- docs: (skip, .+|exits \d+|output|boot|after [\w ]+(, exits \d+)?) -->$`)

// readBlocks finds a file's blocks.
func readBlocks(t *testing.T, file string) []block {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	var open *block
	before := ""
	for i, line := range strings.Split(string(text), "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			open = &block{line: i + 1, language: fence}
			if mark := docsMark.FindStringSubmatch(before); mark != nil {
				open.mark = mark[1]
			} else if strings.Contains(before, "<!-- docs:") {
				t.Errorf("%s:%d: what does %q mean?", file, i, before)
			}
		case isFence:
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
		before = line
	}
	return blocks
}

// runBlocks runs what is shell among the blocks and counts it.
func runBlocks(t *testing.T, file string, blocks []block, program func() (string, error)) (run int) {
	var d *docsStage
	for _, b := range blocks {
		where := fmt.Sprintf("%s:%d", file, b.line)
		switch b.language {
		case "", "bash", "shell":
			t.Errorf("%s: the block must say sh, console, or another language such as text", where)
			continue
		case "sh", "console":
		default:
			continue
		}
		if strings.HasPrefix(b.mark, "skip") || b.mark == "boot" {
			continue
		}
		if d == nil {
			d = newDocsStage(t, program)
		}
		d.run(t, where, b)
		run++
	}
	return run
}

// docsStage is a stage with a daemon that has its keys, and how the documents'
// names become those of the stage.
type docsStage struct {
	*stage
	names *strings.Replacer
}

func newDocsStage(t *testing.T, program func() (string, error)) *docsStage {
	daemon, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "docs") // short enough for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := newStage(t, dir, daemon, "production")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.strike)
	config, err := os.ReadFile("testdata/docs/sealsign.toml")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.configure(string(config)), s.start(), writeShims(dir)); err != nil {
		t.Fatal(err)
	}
	d := &docsStage{stage: s, names: replacer(s)}
	if text, err := d.shell("sealsign key import okx-main", "okx-hmac-sha256"); err != nil {
		t.Fatalf("importing okx-main: %v\n%s", err, text)
	}
	return d
}

// replacer gives the documents' folders and hosts the stage's names.
func replacer(s *stage) *strings.Replacer {
	facts := s.facts()
	names := []string{"/var/lib/sealsign", facts["STATE"], "/run/sealsign", facts["RUNTIME"], "/etc/sealsign", filepath.Dir(facts["CONFIG"])}
	for _, name := range venue.Names() {
		v, _ := venue.Builtin(name)
		for _, host := range v.Hosts("production") {
			names = append(names, "://"+host, "://"+s.venues.Host(name))
		}
	}
	return strings.NewReplacer(names...)
}

// writeShims writes what stands for programs whose defaults are a real host's.
func writeShims(dir string) error {
	shims := map[string]string{
		"sudo": `exec "$@"`,
		"sealsign": `case "$1 $2" in
"audit verify" | "audit tail") for word; do [ -d "$word" ] && exec "$SEALSIGN" "$@"; done; exec "$SEALSIGN" "$@" "$STATE/audit" ;;
esac
exec "$SEALSIGN" "$@"`,
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		return err
	}
	for name, text := range shims {
		if err := os.WriteFile(filepath.Join(dir, "bin", name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// shell runs a script, with a credential as its standard input.
func (d *docsStage) shell(script, credential string) ([]byte, error) {
	input, err := os.Open(filepath.Join(d.dir, "credentials", credential+".json"))
	if err != nil {
		return nil, err
	}
	defer input.Close()
	sealsign, err := exec.LookPath("sealsign") // which is this test, see TestMain
	if err != nil {
		return nil, err
	}
	shell := exec.Command("sh", "-e", "-c", d.names.Replace(script))
	shell.Dir, shell.Stdin = d.dir, input
	shell.Env = append(os.Environ(), "SEALSIGN="+sealsign, "STATE="+filepath.Join(d.dir, "state"),
		"SEALSIGN_RUNTIME_DIR="+filepath.Join(d.dir, "run"), "PATH="+filepath.Join(d.dir, "bin")+":"+os.Getenv("PATH"))
	return shell.CombinedOutput()
}

// run runs one block.
func (d *docsStage) run(t *testing.T, where string, b block) {
	script, shown := b.text, ""
	if b.language == "console" {
		script, shown = splitConsole(b.text)
	}
	mark := b.mark
	if event, ok := strings.CutPrefix(mark, "after "); ok {
		event, mark, _ = strings.Cut(event, ", ")
		d.happens(t, where, event)
	}
	printed, err := d.shell(script, "binance-hmac-sha256")
	want := "0"
	if status, ok := strings.CutPrefix(mark, "exits "); ok {
		want = status
	}
	if got := exitOf(err); got != want {
		t.Errorf("%s: exit status %s, want %s\n%s", where, got, want, printed)
	}
	if b.mark == "output" && !matches(string(printed), d.names.Replace(shown)) {
		t.Errorf("%s: it prints\n%s\nand shows\n%s", where, printed, shown)
	}
}

// splitConsole takes the commands and what they print apart.
func splitConsole(text string) (script, shown string) {
	goesOn := false
	for line := range strings.Lines(text) {
		command, isCommand := strings.CutPrefix(line, "$ ")
		if isCommand || goesOn {
			script += command
			goesOn = strings.HasSuffix(command, "\\\n")
			continue
		}
		shown += line
	}
	return script, shown
}

func exitOf(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return strconv.Itoa(exit.ExitCode())
	}
	if err != nil {
		return err.Error()
	}
	return "0"
}

// matches compares what was printed with what is shown.
func matches(printed, shown string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(shown), "…", ".*")
	return regexp.MustCompile("^" + pattern + "$").MatchString(printed)
}

func TestOutputIsComparedUpToWhatIsLeftOpen(t *testing.T) {
	for _, test := range []struct {
		printed, shown string
		want           bool
	}{
		{"a\nb\n", "a\nb\n", true},
		{"a\nb\n", "a\n", false},
		{"loaded 12:00, ok\n", "loaded …, ok\n", true},
		{"loaded 12:00\n, ok\n", "loaded …, ok\n", false},
		{"a.b\n", "a-b\n", false},
	} {
		if got := matches(test.printed, test.shown); got != test.want {
			t.Errorf("printed %q, shown %q: got %t", test.printed, test.shown, got)
		}
	}
}

func TestBlocksAreRead(t *testing.T) {
	blocks := readBlocks(t, "testdata/docs/example.md")
	var got bytes.Buffer
	for _, b := range blocks {
		fmt.Fprintf(&got, "%s/%s ", b.language, b.mark)
	}
	if want := "sh/ console/output console/exits 1 sh/skip, it would end the test text/ "; got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
}
