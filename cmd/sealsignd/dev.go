//go:build simulator

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sealsign/sealsign/agent"
)

// devConfig is what --dev runs with. The role may release Kraken requests, whose
// signature binds the whole request; Binance ones can only be forwarded.
const devConfig = `version = 1

[agent]
environment = "production"
state_dir   = "%[1]s/state"
runtime_dir = "%[1]s/run"

[tpm]
device         = "simulator"
allow_software = true

[keys.demo]
venue       = "kraken"
environment = "production"

[roles.demo]
keys    = ["demo"]
allow   = ["read", "trade", "cancel"]
symbols = ["XBTUSD"]
release = "bound"

[callers.me]
uid   = %[2]d
roles = ["demo"]
`

// devCredential is Kraken's published example, which opens no account.
const devCredential = `{"api_key":"DEMO-KEY","secret":"kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="}`

// dev runs the daemon on a simulated TPM, with a demo key, in temporary folders.
func dev(ctx context.Context, _ string, _ func(*agent.Agent)) error {
	dir, err := os.MkdirTemp("", "sealsign-dev-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sealsign.toml")
	if err := os.WriteFile(path, fmt.Appendf(nil, devConfig, dir, os.Getuid()), 0o600); err != nil {
		return err
	}
	return serve(ctx, path, func(a *agent.Agent) {
		if _, err := a.Import(ctx, nil, "demo", []byte(devCredential)); err != nil {
			fmt.Fprintln(os.Stderr, "sealsignd: the demo key:", err)
			return
		}
		fmt.Printf(`
The agent runs with a demo key of Kraken's, on a simulated TPM that forgets all when it stops. Its config
is %[2]s: edit it and see. In another terminal:

  export SEALSIGN_RUNTIME_DIR=%[1]s/run
  bin/sealsign status
  bin/sealsign key list
  bin/sealsign sign demo POST https://api.kraken.com/0/private/AddOrder --data 'ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25'
  bin/sealsign sign demo POST https://api.kraken.com/0/private/Withdraw --data 'asset=XBT&key=mine&amount=1'    # denied
  bin/sealsign audit tail %[1]s/state/audit
  bin/sealsign audit verify %[1]s/state/audit

Ctrl-C stops it and removes the folders.
`, dir, path)
	})
}
