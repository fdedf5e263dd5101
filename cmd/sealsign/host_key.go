package main

import (
	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/agent/wrap"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func (a *app) hostKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "host-key",
		Short: "print what another machine needs to wrap a credential for this host",
		Long: `host-key prints one JSON document: the public key that only this host's TPM can
open things for, what TPM that is, and the TPM's own word for it, signed by the key
that signs the log's checkpoints.

Nothing in it is secret. But whoever can put another document in its place gets
what is wrapped for it: fetch it over a way that you trust, such as SSH as root, and
compare the checkpoint key that 'sealsign key wrap' names with the one of
'sealsign audit public-key' that you keep. Where the TPM has certificates of its
maker, the document has them: 'sealsign key wrap --endorsed-by' checks them.`,
		Example: "  sealsign host-key > alpha.json",
		Args:    words(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.HostKey, &sealsignv1.HostKeyRequest{})
			if err != nil {
				return err
			}
			host, _, err := wrap.ParseHost([]byte(answer.GetDocument()))
			if err != nil {
				return err
			}
			a.printf("%s\n", answer.GetDocument())
			if len(host.Endorsement) == 0 {
				a.notef("this TPM has no endorsement certificate: no maker vouches for it")
			}
			return nil
		},
	}
}
