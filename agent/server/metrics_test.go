package server_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealsign/sealsign/agent/server"
	"github.com/sealsign/sealsign/agent/server/servertest"
	"github.com/sealsign/sealsign/client"
	"github.com/sealsign/sealsign/internal/fault"
)

// scraper is an HTTP client whose every connection is to one address.
func scraper(t *testing.T, network, address string) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func get(t *testing.T, c *http.Client, method, path string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// freePort is a loopback address that nobody listens at, and that is nobody else's: all other ports of the tests are 127.0.0.1's.
func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.31.41.59:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestMetricsAreServed(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			listen := "unix:DIR/metrics.sock"
			if network == "tcp" {
				listen = freePort(t)
			}
			host := servertest.Start(t, servertest.Settings{Metrics: listen})
			address := strings.ReplaceAll(strings.TrimPrefix(listen, "unix:"), "DIR", host.Dir)
			agent, err := client.Dial(host.Dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = agent.Close() })
			if _, err := agent.Sign(t.Context(), &client.Request{Key: "acme", Method: "GET", URL: host.URL("acme", "/account")}); err != nil {
				t.Fatal(err)
			}
			c := scraper(t, network, address)
			status, text := get(t, c, "GET", "/metrics")
			for _, want := range []string{
				`sealsign_requests_total{caller="me",key="acme",operation="read",outcome="allowed",reason=""} 1`,
				"sealsign_connections 1\n", "sealsign_streams 1\n", "sealsign_tpm_up 1\n", "process_start_time_seconds ", "go_goroutines ",
			} {
				if status != 200 || !strings.Contains(text, want) {
					t.Errorf("status %d, no %s in\n%s", status, want, text)
				}
			}
			for request, want := range map[string]int{"GET /": 404, "GET /debug/pprof/": 404, "GET /metrics/x": 404, "POST /metrics": 405} {
				method, path, _ := strings.Cut(request, " ")
				if status, _ := get(t, c, method, path); status != want {
					t.Errorf("%s: status %d, want %d", request, status, want)
				}
			}
			if err := new(server.Sockets).ListenMetrics(host.Agent); !errors.Is(err, map[string]fault.Reason{"unix": fault.AgentUnavailable, "tcp": fault.ConfigInvalid}[network]) {
				t.Errorf("a second daemon there: %v", err)
			}
			_ = agent.Close()
			host.Stop(t)
			if c, err := net.Dial(network, address); err == nil {
				t.Error("it is still served")
				_ = c.Close()
			}
		})
	}
}

func TestMetricsSocketIsForTheGroup(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{Metrics: "unix:DIR/metrics.sock"})
	info, err := os.Stat(host.Socket("metrics.sock"))
	if err != nil {
		t.Fatal(err)
	}
	want := fs.FileMode(0o600) // where the host has no such group
	if host.Agent.SocketGID() >= 0 {
		want = 0o660
	}
	if info.Mode().Perm() != want {
		t.Errorf("it has the mode %o", info.Mode().Perm())
	}
}

// Who holds connections without asking anything keeps Prometheus out for a moment only, and takes no more of them.
func TestMetricsConnectionsAreFew(t *testing.T) {
	host := servertest.Start(t, servertest.Settings{Metrics: "unix:DIR/metrics.sock"})
	var held []net.Conn
	for range 16 {
		c, err := net.Dial("unix", host.Socket("metrics.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	more, err := net.Dial("unix", host.Socket("metrics.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer more.Close()
	if n, err := more.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes came", n)
	}
	if err := held[0].SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := held[0].Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the first connection was ended as soon as the one too many: %v", err)
	}
	_ = held[0].SetReadDeadline(time.Time{})
	c := scraper(t, "unix", host.Socket("metrics.sock"))
	for _, idle := range held { // each one is ended after a few seconds, and leaves its place
		_, _ = io.Copy(io.Discard, idle)
	}
	if status, _ := get(t, c, "GET", "/metrics"); status != 200 {
		t.Errorf("status %d", status)
	}
}
