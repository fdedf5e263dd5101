package metrics

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// table is what docs/metrics.md has of the agent's own metrics.
func table() string {
	var text strings.Builder
	text.WriteString("| name | type | labels | meaning |\n|---|---|---|---|\n")
	for _, m := range all {
		labels := make([]string, len(m.labels))
		for i, label := range m.labels {
			labels[i] = "`" + label + "`"
		}
		fmt.Fprintf(&text, "| `%s` | %s | %s | %s |\n", m.name, m.kind, strings.Join(labels, ", "), m.help)
	}
	return text.String()
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile("../../" + path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTableOfTheDocuments(t *testing.T) {
	if !strings.Contains(read(t, "docs/metrics.md"), table()) {
		t.Errorf("docs/metrics.md doesn't have this table:\n%s", table())
	}
}
