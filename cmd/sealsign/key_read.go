package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sealsign/sealsign/internal/fault"
	sealsignv1 "github.com/sealsign/sealsign/proto/sealsign/v1"
)

func (a *app) keyListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "list the keys of the config, with their states",
		Example: "  sealsign key list\n  sealsign key list --json",
		Args:    words(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.ListKeys, &sealsignv1.AdminListKeysRequest{})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(keysToJSON(answer.GetKeys()))
			}
			if len(answer.GetKeys()) == 0 {
				a.notef("the config has no keys: add a [keys.NAME] section")
				return nil
			}
			a.printKeys(answer.GetKeys())
			return nil
		},
	}
}

func (a *app) keyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show NAME",
		Short:             "show one key and its versions",
		Example:           "  sealsign key show binance-main\n  sealsign key show binance-main --json",
		Args:              words(1, 1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := a.key(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(keyToJSON(key))
			}
			a.printKey(key)
			return nil
		},
	}
}

func (a *app) keyPublicCommand() *cobra.Command {
	var version uint32
	cmd := &cobra.Command{
		Use:               "public NAME",
		Short:             "print the public key, as the venue wants it registered (PEM)",
		Example:           "  sealsign key public binance-rsa\n  sealsign key public binance-rsa --version 2",
		Args:              words(1, 1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := admin(cmd.Context(), a, sealsignv1.AdminClient.PublicKey, &sealsignv1.PublicKeyRequest{Name: args[0], Version: version})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(publicJSON{args[0], answer.GetVersion(), answer.GetPublicKey(), ""})
			}
			a.printf("%s", answer.GetPublicKey())
			return nil
		},
	}
	versionFlag(cmd, &version, "version `N`; without it the newest")
	return cmd
}

// versionFlag adds --version. 0 stands for the flag that isn't given, so it can't be given.
func versionFlag(cmd *cobra.Command, version *uint32, says string) {
	cmd.Flags().Uint32Var(version, "version", 0, says)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if *version == 0 && cmd.Flags().Changed("version") {
			return usage(cmd, "there is no version 0: versions are counted from 1")
		}
		return nil
	}
}

// publicJSON is a public key as scripts read it.
type publicJSON struct {
	Name       string `json:"name"`
	Version    uint32 `json:"version"`
	PublicKey  string `json:"public_key"`            // PEM, SubjectPublicKeyInfo
	RegisterAt string `json:"register_at,omitempty"` // where the venue takes a generated one
}

// key asks the daemon for one key.
func (a *app) key(ctx context.Context, name string) (*sealsignv1.Key, error) {
	answer, err := admin(ctx, a, sealsignv1.AdminClient.ListKeys, &sealsignv1.AdminListKeysRequest{Name: name})
	if err != nil {
		return nil, err
	}
	if len(answer.GetKeys()) != 1 {
		return nil, fault.New(fault.KeyUnknown, "the config has no key %s", name).WithHint("sealsign key list")
	}
	return answer.GetKeys()[0], nil
}
