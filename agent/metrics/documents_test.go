package metrics

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
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

// given are the names that a query can have: the agent's own, those of Go's runtime
// and the process, and what Prometheus itself makes of them.
func given(t *testing.T) (names []string) {
	t.Helper()
	answer := httptest.NewRecorder()
	New(func() State { return State{} }).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, match := range typeLine.FindAllStringSubmatch(answer.Body.String(), -1) {
		names = append(names, match[1])
	}
	for _, m := range all {
		names = append(names, m.name)
		if m.kind == histogram {
			names = append(names, m.name+"_bucket", m.name+"_sum", m.name+"_count")
		}
	}
	return names
}

var typeLine = regexp.MustCompile(`(?m)^# TYPE (\S+)`)

var name = regexp.MustCompile(`\b(?:sealsign|process|go)_[a-z0-9_]+`)

// What the rules and the dashboard ask for is there.
func TestQueriesNameWhatIsGiven(t *testing.T) {
	names := given(t)
	for _, file := range []string{"systemd/monitoring/rules.yml", "systemd/monitoring/rules_test.yml", "systemd/monitoring/dashboard.json"} {
		found := name.FindAllString(read(t, file), -1)
		if len(found) < 10 {
			t.Errorf("%s names %d metrics only", file, len(found))
		}
		for _, f := range found {
			if !slices.Contains(names, f) {
				t.Errorf("%s: there is no metric %s", file, f)
			}
		}
	}
}

// A query asks for a label only of a metric that has it.
func TestQueriesNameLabelsThatAreThere(t *testing.T) {
	selector := regexp.MustCompile(`(sealsign_[a-z0-9_]+)\{([^}]*)\}`)
	label := regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	for _, file := range []string{"systemd/monitoring/rules.yml", "systemd/monitoring/dashboard.json"} {
		for _, match := range selector.FindAllStringSubmatch(read(t, file), -1) {
			asked := strings.TrimSuffix(match[1], "_bucket")
			at := slices.IndexFunc(all, func(m *metric) bool { return m.name == asked })
			for _, l := range label.FindAllStringSubmatch(match[2], -1) {
				known := []string{"job", "instance", "le"}
				if at >= 0 {
					known = append(known, all[at].labels...)
				}
				if !slices.Contains(known, l[1]) {
					t.Errorf("%s: %s has no label %s", file, match[1], l[1])
				}
			}
		}
	}
}

func TestDashboardIsOne(t *testing.T) {
	var dashboard struct {
		Title  string
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "systemd/monitoring/dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	if dashboard.Title == "" || len(dashboard.Panels) < 10 {
		t.Errorf("it has the title %q and %d panels", dashboard.Title, len(dashboard.Panels))
	}
	for _, p := range dashboard.Panels {
		if p.Title == "" {
			t.Error("a panel has no title")
		}
		for _, target := range p.Targets {
			if target.Expr == "" {
				t.Errorf("%s: a query is empty", p.Title)
			}
		}
	}
}
