package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/internal/fault"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// statusJSON is what `status --json` prints.
type statusJSON struct {
	Version     string     `json:"version"`
	Environment string     `json:"environment"`
	StartedAt   *time.Time `json:"started_at"`
	Config      configJSON `json:"config"`
	TPM         tpmJSON    `json:"tpm"`
	Audit       auditJSON  `json:"audit"`
	Store       storeJSON  `json:"store"`
	Memory      string     `json:"memory"`
	Keys        []keyJSON  `json:"keys"`
}

type configJSON struct {
	OK       bool       `json:"ok"`
	Error    string     `json:"error"`
	Hint     string     `json:"hint"` // the next step, where there is an error
	LoadedAt *time.Time `json:"loaded_at"`
	Path     string     `json:"path"`
	Warnings []string   `json:"warnings"`
}

type tpmJSON struct {
	OK           bool     `json:"ok"`
	Error        string   `json:"error"`
	Device       string   `json:"device"`
	Manufacturer string   `json:"manufacturer"`
	Firmware     string   `json:"firmware"`
	Software     bool     `json:"software"`
	Can          []string `json:"can"`
}

type storeJSON struct {
	OK       bool   `json:"ok"`
	Error    string `json:"error"`
	Anchored bool   `json:"anchored"`
	// Ending is why what `key revoke --all` revoked opens from a copy still; empty: it doesn't.
	Ending string `json:"ending"`
}

type auditJSON struct {
	OK                bool       `json:"ok"`
	Error             string     `json:"error"`
	Records           uint64     `json:"records"`
	CheckpointRecords uint64     `json:"checkpoint_records"`
	CheckpointAt      *time.Time `json:"checkpoint_at"`
	Sync              string     `json:"sync"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "show the daemon, its config, TPM, log and keys",
		Example: "  sealsign status\n  sealsign status --json",
		Args:    words(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := admin(cmd.Context(), a, sealsignv1.AdminClient.Status, &sealsignv1.StatusRequest{})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(statusToJSON(st))
			}
			a.printStatus(st)
			return nil
		},
	}
}

func configToJSON(config *sealsignv1.ConfigStatus) configJSON {
	return configJSON{
		OK: config.GetOk(), Error: config.GetError(), Hint: config.GetHint(), LoadedAt: timeOf(config.GetLoadedAt()),
		Path: config.GetPath(), Warnings: orEmpty(config.GetWarnings()),
	}
}

func statusToJSON(st *sealsignv1.StatusResponse) statusJSON {
	tpm, audit := st.GetTpm(), st.GetAudit()
	return statusJSON{
		Version:     st.GetVersion(),
		Environment: st.GetEnvironment(),
		StartedAt:   timeOf(st.GetStartedAt()),
		Config:      configToJSON(st.GetConfig()),
		TPM: tpmJSON{
			OK: tpm.GetOk(), Error: tpm.GetError(), Device: tpm.GetDevice(), Manufacturer: tpm.GetManufacturer(),
			Firmware: tpm.GetFirmware(), Software: tpm.GetSoftware(), Can: orEmpty(tpm.GetCan()),
		},
		Audit: auditJSON{
			OK: audit.GetOk(), Error: audit.GetError(), Records: audit.GetRecords(), Sync: audit.GetSync(),
			CheckpointRecords: audit.GetCheckpointRecords(), CheckpointAt: timeOf(audit.GetCheckpointAt()),
		},
		Store: storeJSON{
			OK: st.GetStore().GetOk(), Error: st.GetStore().GetError(), Anchored: st.GetStore().GetAnchored(), Ending: st.GetStore().GetEnding(),
		},
		Memory: st.GetMemory(),
		Keys:   keysToJSON(st.GetKeys()),
	}
}

func (a *app) printStatus(st *sealsignv1.StatusResponse) {
	config, tpm, audit := st.GetConfig(), st.GetTpm(), st.GetAudit()
	line := func(name, text string) { a.printf("%-12s %s\n", name, visible(text)) }
	line("sealsignd", joined(", ", st.GetVersion(), "since "+timeText(st.GetStartedAt())))
	line("environment", st.GetEnvironment())
	line("config", joined(", ", either(config.GetOk(), "ok", "the last edit is refused, the config before it is in force"),
		config.GetPath(), "loaded "+timeText(config.GetLoadedAt())))
	for _, problem := range lines(config.GetError()) {
		line("", problem)
	}
	if config.GetHint() != "" {
		line("", "next: "+config.GetHint())
	}
	if n := len(config.GetWarnings()); n > 0 {
		line("", count(n, "warning")+": sealsign config check "+config.GetPath())
	}
	named := strings.Contains(tpm.GetError(), tpm.GetDevice())
	line("tpm", joined(", ", either(tpm.GetOk(), "ok", "down: "+tpm.GetError()), either(named, "", tpm.GetDevice()),
		joined(" ", tpm.GetManufacturer(), tpm.GetFirmware()), either(tpm.GetSoftware(), "a software TPM", "")))
	checkpoint := "no checkpoint yet"
	if audit.GetCheckpointAt() != nil {
		checkpoint = fmt.Sprintf("checkpoint over %d at %s", audit.GetCheckpointRecords(), timeText(audit.GetCheckpointAt()))
	}
	line("audit", joined(", ", either(audit.GetOk(), "ok", "down"), audit.GetError(),
		count(audit.GetRecords(), "record"), checkpoint, "sync "+audit.GetSync()))
	line("store", storeText(st))
	if ending := st.GetStore().GetEnding(); ending != "" && ending != st.GetStore().GetError() {
		line("", ending)
	}
	line("memory", st.GetMemory())
	if len(st.GetKeys()) > 0 {
		a.printf("\n")
		a.printKeyTable(st.GetKeys())
		a.printProblems(ownProblems(st))
		a.printConcerns(st.GetKeys())
	}
}

// storeText says whether the keys are what this host had last, which the TPM vouches for.
func storeText(st *sealsignv1.StatusResponse) string {
	store := st.GetStore()
	if !store.GetOk() && !st.GetTpm().GetOk() && strings.HasPrefix(store.GetError(), string(fault.TPMUnavailable)) {
		return "not to be used while the TPM is down"
	}
	return joined(", ", either(store.GetOk(), "ok", "not to be used"), either(store.GetAnchored(), "no older copy can take its place", store.GetError()))
}

// ownProblems leaves out the keys whose problem is the TPM's or the store's, which
// has a line of its own.
func ownProblems(st *sealsignv1.StatusResponse) []*sealsignv1.Key {
	if st.GetTpm().GetOk() && st.GetStore().GetOk() {
		return st.GetKeys()
	}
	ofHost := []fault.Reason{fault.TPMUnavailable, fault.StoreUnavailable, fault.StoreUntrusted}
	return slices.DeleteFunc(slices.Clone(st.GetKeys()), func(key *sealsignv1.Key) bool {
		return slices.Contains(ofHost, fault.Reason(key.GetReason()))
	})
}
