package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/sealsign/sealsign/agent/server/servertest"
	"github.com/sealsign/sealsign/client"
	pb "github.com/sealsign/sealsign/proto/sealsign/v1"
)

// The figures that a user waits for, each beside its baseline in the same run:
//
//	go test -run '^$' -bench 'Release|Forward' ./agent/server
//
// p50 and p99 are of single requests, one after the other.

const inFlight = 64

// latency runs one request after the other and reports p50 and p99 in µs.
func latency(b *testing.B, request func() error) {
	if err := request(); err != nil {
		b.Fatal(err)
	}
	took := make([]time.Duration, 0, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		if err := request(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-µs")
}

// throughput keeps inFlight requests going and reports how many a second are answered.
func throughput(b *testing.B, request func() error) {
	if err := request(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for i := range inFlight {
		all.Go(func() {
			for range (b.N + i) / inFlight {
				if err := request(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// an order as a bot sends it
const (
	orderTarget = "/api/v5/trade/order"
	orderBody   = `{"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"limit","px":"50000","sz":"0.01"}`
)

func BenchmarkRelease(b *testing.B) {
	b.Run("baseline=unix-echo", func(b *testing.B) { latency(b, echo(b)) })
	b.Run("baseline=empty-stream", func(b *testing.B) { latency(b, emptyStream(b)) })
	for _, sync := range []string{"interval", "group"} {
		b.Run("sync="+sync, func(b *testing.B) { latency(b, release(b, sync)) })
	}
}

func BenchmarkReleaseInFlight(b *testing.B) {
	b.Run("baseline=empty-stream", emptyStreamInFlight)
	for _, sync := range []string{"interval", "group"} {
		b.Run("sync="+sync, func(b *testing.B) { throughput(b, release(b, sync)) })
	}
}

// release signs an order through the Go client.
func release(b *testing.B, sync string) func() error {
	host := servertest.Start(b, servertest.Settings{Sync: sync})
	agent, err := client.Dial(host.Dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = agent.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	request := &client.Request{
		Key: "okx", Method: "POST", URL: host.URL("okx", orderTarget),
		Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(orderBody),
	}
	return func() error {
		_, err := agent.Sign(ctx, request)
		return err
	}
}

// echo is what two processes need to say anything to each other.
func echo(b *testing.B) func() error {
	l := listen(b)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}) // not splice(2)
	}()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	message := make([]byte, len(orderTarget)+len(orderBody))
	return func() error {
		if _, err := conn.Write(message); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, message)
		return err
	}
}

func listen(b *testing.B) net.Listener {
	l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// blank answers each message of a stream with an empty one.
type blank struct{ pb.UnimplementedSignerServer }

func (blank) SignStream(stream pb.Signer_SignStreamServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.SignResponse{Id: request.GetId()}); err != nil {
			return err
		}
	}
}

func openEmptyStream(b *testing.B) pb.Signer_SignStreamClient {
	l, server := listen(b), grpc.NewServer()
	pb.RegisterSignerServer(server, blank{})
	go func() { _ = server.Serve(l) }()
	b.Cleanup(server.Stop)
	stream, err := pb.NewSignerClient(dialGRPC(b, l.Addr().String())).SignStream(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	return stream
}

func emptyStream(b *testing.B) func() error {
	stream := openEmptyStream(b)
	return func() error {
		if err := stream.Send(new(pb.SignRequest)); err != nil {
			return err
		}
		_, err := stream.Recv()
		return err
	}
}

// emptyStreamInFlight is one sender and one receiver, with nobody to wake but them.
func emptyStreamInFlight(b *testing.B) {
	stream := openEmptyStream(b)
	places := make(chan struct{}, inFlight)
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			places <- struct{}{}
			if err := stream.Send(new(pb.SignRequest)); err != nil {
				return
			}
		}
	}()
	for range b.N {
		if _, err := stream.Recv(); err != nil {
			b.Fatal(err)
		}
		<-places
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// BenchmarkForward sends a read to a local TLS server: directly, through the
// standard library's proxy on a unix socket, and through the agent. The first
// two carry a signature that the agent made before, so that the server does the
// same work each time.
func BenchmarkForward(b *testing.B) {
	for _, sync := range []string{"interval", "group"} {
		b.Run("sync="+sync, func(b *testing.B) {
			host := servertest.Start(b, servertest.Settings{Sync: sync})
			agent, err := client.Dial(host.Dir)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = agent.Close() })
			direct := host.Venues.Client().Transport.(*http.Transport).Clone()
			direct.Protocols = new(http.Protocols) // HTTP/1.1 only, as the agent does
			direct.Protocols.SetHTTP1(true)
			direct.TLSClientConfig.NextProtos = nil
			b.Run("baseline=direct", func(b *testing.B) { latency(b, fetch(b, host, agent, direct)) })
			b.Run("baseline=ReverseProxy", func(b *testing.B) { latency(b, fetch(b, host, agent, reverseProxy(b, host, direct))) })
			b.Run("agent", func(b *testing.B) { latency(b, fetch(b, host, agent, agent.Transport("acme"))) })
		})
	}
}

// fetch sends one signed read again and again; the venue takes it for 30 seconds.
func fetch(b *testing.B, host *servertest.Host, agent *client.Client, through http.RoundTripper) func() error {
	signed, err := agent.Sign(b.Context(), &client.Request{Key: "acme", Method: "GET", URL: host.URL("acme", "/account")})
	if err != nil {
		b.Fatal(err)
	}
	request, err := signed.Request(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return func() error {
		response, err := through.RoundTrip(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d: %s", response.StatusCode, body)
		}
		return err
	}
}

// reverseProxy is a proxy on a unix socket, and the way through it.
func reverseProxy(b *testing.B, host *servertest.Host, out http.RoundTripper) http.RoundTripper {
	l := listen(b)
	venue := &url.URL{Scheme: "https", Host: host.Venues.Host("acme")}
	server := &http.Server{Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(venue) }, Transport: out}}
	go func() { _ = server.Serve(l) }()
	b.Cleanup(func() { server.Close() })
	return unencrypted{&http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", l.Addr().String())
	}}}
}

// unencrypted sends https URLs in the clear.
type unencrypted struct{ *http.Transport }

func (u unencrypted) RoundTrip(request *http.Request) (*http.Response, error) {
	inner := request.Clone(request.Context())
	inner.URL.Scheme = "http"
	return u.Transport.RoundTrip(inner)
}
