package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/daemontest"
)

func TestMain(m *testing.M) {
	if serveBaseline() {
		return
	}
	daemontest.Main(m)
}

const oneKey = `
[keys.okx]
venue = "okx"
environment = "testnet"
probe = "off"
[roles.all]
keys = ["okx"]
allow = ["read", "trade"]
release = "bound"
[callers.me]
uid = %d
roles = ["all"]
[audit]
sync = %q
`

// an order as a bot sends it
const order = `{"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"limit","px":"50000","sz":"0.01"}`

// BenchmarkRelease is what a program waits for a signed request, with everything
// in processes of its own: the daemon as it is shipped, and the baselines.
func BenchmarkRelease(b *testing.B) {
	echo, err := startEcho(len(order))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(echo.stop)
	stream, err := startStream()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(stream.stop)
	b.Run("one/unix-echo", func(b *testing.B) { reportLatency(b, echo.ask) })
	b.Run("one/empty-stream", func(b *testing.B) { reportLatency(b, stream.ask) })
	b.Run("64/empty-stream", func(b *testing.B) { reportRate(b, stream.flood) })
	for _, sync := range []string{"interval", "group"} {
		d := daemontest.Start(b, fmt.Sprintf(oneKey, os.Getuid(), sync))
		d.Import("okx", d.Venues.Credential("okx", "hmac-sha256"))
		agent, err := client.Dial(d.Run)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = agent.Close() })
		ask := release(agent, &client.Request{
			Key: "okx", Method: "POST", URL: d.URL("okx", "/api/v5/trade/order"),
			Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(order),
		})
		b.Run("one/sync="+sync, func(b *testing.B) { reportLatency(b, ask) })
		b.Run("64/sync="+sync, func(b *testing.B) {
			reportRate(b, flood(ask))
			b.ReportMetric(residentMB(b, d.PID()), "MB")
		})
	}
	b.Run("64/fsync-each", func(b *testing.B) {
		reportRate(b, flood(fsyncEach(b)))
	})
}

func reportLatency(b *testing.B, ask func() error) {
	l, err := oneAfterTheOther(b.N, ask)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(l.p50, "p50-µs")
	b.ReportMetric(l.p99, "p99-µs")
}

func reportRate(b *testing.B, flood func(n, inFlight int) (float64, error)) {
	rate, err := flood(b.N, 64)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(rate, "req/s")
}

// fsyncEach is what a log without group commit would do for each request.
func fsyncEach(b *testing.B) func() error {
	file, err := os.CreateTemp("", "sealsign-bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = file.Close()
		_ = os.Remove(file.Name())
	})
	turn := make(chan struct{}, 1)
	line := make([]byte, 600) // a usual record has that many bytes
	return func() error {
		turn <- struct{}{}
		defer func() { <-turn }()
		_, err := file.Write(line)
		return errors.Join(err, file.Sync())
	}
}
