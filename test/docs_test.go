// Package test holds the tests of the whole: what the documents say, and what
// the built programs do.
package test

import (
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/agent/config"
)

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The README's config is one that the daemon takes, on a host that has its user and group.
func TestReadmeConfig(t *testing.T) {
	_, rest, found := strings.Cut(read(t, "README.md"), "```toml\n")
	text, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("the README has no config")
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Fatal(err)
	}
	text = strings.Replace(text, `user  = "alpha"`, `user  = "`+me.Username+`"`, 1)
	text = strings.Replace(text, "[agent]\n", "[agent]\nsocket_group = \""+group.Name+"\"\n", 1)
	file := filepath.Join(t.TempDir(), "sealsign.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, problems := config.Load(file); len(problems) > 0 {
		t.Errorf("the README's config: %v", problems)
	}
}

// The config that the packages bring is good as it comes, where it grants nothing, and
// with the examples in it.
func TestPackagedConfig(t *testing.T) {
	text := read(t, "systemd/packaging/sealsign.toml")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile(`(?m)^#(\S)`).ReplaceAllString(text, "$1")
	examples = strings.Replace(examples, `user  = "alpha"`, `user  = "`+me.Username+`"`, 1)
	for name, test := range map[string]struct {
		text    string
		callers int
	}{"as it comes": {text, 0}, "with its examples": {examples, 1}} {
		file := filepath.Join(t.TempDir(), "sealsign.toml")
		if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, problems := config.Load(file)
		if len(problems) > 0 {
			t.Errorf("%s: %v", name, problems)
		} else if n := len(loaded.Callers); n != test.callers {
			t.Errorf("%s: %d callers, want %d", name, n, test.callers)
		}
	}
}

var (
	link   = regexp.MustCompile(`\]\(([^)#:]+)\)`)
	folder = regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\|")
)

// What the documents point to exists.
func TestLinks(t *testing.T) {
	for _, document := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/metrics.md", "systemd/README.md"} {
		text := read(t, document)
		for _, match := range append(link.FindAllStringSubmatch(text, -1), folder.FindAllStringSubmatch(text, -1)...) {
			if _, err := os.Stat(filepath.Join("..", filepath.Dir(document), match[1])); err != nil {
				t.Errorf("%s points to %s: %v", document, match[1], err)
			}
		}
	}
}
