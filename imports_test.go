// Package sealsign_test holds the tests of the whole tree.
package sealsign_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sealsign/sealsign/"

// edges are all the imports that there may be between the packages of this
// module: they point one way. Every package may import internal/event and internal/fault besides.
var edges = map[string][]string{
	"agent":            {"agent/audit", "agent/caller", "agent/config", "agent/keyring", "agent/ledger", "agent/metrics", "agent/policy", "agent/venue", "agent/wrap", "tpm"},
	"agent/audit":      {"tpm"},
	"agent/caller":     {},
	"agent/config":     {"agent/policy", "agent/venue"},
	"agent/credential": {"internal/secmem", "tpm"},
	"agent/keyring":    {"agent/credential", "agent/wrap", "internal/secmem", "tpm"},
	"agent/ledger":     {},
	"agent/metrics":    {"agent/audit", "agent/keyring", "agent/policy", "agent/venue", "internal/build"}, // whose words are its labels
	"agent/policy":     {"agent/venue"},
	"agent/server":     {"agent", "agent/audit", "agent/caller", "agent/keyring", "agent/policy", "agent/venue", "internal/build", "proto/sealsign/v1"},
	"agent/venue":      {},
	// What carries a credential to another host is of use without an agent: to cmd/sealsign, which has no TPM, too.
	"agent/wrap":        {"agent/credential", "internal/secmem", "tpm"},
	"bench":             {"client", "proto/sealsign/v1"},
	"client":            {"proto/sealsign/v1"},
	"cmd/sealsign":      {"agent/audit", "agent/config", "agent/credential", "agent/venue", "agent/wrap", "client", "internal/build", "proto/sealsign/v1", "tpm"},
	"cmd/sealsignd":     {"agent", "agent/server", "internal/build", "internal/secmem", "systemd"},
	"internal/build":    {},
	"internal/event":    {},
	"internal/fault":    {},
	"internal/secmem":   {},
	"proto/sealsign/v1": {},
	"systemd":           {},
	"tpm":               {"internal/secmem"},
}

// testOnly are packages that only tests import.
var testOnly = []string{"agent/server/servertest", "internal/daemontest", "internal/mockvenue", "internal/mockvenue/cmd/mockvenue", "internal/tpmtest", "test"}

// pure packages do no I/O and read no clock.
var pure = []string{"agent/venue", "agent/policy"}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	output, err := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(output)); decoder.More(); {
		var p listed
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		t.Fatal("go list lists no packages")
	}
	return packages
}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range list(t, "./...") {
		from := strings.TrimPrefix(p.ImportPath, module)
		if slices.Contains(testOnly, from) || from == strings.TrimSuffix(module, "/") {
			continue
		}
		allowed, known := edges[from]
		if !known {
			t.Errorf("%s is not in the table of this test: which packages may it import, and which may import it?", from)
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module)
			if ours && to != "internal/event" && to != "internal/fault" && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s", from, to)
			}
			if slices.Contains(pure, from) && slices.Contains([]string{"os", "net", "net/http", "syscall", "io/fs", "time/tzdata"}, imported) {
				t.Errorf("%s is pure and imports %s", from, imported)
			}
		}
	}
}

func TestProductionHasNoSimulator(t *testing.T) {
	for _, p := range list(t, "./cmd/sealsign", "./cmd/sealsignd") {
		for _, dependency := range p.Deps {
			if strings.Contains(dependency, "simulator") || slices.Contains(testOnly, strings.TrimPrefix(dependency, module)) {
				t.Errorf("%s is built with %s", p.ImportPath, dependency)
			}
		}
	}
}
