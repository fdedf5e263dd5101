package policy

import (
	"fmt"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent/venue"
)

func BenchmarkDecide(b *testing.B) {
	batch := make([]venue.Effect, 20)
	for i := range batch {
		batch[i] = trade("BTCUSDT")
	}
	full := maker(symbols("BTCUSDT", "ETHUSDT"), rate(50, time.Second), releases(Bound))
	var ten []*Role
	for i := range 9 {
		ten = append(ten, maker(named(fmt.Sprint("role", i)), keys("other")))
	}
	ten = append(ten, full)

	for _, bench := range []struct {
		name    string
		roles   []*Role
		effects []venue.Effect
	}{
		{"order", []*Role{full}, batch[:1]},
		{"batch of 20", []*Role{full}, batch},
		{"the last of 10 roles", ten, batch[:1]},
		{"refused", []*Role{full}, []venue.Effect{trade("DOGEUSDT")}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			in := &Input{Roles: bench.roles, Key: "main", Mode: Release, Method: "POST", Path: "/x", Effects: bench.effects, Binding: boundOnce}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Decide(in)
			}
		})
	}
}

func BenchmarkMatch(b *testing.B) {
	var callers Callers
	for i := range uint32(100) {
		callers = append(callers, &Caller{Name: fmt.Sprint(i), UID: &i, Unit: "bot.service"})
	}
	facts := &Facts{UID: 99, Unit: "bot.service"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := callers.Match(facts); err != nil {
			b.Fatal(err)
		}
	}
}
