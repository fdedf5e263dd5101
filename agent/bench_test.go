package agent_test

import (
	"log/slog"
	"testing"

	"github.com/sealsign/sealsign/agent"
)

// BenchmarkDo is the whole way of a release, without the socket.
func BenchmarkDo(b *testing.B) {
	s := set(b, scene{config: "[audit]\nsync = \"interval\"\n", options: agent.Options{Logger: slog.New(slog.DiscardHandler)}})
	for name, ask := range map[string]*agent.Ask{
		"okx":    s.ask("okx", "POST /api/v5/trade/order", `{"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"limit","px":"50000","sz":"0.01"}`),
		"kraken": s.ask("kraken", "POST /0/private/AddOrder", "ordertype=limit&type=buy&pair=XBTUSD&volume=0.001&price=20000"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.agent.Do(b.Context(), s.me, release(ask)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
