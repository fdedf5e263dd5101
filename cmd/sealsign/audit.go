package main

import (
	"github.com/spf13/cobra"

	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// defaultAuditDir is where the log is, where the config names no other state_dir.
const defaultAuditDir = "/var/lib/sealsign/audit"

func (a *app) auditCommand() *cobra.Command {
	return group("audit", "read and verify the audit log", "  sealsign audit verify",
		a.auditVerifyCommand(), a.auditTailCommand(), a.auditCheckpointCommand(), a.auditPublicKeyCommand())
}

func (a *app) auditCheckpointCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint",
		Short: "have the TPM sign the log as it is now, and print the checkpoint",
		Long: `checkpoint prints a C2SP checkpoint of the log as it is now, signed in the TPM. Kept
on another machine, it shows later whether the log was cut or rewritten.`,
		Example: "  sealsign audit checkpoint > checkpoint.txt",
		Args:    words(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.Checkpoint, &sealsignv1.CheckpointRequest{})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(struct {
					Checkpoint string `json:"checkpoint"`
				}{answer.GetCheckpoint()})
			}
			a.printf("%s", answer.GetCheckpoint())
			return nil
		},
	}
}

func (a *app) auditPublicKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "public-key",
		Short: "print the public key that verifies the log (PEM)",
		Long: `public-key prints the public key that verifies the log. Kept on another machine,
it is what 'sealsign audit verify --key' takes.`,
		Example: "  sealsign audit public-key > audit.pem",
		Args:    words(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.AuditPublicKey, &sealsignv1.AuditPublicKeyRequest{})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(struct {
					PublicKey   string `json:"public_key"`
					VerifierKey string `json:"verifier_key"` // NAME+HASH+KEY, as signed-note tools take it
				}{answer.GetPublicKey(), answer.GetVerifierKey()})
			}
			a.printf("%s", answer.GetPublicKey())
			return nil
		},
	}
}
