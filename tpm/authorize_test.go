package tpm

import (
	"errors"
	"strings"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
)

// What somebody approves has one reading.
func TestParseApprovalHasOneReading(t *testing.T) {
	value := strings.Repeat("ab", 32)
	other := strings.Repeat("cd", 32)
	id := `"host_id": "` + strings.Repeat("01", hostIDSize) + `"`
	if _, err := ParseApproval([]byte(`{` + id + `, "host": "a", "pcrs": {"7": "` + value + `"}}`)); err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"null for a value": `{` + id + `, "pcrs": {"7": null}}`,
		"a PCR twice":      `{` + id + `, "pcrs": {"7": "` + value + `", "7": "` + other + `"}}`,
		"another spelling": `{` + id + `, "pcrs": {"7": "` + value + `", "07": "` + other + `"}}`,
		"two sets of PCRs": `{` + id + `, "pcrs": {"7": "` + value + `"}, "pcrs": {"7": "` + other + `"}}`,
		"another member":   `{` + id + `, "PCRs": {"7": "` + value + `"}}`,
		"something behind": `{` + id + `, "pcrs": {"7": "` + value + `"}}{}`,
		"two hosts":        `{` + id + `, "pcrs": {"7": "` + value + `"}, "host_id": "` + strings.Repeat("02", hostIDSize) + `"}`,
	} {
		if _, err := ParseApproval([]byte(text)); !errors.Is(err, fault.BadRequest) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
