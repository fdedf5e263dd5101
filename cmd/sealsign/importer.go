package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func (a *app) importerCommand() *cobra.Command {
	return group("importer", "who may bring credentials to this host from elsewhere", "  sealsign importer list",
		a.importerEnrollCommand(), a.importerListCommand(), a.importerRemoveCommand())
}

func (a *app) importerEnrollCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "enroll NAME PUBLIC_KEY_FILE",
		Short: "let the owner of an SSH key wrap credentials for this host",
		Long: `enroll lets whoever has the SSH key sign what 'sealsign key wrap' makes. The file is
the .pub file of any kind of key that ssh-keygen signs with; one of a security key
(ed25519-sk) is best, since nobody signs with it from afar.`,
		Example: "  sealsign importer enroll alice alice.pub",
		Args:    words(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			public, err := readSmall(args[1])
			if err != nil {
				return err
			}
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.EnrollImporter,
				&sealsignv1.EnrollImporterRequest{Name: args[0], PublicKey: string(public)})
			if err != nil {
				return err
			}
			return a.printImporters(answer.GetImporters())
		},
	}
}

func (a *app) importerListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "list who may",
		Example: "  sealsign importer list\n  sealsign importer list --json",
		Args:    words(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.ListImporters, &sealsignv1.ListImportersRequest{})
			if err != nil {
				return err
			}
			return a.printImporters(answer.GetImporters())
		},
	}
}

func (a *app) importerRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "take that right away, at once",
		Long: `remove takes the right away. What the importer brought before stays: 'sealsign key
show' tells which versions were imported-remote, and 'sealsign key revoke' ends one.`,
		Example: "  sealsign importer remove alice",
		Args:    words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.RemoveImporter, &sealsignv1.RemoveImporterRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return a.printImporters(answer.GetImporters())
		},
	}
}

type importerJSON struct {
	Name        string     `json:"name"`
	PublicKey   string     `json:"public_key"`
	Fingerprint string     `json:"fingerprint"`
	EnrolledAt  *time.Time `json:"enrolled_at"`
}

func (a *app) printImporters(importers []*sealsignv1.Importer) error {
	if a.json {
		list := make([]importerJSON, 0, len(importers))
		for _, i := range importers {
			list = append(list, importerJSON{i.GetName(), i.GetPublicKey(), i.GetFingerprint(), timeOf(i.GetEnrolledAt())})
		}
		return a.printJSON(list)
	}
	if len(importers) == 0 {
		a.notef("there is no importer: sealsign importer enroll NAME PUBLIC_KEY_FILE")
		return nil
	}
	rows := [][]string{{"NAME", "KEY", "ENROLLED"}}
	for _, i := range importers {
		rows = append(rows, []string{i.GetName(), i.GetFingerprint(), timeText(i.GetEnrolledAt())})
	}
	printTable(a.out, rows...)
	return nil
}

// maxSmall is far more than a public key or a host's document has.
const maxSmall = 64 << 10

// readSmall reads a file of which no more than maxSmall bytes are of interest.
func readSmall(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxSmall+1))
	if err == nil && len(data) > maxSmall {
		err = fmt.Errorf("%s has more than %d KiB", path, maxSmall>>10)
	}
	return data, err
}
