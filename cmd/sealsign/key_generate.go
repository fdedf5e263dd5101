package main

import (
	"github.com/spf13/cobra"

	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func (a *app) keyGenerateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "generate NAME",
		Short: "make a key inside the TPM and print the public key to register",
		Long: `generate makes a private key inside the TPM, which it never leaves, as a pending
version of a key with protection = "generated", and prints its public key (PEM).
Register that at the venue, then complete the version with the API key that the
venue gives for it: 'sealsign key import NAME'.`,
		Example:           "  sealsign key generate binance-rsa > binance-rsa.pem\n  sealsign key import binance-rsa",
		Args:              words(1, 1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			done := a.progress("the TPM is making the key")
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.GenerateKey, &sealsignv1.GenerateKeyRequest{Name: args[0]})
			done()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(publicJSON{args[0], answer.GetVersion(), answer.GetPublicKey(), answer.GetRegisterAt()})
			}
			a.printf("%s", answer.GetPublicKey())
			a.notef("made %s version %d, pending", args[0], answer.GetVersion())
			a.notef("next: register this public key%s, then: sealsign key import %s",
				either(answer.GetRegisterAt() != "", " at "+answer.GetRegisterAt(), " at the venue"), args[0])
			return nil
		},
	}
}
