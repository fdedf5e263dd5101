package event

import (
	"os"
	"regexp"
	"testing"
)

// Each event has an id of its own, and an entry in the journal's catalog; and the
// catalog has no other entries.
func TestCatalog(t *testing.T) {
	source, err := os.ReadFile("event.go")
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := os.ReadFile("../../systemd/sealsign.catalog")
	if err != nil {
		t.Fatal(err)
	}
	entries := make(map[string]bool)
	for _, entry := range regexp.MustCompile(`(?m)^-- ([0-9a-f]{32})\nSubject: .+\nDefined-By: sealsign\nSupport: .+\n\n.+`).FindAllSubmatch(catalog, -1) {
		entries[string(entry[1])] = true
	}
	if begun := regexp.MustCompile(`(?m)^--`).FindAll(catalog, -1); len(begun) != len(entries) {
		t.Errorf("%d entries, of which %d are well formed and differ", len(begun), len(entries))
	}
	declared := regexp.MustCompile(`(?m)^\t\w+ +Event = "([a-z-]+)"`).FindAllSubmatch(source, -1)
	if len(declared) == 0 || len(declared) != len(ids) {
		t.Errorf("%d events are declared, and %d have an id", len(declared), len(ids))
	}
	for _, name := range declared {
		if id := Event(name[1]).ID(); !entries[id] {
			t.Errorf("%s: the catalog has no entry %q", name[1], id)
		} else {
			delete(entries, id)
		}
	}
	for id := range entries {
		t.Errorf("entry %s belongs to no event", id)
	}
}
