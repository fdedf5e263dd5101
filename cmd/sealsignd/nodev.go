//go:build !simulator

package main

import (
	"context"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/internal/fault"
)

// dev is for development builds only: production has no simulator in it.
func dev(context.Context, string, func(*agent.Agent)) error {
	return fault.New(fault.ConfigInvalid, "--dev is not in this build").
		WithHint("make dev builds bin/sealsignd-dev, which has it")
}
