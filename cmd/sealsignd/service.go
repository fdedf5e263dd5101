package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sealsign/sealsign/agent"
	"github.com/sealsign/sealsign/agent/server"
	"github.com/sealsign/sealsign/systemd"
)

// open gives the sockets that systemd opened, else opens them. Those of systemd stay
// when the daemon stops, so that who connects during a restart waits for the next one;
// a unit that isn't enabled leaves its socket out.
func open(a *agent.Agent) (*server.Sockets, error) {
	given, err := systemd.Sockets("agent", "http", "admin")
	if err != nil {
		return nil, err
	}
	if given == nil {
		return server.Listen(a.RuntimeDir(), a.SocketGID())
	}
	return &server.Sockets{Agent: given["agent"], HTTP: given["http"], Admin: given["admin"]}, nil
}

// statusLine is what "systemctl status" shows: what is wrong with all of it, then how
// many keys are in which state.
func statusLine(s agent.Status) string {
	var parts []string
	for _, part := range []struct {
		name string
		err  error
	}{{"config", s.ConfigError}, {"TPM", s.TPMError}, {"audit log", s.Audit.Problem}, {"keys", s.StoreError}} {
		if part.err != nil {
			line, _, _ := strings.Cut(part.err.Error(), "\n")
			parts = append(parts, part.name+": "+line)
		}
	}
	counts := make(map[string]int)
	var states []string // in the order of the keys
	for _, k := range s.Keys {
		if counts[k.State]++; counts[k.State] == 1 {
			states = append(states, k.State)
		}
	}
	slices.Sort(states) // "active" comes first
	for i, state := range states {
		states[i] = fmt.Sprintf("%d %s", counts[state], state)
	}
	keys := "no keys"
	if len(states) > 0 {
		keys = "keys: " + strings.Join(states, ", ")
	}
	return strings.Join(append(parts, keys), "; ")
}
