package agent

import (
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealsign/sealsign/agent/keyring"
	"github.com/sealsign/sealsign/agent/metrics"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

// Metrics is what the agent tells Prometheus.
func (a *Agent) Metrics() *metrics.Metrics { return a.metrics }

// counters are where the requests under one config are counted: those of each caller
// with each key that its roles name, and with all others together. So a process makes
// no more series than the config has.
type counters struct {
	of    map[grant]*metrics.Requests
	named map[names]*metrics.Requests // the same
}

// grant is a caller with a key that one of its roles names. Without the key, it is the
// caller with any other; without the caller, the agent itself with a key; without
// both, a process that is no caller.
type grant struct {
	caller *policy.Caller
	key    *key
}

type names struct{ caller, key string }

// newCounters makes the counters of a config. What the config before (nil: none) has
// by the same names goes on, and the rest is forgotten with it.
func newCounters(s, before *setup) counters {
	c := counters{of: make(map[grant]*metrics.Requests), named: make(map[names]*metrics.Requests)}
	add := func(g grant, n names) {
		r := c.named[n]
		if r == nil && before != nil {
			r = before.counters.named[n]
		}
		if r == nil {
			r = metrics.NewRequests(n.caller, n.key)
		}
		c.of[g], c.named[n] = r, r
	}
	add(grant{}, names{metrics.Unknown, metrics.Unknown})
	for _, k := range s.keys {
		add(grant{nil, k}, names{itself(k.name).Name, k.name})
	}
	for _, caller := range s.callers {
		add(grant{caller, nil}, names{caller.Name, metrics.Unknown})
		for _, role := range caller.Roles {
			for name := range role.Keys {
				add(grant{caller, s.keys[name]}, names{caller.Name, name})
			}
		}
	}
	return c
}

// count counts a request. Either of caller and key may be nil.
func (c *counters) count(caller *policy.Caller, k *key, operation venue.Operation, outcome metrics.Outcome, reason fault.Reason) {
	r := c.of[grant{caller, k}]
	if r == nil {
		r = c.of[grant{caller, nil}]
	}
	r.Count(operation, outcome, reason)
}

// count counts the request, once, when it is over.
func (p *pass) count(outcome metrics.Outcome, reason fault.Reason) {
	caller := p.caller
	if p.who == p.agent.self {
		caller = nil
	}
	p.setup.counters.count(caller, p.key, venue.Operation(p.record.Operation), outcome, reason)
	p.agent.metrics.Answered(p.ask.Mode, time.Since(p.began))
}

// took notes how long a step took, whose error it gives back.
func (p *pass) took(step metrics.Step, err error) error {
	now := time.Now()
	p.agent.metrics.Took(step, now.Sub(p.since))
	p.since = now
	return err
}

// state reads for the metrics how the agent is. It waits for neither disk nor TPM,
// but for the size of the disk.
func (a *Agent) state() metrics.State {
	s := a.setup.Load()
	state := metrics.State{
		Requests: slices.Collect(maps.Values(s.counters.named)),
		Audit:    a.log.Status(), Ledger: a.ledger.Healthy(),
		ConfigLoadedAt: s.loadedAt, ConfigWarnings: len(s.config.Warnings),
	}
	if device := a.device.Load(); device != nil {
		state.TPM, state.Queue = device.Healthy(), device.Queued()
	} else if missing := a.tpmError.Load(); missing != nil {
		state.TPM = *missing
	}
	if bad := a.badConfig.Load(); bad != nil {
		state.Config = *bad
	}
	var keys []keyring.Info
	keys, state.Store = a.ring.Known()
	for _, info := range keys {
		state.Keys = append(state.Keys, metrics.Key{Info: info, Warnings: a.rightsWarnings(&info)})
	}
	var disk unix.Statfs_t
	if unix.Statfs(s.config.Agent.StateDir, &disk) == nil {
		block := uint64(disk.Frsize) //nolint:gosec // a size
		state.Disk = &metrics.Disk{Available: disk.Bavail * block, Size: disk.Blocks * block}
	}
	for host, by := range a.clocks.offsets() {
		if at := s.hosts[host]; at != nil {
			state.Clocks = append(state.Clocks, metrics.Clock{Venue: at[0].venue.Name(), Host: host, Ahead: by})
		}
	}
	return state
}

// rightsWarnings is how many things doctor warns of in a key's rights at its venue.
func (a *Agent) rightsWarnings(k *keyring.Info) (warnings int) {
	var d diagnosis
	a.examineRightsOf(&d, k)
	for _, f := range d {
		if f.Level != Fine {
			warnings++
		}
	}
	return warnings
}
