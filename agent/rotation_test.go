package agent_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealsign/sealsign/internal/fault"
)

// Under load no rotation loses a request, and no version signs one before its trial,
// nor ever if the venue refuses it.
func TestManyRotationsUnderLoad(t *testing.T) {
	s := rotating(t, "okx", "hmac-sha256", "auto")
	s.mustAdd()
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var done atomic.Int64
	for range 8 {
		load.Go(func() {
			for ctx.Err() == nil {
				s.must(s.ask("okx", balance))
				done.Add(1)
			}
		})
	}
	const rotations = 40
	broken := make(map[string]bool)
	for n := range rotations {
		issued := s.venues.Issue("okx", "hmac-sha256")
		broken[issued.APIKey] = n%4 == 3
		s.venues.Disable("okx", issued.APIKey, broken[issued.APIKey])
		number, err := s.agent.Import(t.Context(), s.me, "okx", issued.JSON())
		if broken[issued.APIKey] {
			if !errors.Is(err, fault.KeyTrialFailed) {
				t.Errorf("version %d: %v", number, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		s.active(number)
	}
	stop()
	load.Wait()
	tried := make(map[string]bool)
	for _, a := range s.arrived("okx") {
		switch {
		case a.Path == probes["okx"]:
			tried[a.APIKey] = true
		case !tried[a.APIKey] && !strings.HasSuffix(a.APIKey, "-2"): // the first wasn't tried
			t.Fatalf("%s signed before its trial", a.APIKey)
		case broken[a.APIKey] || a.Problem != "":
			t.Fatalf("%s signed %s: %s", a.APIKey, a.Path, a.Problem)
		}
	}
	if len(tried) < rotations || done.Load() < rotations {
		t.Errorf("%d versions were tried, during %d requests", len(tried), done.Load())
	}
}
