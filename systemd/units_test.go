package systemd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// settings are the lines of a unit without comments.
func settings(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// An instance's units are the host's, with the instance in paths, names and sockets.
func TestInstancesAreAlike(t *testing.T) {
	names, err := filepath.Glob("*@.*")
	if err != nil || len(names) != 4 {
		t.Fatalf("%v, %v", names, err)
	}
	ofHost := strings.NewReplacer(
		"sealsign for %i", "sealsign", "/etc/sealsign/%i/", "/etc/sealsign/", "/run/sealsign/%i", "/run/sealsign",
		"Directory=sealsign/%i", "Directory=sealsign", "@%i.", ".",
	)
	for _, name := range names {
		want := settings(t, strings.Replace(name, "@", "", 1))
		got := settings(t, name)
		for i := range got {
			got[i] = ofHost.Replace(got[i])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s differs from the host's:\n%s\n\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// What cmd/sealsignd knows the sockets by is what the units call them.
func TestSocketUnits(t *testing.T) {
	for _, name := range []string{"agent", "http", "admin"} {
		unit := settings(t, "sealsign-"+name+".socket")
		for _, line := range []string{"FileDescriptorName=" + name, "ListenStream=/run/sealsign/" + name + ".sock", "Service=sealsign.service"} {
			if !slices.Contains(unit, line) {
				t.Errorf("sealsign-%s.socket has no %s", name, line)
			}
		}
		if !strings.Contains(strings.Join(settings(t, "sealsign.service"), "\n"), "sealsign-"+name+".socket") {
			t.Errorf("the service doesn't ask for sealsign-%s.socket", name)
		}
	}
}
