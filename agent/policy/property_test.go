package policy

import (
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent/venue"
	"pgregory.net/rapid"
)

var (
	anyOperation = rapid.SampledFrom([]venue.Operation{
		venue.Read, venue.Trade, venue.Cancel, venue.Settings, venue.Transfer,
		venue.Withdraw, venue.Admin, venue.Session, venue.Public, venue.Unknown,
	})
	anySymbol = rapid.SampledFrom([]string{"", "BTCUSDT", "ETHUSDT"})
	anyLine   = rapid.Custom(func(t *rapid.T) Line {
		return Line{rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, "method"), rapid.SampledFrom([]string{"/a", "/b"}).Draw(t, "path")}
	})
	anyKey    = rapid.SampledFrom([]string{"main", "other"})
	anyEffect = rapid.Custom(func(t *rapid.T) venue.Effect {
		return venue.Effect{
			Operation: anyOperation.Draw(t, "operation"),
			Symbol:    anySymbol.Draw(t, "symbol"),
			ExactLine: rapid.Bool().Draw(t, "exact line"),
			Named:     rapid.Bool().Draw(t, "named"),
			Grants:    rapid.SliceOfN(anyOperation, 0, 2).Draw(t, "grants"),
		}
	})
	anyRole = rapid.Custom(func(t *rapid.T) *Role {
		return &Role{
			Name:    "role",
			Keys:    set(rapid.SliceOfN(anyKey, 0, 2).Draw(t, "keys")...),
			Allow:   set(rapid.SliceOfN(anyOperation, 0, 8).Draw(t, "allow")...),
			Lines:   set(rapid.SliceOfN(anyLine, 0, 4).Draw(t, "lines")...),
			Symbols: set(rapid.SliceOfN(anySymbol, 0, 2).Draw(t, "symbols")...),
			Rate:    Rate{rapid.IntRange(0, 1).Draw(t, "rate"), time.Second},
			Release: rapid.SampledFrom([]Releases{"", Never, Bound, Unbound}).Draw(t, "release"),
		}
	})
	anyInput = rapid.Custom(func(t *rapid.T) *Input {
		words := rapid.SampledFrom([]string{"", "words"})
		l := anyLine.Draw(t, "line")
		return &Input{
			Roles:   rapid.SliceOfN(anyRole, 0, 3).Draw(t, "roles"),
			Key:     anyKey.Draw(t, "key"),
			Mode:    rapid.SampledFrom([]Mode{Forward, Release, Login}).Draw(t, "mode"),
			Method:  l.Method,
			Path:    l.Path,
			Effects: rapid.SliceOfN(anyEffect, 1, 3).Draw(t, "effects"),
			Binding: venue.Binding{
				Loose: words.Draw(t, "loose"), Once: words.Draw(t, "once"), FundMoving: words.Draw(t, "fund-moving"),
				Never: rapid.Bool().Draw(t, "never"),
			},
		}
	})
)

func granting(in *Input) bool {
	_, err := Decide(in)
	return err == nil
}

func TestNoRoleGrantsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := anyInput.Draw(t, "input")
		in.Roles = nil
		if granting(in) {
			t.Fatal("granted")
		}
	})
}

func TestARoleMoreNeverDenies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := anyInput.Draw(t, "input")
		before := granting(in)
		at := rapid.IntRange(0, len(in.Roles)).Draw(t, "at")
		in.Roles = append(in.Roles[:at:at], append([]*Role{anyRole.Draw(t, "role")}, in.Roles[at:]...)...)
		if before && !granting(in) {
			t.Fatal("a further role took a grant away")
		}
	})
}

func TestAnEffectMoreIsNeverEasier(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := anyInput.Draw(t, "input")
		before := granting(in)
		at := rapid.IntRange(0, len(in.Effects)).Draw(t, "at")
		in.Effects = append(in.Effects[:at:at], append([]venue.Effect{anyEffect.Draw(t, "effect")}, in.Effects[at:]...)...)
		if !before && granting(in) {
			t.Fatal("a further effect made a refused request pass")
		}
	})
}

func TestOneRoleAloneGrants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := anyInput.Draw(t, "input")
		together := granting(in)
		alone := false
		for _, role := range in.Roles {
			one := *in
			one.Roles = []*Role{role}
			alone = alone || granting(&one)
		}
		if together != alone {
			t.Fatalf("together %v, one alone %v", together, alone)
		}
	})
}

// What leaves the agent for the caller's own use is never easier to get than
// the agent's own sending of the same request.
func TestForwardIsTheEasiest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := anyInput.Draw(t, "input")
		before := granting(in)
		in.Mode = Forward
		if before && !granting(in) {
			t.Fatal("refused to forward what it hands out")
		}
	})
}
