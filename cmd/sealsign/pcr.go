package main

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/internal/fault"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
	"github.com/sealsign/sealsign/tpm"
)

func (a *app) pcrCommand() *cobra.Command {
	return group("pcr", "PCRs whose values a key kept elsewhere approves", "  sealsign pcr show",
		a.pcrShowCommand(), a.pcrApproveCommand(), a.pcrInstallCommand())
}

// pcrJSON is what `pcr show --json` prints, and `pcr approve` reads.
type pcrJSON struct {
	Host      string            `json:"host"`
	HostID    string            `json:"host_id"`
	PCRs      map[uint32]string `json:"pcrs"`
	Authority bool              `json:"authority"`
	Approved  bool              `json:"approved"`
	Problem   string            `json:"problem"`
}

func (a *app) pcrShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "show the PCRs that the config names, and whether their values are approved",
		Long: `show tells what the PCRs of [tpm] pcrs hold now. With --json it is what
'sealsign pcr approve' signs: for an update that is still to come, put the values
that the PCRs will have in place of those of now.`,
		Example: "  sealsign pcr show\n  sealsign pcr show --json > request.json",
		Args:    words(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := admin(cmd.Context(), a, sealsignv1.AdminClient.ShowPCRs, &sealsignv1.ShowPCRsRequest{})
			if err != nil {
				return err
			}
			return a.printPCRs(state)
		},
	}
}

func (a *app) printPCRs(state *sealsignv1.PCRState) error {
	if a.json {
		pcrs := state.GetPcrs()
		if pcrs == nil { // it would print null
			pcrs = map[uint32]string{}
		}
		return a.printJSON(pcrJSON{
			Host: state.GetHost(), HostID: state.GetHostId(), PCRs: pcrs, Authority: state.GetAuthority(),
			Approved: state.GetAuthority() && state.GetProblem() == "", Problem: state.GetProblem(),
		})
	}
	a.printf("host %s, id %s\n", visible(state.GetHost()), visible(state.GetHostId()))
	for _, pcr := range slices.Sorted(maps.Keys(state.GetPcrs())) {
		a.printf("PCR %-2d %s\n", pcr, visible(state.GetPcrs()[pcr]))
	}
	switch {
	case !state.GetAuthority():
		a.printf("the config names no authority that approves values: pcr_authority under [tpm]\n")
	case state.GetProblem() == "":
		a.printf("these values are approved\n")
	default:
		a.printf("%s\nnext: %s\n", visible(state.GetProblem()), visible(state.GetNext()))
	}
	return nil
}

// approving is one run of pcr approve.
type approving struct {
	*app
	identity, signature string
	toSign, yes         bool
}

func (a *app) pcrApproveCommand() *cobra.Command {
	p := &approving{app: a}
	cmd := &cobra.Command{
		Use:   "approve REQUEST",
		Short: "approve values of PCRs with the authority's private key (needs no daemon)",
		Long: `approve signs what 'sealsign pcr show --json' printed, with the private key whose
public part the host's config names as pcr_authority: P-256, or RSA of 2048 bits, in
PEM. Keep it off the host. The approval is printed, and no secret. It can't be taken
back: what is to be safe from it is to be imported under another authority.

Where the key is not in a file, --to-sign prints the bytes to be signed, with SHA-256
in DER as 'openssl dgst -sha256 -sign' does, and --signature takes the signature.

On a terminal it asks first; elsewhere it wants --yes.`,
		Example: `  sealsign pcr approve --identity pcr-authority-key.pem request.json > approval.json
  sealsign pcr approve --to-sign request.json > bytes
  sealsign pcr approve --signature bytes.sig request.json > approval.json`,
		Args: words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			given := 0
			for _, is := range []bool{p.toSign, p.identity != "", p.signature != ""} {
				if is {
					given++
				}
			}
			if given != 1 {
				return usage(cmd, "%s needs one of --identity, --to-sign and --signature", cmd.CommandPath())
			}
			return p.run(cmd, args[0])
		},
	}
	cmd.Flags().StringVar(&p.identity, "identity", "", "the `FILE` of the authority's private key")
	cmd.Flags().BoolVar(&p.toSign, "to-sign", false, "print the bytes to be signed, and sign nothing")
	cmd.Flags().StringVar(&p.signature, "signature", "", "the `FILE` with a signature that was made elsewhere")
	cmd.Flags().BoolVar(&p.yes, "yes", false, "don't ask")
	return cmd
}

func (p *approving) run(cmd *cobra.Command, file string) error {
	request, err := readSmall(file)
	if err != nil {
		return err
	}
	approval, err := tpm.ParseApproval(request)
	if err != nil {
		return err
	}
	text, err := approval.ToSign()
	if err != nil {
		return err
	}
	if p.toSign {
		p.printf("%s", text)
		return nil
	}
	fmt.Fprintf(p.errs, "for the host with the id %s, approved are:\n", approval.HostID)
	for _, pcr := range slices.Sorted(maps.Keys(approval.PCRs)) {
		fmt.Fprintf(p.errs, "PCR %-2d %s\n", pcr, approval.PCRs[pcr])
	}
	if !p.yes {
		if err := p.confirm(cmd, cmd.CommandPath()+" --yes …", "Its keys are used while the PCRs have these values. Type approve", "approve"); err != nil {
			return err
		}
	}
	if p.signature != "" {
		approval.Signature, err = readSmall(p.signature)
	} else {
		approval.Signature, err = signWith(p.identity, text)
	}
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(approval, "", "  ")
	if err != nil {
		return err
	}
	p.printf("%s\n", data)
	return nil
}

// signWith signs with a private key in PEM, as openssl writes it without a passphrase.
func signWith(file string, text []byte) ([]byte, error) {
	content, err := readSmall(file)
	if err != nil {
		return nil, err
	}
	defer clear(content)
	unusable := fault.New(fault.BadRequest, "%s has no private key of P-256 or RSA-2048 in PEM, or it has a passphrase", file).
		WithHint("with a passphrase or a token: sealsign pcr approve --to-sign, and --signature")
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, unusable
	}
	defer clear(block.Bytes)
	key, err := parsePrivate(block)
	if err != nil {
		return nil, unusable.Because(err)
	}
	if _, err := tpm.NewAuthority(key.Public()); err != nil {
		return nil, unusable.Because(err)
	}
	digest := sha256.Sum256(text)
	return key.Sign(rand.Reader, digest[:], crypto.SHA256)
}

func parsePrivate(block *pem.Block) (crypto.Signer, error) {
	switch block.Type {
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T signs nothing", parsed)
	}
	return key, nil
}

func (a *app) pcrInstallCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "install APPROVAL",
		Short: "keep approved values of PCRs on this host, for when its PCRs have them",
		Long: `install takes what 'sealsign pcr approve' printed for this host. Any number of
approvals may be kept: keys are loaded while the PCRs have the values of one. Install
that of an update before it, and the keys are there after the restart.`,
		Example: "  sealsign pcr install approval.json",
		Args:    words(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			approval, err := readSmall(args[0])
			if err != nil {
				return err
			}
			state, err := admin(cmd.Context(), a, sealsignv1.AdminClient.InstallApproval, &sealsignv1.InstallApprovalRequest{Approval: approval})
			if err != nil {
				return err
			}
			return a.printPCRs(state)
		},
	}
}
