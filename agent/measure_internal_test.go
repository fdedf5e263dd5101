package agent

import (
	"testing"

	"github.com/sealsign/sealsign/agent/metrics"
	"github.com/sealsign/sealsign/agent/policy"
	"github.com/sealsign/sealsign/agent/venue"
	"github.com/sealsign/sealsign/internal/fault"
)

// measured is a request whose way has been taken.
func measured() *pass {
	k := &key{name: "okx"}
	c := &policy.Caller{Name: "alpha", Roles: []*policy.Role{{Keys: map[string]bool{"okx": true}}}}
	s := &setup{keys: map[string]*key{"okx": k}, callers: policy.Callers{c}}
	s.counters = newCounters(s, nil)
	p := &pass{agent: &Agent{metrics: metrics.New(nil)}, setup: s, ask: &Ask{Mode: policy.Release}, caller: c, key: k}
	p.record.Operation = string(venue.Trade)
	return p
}

// measure measures each step and the end of the request.
func measure(p *pass, outcome metrics.Outcome, reason fault.Reason) {
	for step := metrics.Identify; step <= metrics.Check; step++ {
		_ = p.took(step, nil)
	}
	p.count(outcome, reason)
}

// What a request costs for the metrics is no memory, whatever becomes of it.
func TestMeasuringTakesNoMemory(t *testing.T) {
	p := measured()
	for outcome, reason := range map[metrics.Outcome]fault.Reason{
		metrics.Allowed: "", metrics.Denied: fault.SymbolNotGranted, metrics.Failed: fault.VenueUnreachable,
	} {
		if n := testing.AllocsPerRun(100, func() { measure(p, outcome, reason) }); n != 0 {
			t.Errorf("outcome %d: %v allocations", outcome, n)
		}
	}
}

// BenchmarkMeasure is what the metrics add to a release.
func BenchmarkMeasure(b *testing.B) {
	p := measured()
	b.ReportAllocs()
	for b.Loop() {
		measure(p, metrics.Allowed, "")
	}
}
