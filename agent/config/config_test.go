package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The files in testdata say themselves what is to be found in them, in comments:
//
//	#! PATH: MESSAGE     a problem on this line, or
//	#!3 PATH: MESSAGE    on line 3 (0: on none)
//	#w MESSAGE           a warning
//
// Messages are given from their beginning on, as far as they matter. @DIR@ is the
// folder that a case is copied to.
var marker = regexp.MustCompile(`#(!([0-9]*)|w) `)

type expected struct {
	file string
	line int
	text string
}

// testCase copies a case of testdata, a file or a folder, and reads its markers.
func testCase(t *testing.T, source string) (path string, problems []expected, warnings []string) {
	t.Helper()
	dir := t.TempDir()
	put := func(from, to string) {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(content), "@DIR@", dir)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(text, "\n") {
			marks := marker.FindAllStringSubmatchIndex(line, -1)
			for j, m := range marks {
				end := len(line)
				if j+1 < len(marks) {
					end = marks[j+1][0]
				}
				message := strings.TrimSpace(line[m[1]:end])
				if line[m[2]] == 'w' {
					warnings = append(warnings, message)
					continue
				}
				at := i + 1
				if m[4] < m[5] {
					at, _ = strconv.Atoi(line[m[4]:m[5]])
				}
				problems = append(problems, expected{to, at, message})
			}
		}
	}
	for _, name := range []string{"authority.pem", "ca.pem", "key.pem", "ops.pub"} {
		put(filepath.Join("testdata", name), filepath.Join(dir, name))
	}
	path = filepath.Join(dir, "sealsign.toml")
	if strings.HasSuffix(source, ".toml") {
		put(source, path)
		return path, problems, warnings
	}
	files, err := filepath.Glob(filepath.Join(source, "*"))
	more, _ := filepath.Glob(filepath.Join(source, "conf.d", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, more...) {
		if name, _ := filepath.Rel(source, f); name != "conf.d" {
			put(f, filepath.Join(dir, name))
		}
	}
	return path, problems, warnings
}

func cases(t *testing.T, folder string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join("testdata", folder, "*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no cases in testdata/%s: %v", folder, err)
	}
	return found
}

func TestGood(t *testing.T) {
	for _, source := range cases(t, "good") {
		t.Run(filepath.Base(source), func(t *testing.T) {
			path, _, want := testCase(t, source)
			c, problems := Load(path)
			if len(problems) > 0 {
				t.Fatalf("refused:\n%v", problems)
			}
			matchUp(t, "warning", c.Warnings, want, strings.HasPrefix)
		})
	}
}

func TestBad(t *testing.T) {
	for _, source := range cases(t, "bad") {
		t.Run(filepath.Base(source), func(t *testing.T) {
			path, want, _ := testCase(t, source)
			c, problems := Load(path)
			if c != nil {
				t.Error("there is a configuration beside its problems")
			}
			var got, wanted []string
			for _, p := range problems {
				got = append(got, fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.Path, p.Message))
			}
			for _, w := range want {
				wanted = append(wanted, fmt.Sprintf("%s:%d: %s", w.file, w.line, strings.TrimPrefix(w.text, ": ")))
			}
			matchUp(t, "problem", got, wanted, func(got, want string) bool {
				return strings.HasPrefix(got, want) || strings.HasPrefix(strings.Replace(got, ": : ", ": ", 1), want)
			})
		})
	}
}

// matchUp wants each of want to be one of got, and none of got to be left.
func matchUp(t *testing.T, what string, got, want []string, match func(got, want string) bool) {
	t.Helper()
	got = slices.Clone(got)
	for _, w := range want {
		at := slices.IndexFunc(got, func(g string) bool { return match(g, w) })
		if at < 0 {
			t.Errorf("no %s %q", what, w)
			continue
		}
		got = slices.Delete(got, at, at+1)
	}
	for _, g := range got {
		t.Errorf("unexpected %s %q", what, g)
	}
}
