package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func (a *app) keyCommand() *cobra.Command {
	return group("key", "manage keys: import, wrap, generate, rotate, suspend, revoke", "  sealsign key list",
		a.keyImportCommand(), a.keyWrapCommand(), a.keyGenerateCommand(), a.keyRotateCommand(), a.keyListCommand(), a.keyShowCommand(), a.keyPublicCommand(),
		a.keySuspendCommand(), a.keyResumeCommand(), a.keyRevokeCommand(), a.keyRebindCommand(), a.keyResealCommand())
}

// keyJSON is a key as scripts read it.
type keyJSON struct {
	Name        string        `json:"name"`
	Venue       string        `json:"venue"`
	Environment string        `json:"environment"`
	Algorithm   string        `json:"algorithm"`
	Protection  string        `json:"protection"`
	State       string        `json:"state"`
	Wanted      uint32        `json:"wanted"`
	Active      uint32        `json:"active"`
	Problem     string        `json:"problem"` // why it can't sign, or why wanted and active differ
	Next        string        `json:"next"`    // the next step then
	Versions    []versionJSON `json:"versions"`
	// RightsProblem is why the rights of the active version aren't known.
	RightsProblem string `json:"rights_problem"`
	scheduleJSON
}

type versionJSON struct {
	Version     uint32      `json:"version"`
	State       string      `json:"state"`
	Origin      string      `json:"origin"` // imported or generated
	ImportedAt  *time.Time  `json:"imported_at"`
	Rights      *rightsJSON `json:"rights"`       // null: not known
	DrainsUntil *time.Time  `json:"drains_until"` // replaced, it serves what began with it until then; null: it isn't loaded, or signs
	Expires     *time.Time  `json:"expires"`
}

func keyToJSON(key *sealsignv1.Key) keyJSON {
	versions := make([]versionJSON, 0, len(key.GetVersions()))
	for _, v := range key.GetVersions() {
		versions = append(versions, versionJSON{v.GetVersion(), v.GetState(), v.GetOrigin(), timeOf(v.GetImportedAt()), rightsToJSON(v.GetRights()), timeOf(v.GetDrainsUntil()), timeOf(v.GetExpires())})
	}
	return keyJSON{
		Name: key.GetName(), Venue: key.GetVenue(), Environment: key.GetEnvironment(), Algorithm: key.GetAlgorithm(),
		Protection: key.GetProtection(), State: key.GetState(), Wanted: key.GetWanted(), Active: key.GetActive(),
		Problem: key.GetProblem(), Next: key.GetNext(), Versions: versions,
		RightsProblem: key.GetRightsProblem(), scheduleJSON: scheduleToJSON(key),
	}
}

func keysToJSON(keys []*sealsignv1.Key) []keyJSON {
	all := make([]keyJSON, 0, len(keys))
	for _, key := range keys {
		all = append(all, keyToJSON(key))
	}
	return all
}

// printKeys prints the keys, and below the table what is wrong with some and how
// they age.
func (a *app) printKeys(keys []*sealsignv1.Key) {
	a.printKeyTable(keys)
	a.printProblems(keys)
	a.printConcerns(keys)
}

// printKeyTable prints one line for each key.
func (a *app) printKeyTable(keys []*sealsignv1.Key) {
	rows := [][]string{{"NAME", "VENUE", "ENVIRONMENT", "ALGORITHM", "PROTECTION", "STATE", "WANTED", "ACTIVE"}}
	for _, key := range keys {
		rows = append(rows, []string{key.GetName(), key.GetVenue(), key.GetEnvironment(), key.GetAlgorithm(), key.GetProtection(),
			key.GetState(), numberText(key.GetWanted()), numberText(key.GetActive())})
	}
	printTable(a.out, rows...)
}

// printConcerns prints what an operator should know of keys that sign.
func (a *app) printConcerns(keys []*sealsignv1.Key) {
	for _, key := range keys {
		if text := scheduleText(key); text != "" {
			a.printf("%s: %s\n", key.GetName(), text)
		}
		if concern := rightsConcern(key); concern != "" {
			a.printf("%s: %s\n", key.GetName(), visible(concern))
		}
	}
}

// printProblems prints what is wrong with keys, each thing once, and the next step.
func (a *app) printProblems(keys []*sealsignv1.Key) {
	type trouble struct{ problem, next string }
	var order []trouble
	having := make(map[trouble][]string)
	for _, key := range keys {
		t := trouble{key.GetProblem(), key.GetNext()}
		if t.problem == "" {
			continue
		}
		if having[t] == nil {
			order = append(order, t)
		}
		having[t] = append(having[t], key.GetName())
	}
	for _, t := range order {
		a.printf("%s: %s\n", strings.Join(having[t], ", "), visible(t.problem))
		for _, step := range lines(t.next) {
			a.printf("  next: %s\n", visible(step))
		}
	}
}

// printKey prints all that there is to say of one key.
func (a *app) printKey(key *sealsignv1.Key) {
	line := func(name, text string) { a.printf("%-12s %s\n", name, either(text != "", visible(text), "-")) }
	line("name", key.GetName())
	line("venue", key.GetVenue())
	line("environment", key.GetEnvironment())
	line("algorithm", key.GetAlgorithm())
	line("protection", key.GetProtection())
	line("state", key.GetState())
	line("wanted", numberText(key.GetWanted()))
	line("active", numberText(key.GetActive()))
	if key.GetProblem() != "" {
		line("problem", key.GetProblem())
		for _, step := range lines(key.GetNext()) {
			line("next", step)
		}
	}
	line("expires", timeText(key.GetExpires()))
	line("rotation", rotationText(key))
	line("last used", timeText(key.GetLastUsed()))
	if key.GetIdleSince() != nil {
		line("idle since", timeText(key.GetIdleSince()))
	}
	if key.GetRightsProblem() != "" {
		line("rights", "not known: "+key.GetRightsProblem())
	}
	if len(key.GetVersions()) == 0 {
		return
	}
	rows := [][]string{{"VERSION", "STATE", "ORIGIN", "IMPORTED", "EXPIRES", "AT THE VENUE"}}
	for _, v := range key.GetVersions() {
		state := v.GetState()
		if v.GetDrainsUntil() != nil {
			state += ", serves what began with it until " + timeText(v.GetDrainsUntil())
		}
		rows = append(rows, []string{numberText(v.GetVersion()), state, v.GetOrigin(), timeText(v.GetImportedAt()), timeText(v.GetExpires()), rightsText(v.GetRights())})
	}
	a.printf("\n")
	printTable(a.out, rows...)
}
