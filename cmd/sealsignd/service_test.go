package main

import (
	"errors"
	"testing"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/keyring"
)

func TestStatusLine(t *testing.T) {
	keys := []keyring.Info{{State: "pending"}, {State: "active"}, {State: "active"}}
	for want, status := range map[string]agent.Status{
		"no keys":                     {},
		"keys: 2 active, 1 pending":   {Keys: keys},
		"TPM: gone; keys: 1 pending":  {Keys: keys[:1], TPMError: errors.New("gone")},
		"config: first line; no keys": {ConfigError: errors.New("first line\nsecond line")},
		"keys: other store; no keys":  {StoreError: errors.New("other store")},
	} {
		if got := statusLine(status); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
