package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
)

func TestEachCommandHasAManPage(t *testing.T) {
	dir := t.TempDir()
	root := testRoot()
	if err := writeManPages(root, dir); err != nil {
		t.Fatal(err)
	}
	walk(root, func(cmd *cobra.Command) {
		if !cmd.IsAvailableCommand() && cmd.HasParent() {
			return
		}
		page, err := os.ReadFile(filepath.Join(dir, pageName(cmd)+".1"))
		if err != nil {
			t.Error(err)
			return
		}
		if strings.ContainsFunc(string(page), func(r rune) bool { return r > unicode.MaxASCII }) {
			t.Errorf("%s has letters that groff can't read", pageName(cmd))
		}
		for _, section := range []string{".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SH EXAMPLES", ".SH EXIT STATUS"} {
			if !strings.Contains(string(page), section) {
				t.Errorf("%s has no %s", pageName(cmd), section)
			}
		}
	})
}

func TestRoffEscapes(t *testing.T) {
	for text, want := range map[string]string{
		`a\nb`:              `a\enb`,
		"--json":            `\-\-json`,
		".sock\n'quoted' x": "\\&.sock\n\\&'quoted' x",
	} {
		if got := roff(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
